"""Hyperpriors of a covariance by separation: Σ = diag(τ) R diag(τ), and σ beside it.

Barnard, McCulloch and Meng (2000, *Statistica Sinica* 10): each τ_k has a density of its own, the
correlation matrix R has LKJ(η), σ has a density, and μ is flat. The default of τ_k is that of the
other families, wide uniform shrinkage: c/(c + τ_k²/σ²) is uniform on (0, 1), with c ten times the
sampling variance of coefficient k, in units of σ², from the median store.

A τ or R that is stated is that of the user's own coefficients. The default is about those at the
mean predictors (``frame.py``), because LKJ is not indifferent to the origin of a predictor: with
the year in place of year − 2020 intercept and slope are correlated by −1 in any pool, R is next
to singular, and LKJ(2) takes that for a reason to believe that slopes do not vary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.densities import DENSITIES, Term, read_arguments, read_call
from hbpipe.model.family import Array, Codes, Derivatives
from hbpipe.model.geometry import lower_median
from hbpipe.model.hyperpriors import read_parts
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.marginal.factors import factors_of, inverse_of
from hbpipe.model.names import suggestion
from hbpipe.model.numerics import jets
from hbpipe.model.numerics.grouped import Rows
from hbpipe.model.numerics.jets import Jet
from hbpipe.model.numerics.small import product, rows_first, rows_last
from hbpipe.model.regression import lkj
from hbpipe.model.regression.frame import frame_of
from hbpipe.model.regression.relative import triangle

#: η of the default law of R.
DEFAULT_ETA = 2.0
#: Squares on their bound are taken as this, so that logarithms and their derivatives are numbers.
_SMALLEST = float(np.finfo(np.float64).tiny) ** 0.125
_NAMES = ("mu", "tau", "correlation", "sigma")


@dataclass(frozen=True)
class Separation:
    """A compiled hyperprior of ``G`` pools.

    ``tau`` has the factors of each coefficient's sd, ``sigma`` those of σ, none where it is known;
    arguments may be (G,). A factor may also be of ``odds``, τ_k²/σ². ``frame`` is C (G, P, P)
    where τ and R are those of C b, None where they are those of b.
    """

    tau: tuple[tuple[Term, ...], ...]
    sigma: tuple[Term, ...]
    eta: float
    frame: Array | None = None

    def __call__(self, coordinates: Array) -> Derivatives:
        """Log density of (τ, R, σ), without any Jacobian, in the optimiser's coordinates (G, D)."""
        size = len(self.tau)
        point = jets.variables(coordinates)
        elements = {
            (i, k): point[size + number]
            for number, (i, k) in enumerate(zip(*triangle(size), strict=True))
        }
        noise = point[-1]
        total = noise * 0.0
        for k, terms in enumerate(self.tau):
            row = [element * element for element in self._row(elements, k)]
            square = _inside(sum(row[1:], row[0]))
            total = total + _density(terms, _named(jets.log(square), noise))
            if self.eta != 1.0:
                # |C| = 1: the determinant of C Λ is that of Λ.
                ratio = jets.log(_inside(elements[k, k] * elements[k, k])) - jets.log(square)
                total = total + (self.eta - 1.0) * ratio
        total = total + _density(self.sigma, {"sigma": jets.exp(noise)})
        return total.value, total.gradient, total.hessian

    def _row(self, elements: Mapping[tuple[int, int], Jet], k: int) -> list[Jet]:
        """Row k of Λ, or of C Λ."""
        if self.frame is None:
            return [elements[k, j] for j in range(k + 1)]
        share = self.frame[:, k]
        return [
            sum(
                (elements[i, j] * share[:, i] for i in range(j + 1, len(self.tau))),
                elements[j, j] * share[:, j],
            )
            for j in range(len(self.tau))
        ]

    def log_density(
        self,
        coefficients: Sequence[int],
        log_tau: Array,
        partial: Array,
        log_sigma: Array,
    ) -> Array:
        """Log density of log τ (m, S), atanh of partial correlations, and log σ (S,), (S,).

        Of the ``coefficients`` that vary, m; the others have no sd. Jacobians are included.
        """
        noise = _constant(log_sigma)
        total = _density(self.sigma, {"sigma": jets.exp(noise)})
        for k, value in zip(coefficients, log_tau, strict=True):
            named = _named(_constant(2.0 * (value - log_sigma)), noise)
            total = total + _density(self.tau[k], named) + value
        jacobian = log_sigma if self.sigma else 0.0
        correlations = lkj.log_density(partial, len(coefficients), self.eta)
        return np.asarray(total.value + jacobian + correlations)

    def select(self, pools: Codes) -> Separation:
        """Return the hyperprior of some pools."""
        return Separation(
            tuple(_select(terms, pools) for terms in self.tau),
            _select(self.sigma, pools),
            self.eta,
            None if self.frame is None else self.frame[pools],
        )


def _select(terms: tuple[Term, ...], pools: Codes) -> tuple[Term, ...]:
    def cut(argument: Any) -> Any:
        return argument[pools] if isinstance(argument, np.ndarray) else argument

    return tuple(replace(term, arguments=tuple(map(cut, term.arguments))) for term in terms)


def _inside(square: Jet) -> Jet:
    return Jet(np.maximum(square.value, _SMALLEST), square.gradient, square.hessian)


def _constant(value: Array) -> Jet:
    """Values without derivatives."""
    return Jet(value, np.empty((*value.shape, 0)), np.empty((*value.shape, 0, 0)))


def _named(log_odds: Jet, noise: Jet) -> dict[str, Jet]:
    """Name what a density of one τ may be about, from log τ²/σ² and log σ."""
    log_square = log_odds + 2.0 * noise
    return {
        "tau": jets.exp(0.5 * log_square),
        "tau_squared": jets.exp(log_square),
        "odds": jets.exp(log_odds),
        "sigma": jets.exp(noise),
    }


def _density(terms: tuple[Term, ...], named: dict[str, Jet]) -> Jet:
    total = next(iter(named.values())) * 0.0
    for term in terms:
        total = total + term.log_density(named)
    return total


def compile_separation(
    spec: Any, sketch: RegressionSketch, held: Array | None = None
) -> Separation:
    """Turn a specification into log densities for the pools of a sketch.

    Parameters
    ----------
    spec
        ``None`` for the default, ``"uniform_shrinkage(c)"`` for the default with another width, or
        a mapping with some of ``tau`` (one density for all coefficients, or a list with one for
        each, None for the default), ``correlation`` (``"lkj(eta)"``), ``sigma`` and ``mu``
        (``"uniform"``, which it is anyway).
    sketch
        It gives the sampling variance of the median store, and the means of predictors.
    held
        (D,) coordinates that are known, NaN where free: a known σ has no factor.

    Raises
    ------
    FitError
        If a name or density is unknown, an argument out of range, or there are too many or too
        few densities.
    """
    if isinstance(spec, Separation):
        return spec
    given, width = read_parts(
        spec, _NAMES, "a regression", {"tau": "half_normal(1)", "correlation": "lkj(2)"}
    )
    frame = None if {"tau", "correlation"} & set(given) else frame_of(sketch, held)
    scales = width * sampling_variances(sketch, frame)
    tau = tuple(
        _default(scales[:, k]) if text is None else (_term("tau", text),)
        for k, text in enumerate(_one_each(given.get("tau"), sketch.size))
    )
    known = held is not None and not np.isnan(held[-1])
    sigma = () if known else (_term("sigma", given.get("sigma", "reciprocal")),)
    if given.get("mu", "uniform") != "uniform":
        raise FitError(
            f"the hyperprior of mu is {given['mu']!r}",
            expected="uniform: mu is integrated analytically over a flat prior",
            remedy="leave it out, or hold mu with `fixed`",
        )
    eta = _eta(given.get("correlation", f"lkj({DEFAULT_ETA})"))
    return Separation(tau, sigma, eta, frame)


def _one_each(text: Any, size: int) -> list[Any]:
    if text is None or isinstance(text, str):
        return [text] * size
    if not isinstance(text, Sequence) or len(text) != size:
        raise FitError(
            f"the hyperprior of tau is {text!r}",
            expected=f"one density, or a list of {size}, one for each coefficient",
            remedy="give None for those that keep the default",
        )
    return list(text)


def _term(parameter: str, text: Any) -> Term:
    call = read_call(text) if isinstance(text, str) else None
    if not call or call[0] not in DENSITIES:
        raise FitError(
            f"there is no hyperprior {text!r}",
            where={"hyperparameter": parameter},
            expected=f"one of {', '.join(DENSITIES)}",
            remedy=suggestion(call[0] if call else str(text), DENSITIES),
        )
    return Term(parameter, call[0], read_arguments(call[0], call[1]))


def _eta(text: Any) -> float:
    call = read_call(text) if isinstance(text, str) else None
    try:
        eta = float(call[1]) if call and call[0] == "lkj" else np.nan
    except ValueError:
        eta = np.nan
    if not 0 < eta < np.inf:
        raise FitError(
            f"the hyperprior of the correlation is {text!r}",
            expected="lkj(eta) with a positive eta; lkj(1) is uniform over correlation matrices",
            remedy='write for example {"correlation": "lkj(2)"}',
        )
    return eta


def _default(scale: Array) -> tuple[Term, ...]:
    """p(A) = c/(c + A)² of A = τ²/σ²; the factor dA/dτ ∝ τ/σ² makes it a density of τ."""
    jacobian = (Term("tau", "power", (1.0,)), Term("sigma", "power", (-2.0,)))
    return (Term("odds", "uniform_shrinkage", (scale,)), *jacobian)


def sampling_variances(sketch: RegressionSketch, frame: Array | None = None) -> Array:
    """Variances of the coefficients of the median store from its own rows, over σ², (G, P).

    The lower median of [(X'X)⁻¹]_kk over the stores whose predictors have full rank. Where there
    are none, each store counts as an equal share of all rows of the pool. With a ``frame`` C
    (G, P, P) the coefficients are C b.
    """
    turn = np.tile(np.eye(sketch.size), (sketch.n_pools, 1, 1)) if frame is None else frame
    parts = sketch.rows.each(_own_variances, turn)
    pool, count, variance = (np.concatenate(column) for column in zip(*parts, strict=True))
    inverse = product(rows_last(turn), inverse_of(factors_of(sketch.together).regular))
    share = rows_first(np.sum(np.square(inverse), axis=1) * np.maximum(sketch.n_groups, 1))
    known = np.bincount(pool, minlength=sketch.n_pools) > 0
    medians = [
        lower_median(Rows(sketch.n_pools, pool, {"v": column, "n": count}), "v", "n")
        for column in variance.T
    ]
    return np.where(known[:, None], np.stack(medians, axis=1), share)


def _own_variances(rows: Rows, turn: Array) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
    """Pool, number of stores and [C (X'X)⁻¹ C']_kk (R, P) of rows of full rank."""
    factor = rows_last(rows["factor"])
    full = np.flatnonzero(np.all([row[k] > 0 for k, row in enumerate(factor)], axis=0))
    inverse = product(rows_last(turn)[:, :, rows.pool[full]], inverse_of(factor[:, :, full]))
    variance = rows_first(np.sum(np.square(inverse), axis=1))
    return rows.pool[full], rows["n"][full], variance
