"""The posterior of the hyperparameters of one pool of regressions, at many points at once.

Working variables: log τ_k of the coefficients that vary, atanh of their canonical partial
correlations, log σ. Given these, the likelihood is Gaussian in μ, which is integrated over a flat
prior: with T and t the sums of A and r at some μ₀ (see ``marginal/regression.py``),

    μ | data ~ N(μ₀ + T⁻¹ t, σ² T⁻¹),     ∫ L dμ = L(μ₀) exp(t'T⁻¹t / 2σ²) |2π σ² T⁻¹|^½.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model import lkj
from hbpipe.model.family import Array
from hbpipe.model.grouped import Rows
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.marginal.factors import factors_of
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.marginal.regression import Whitened, packed, places
from hbpipe.model.parts import total
from hbpipe.model.relative import named, split
from hbpipe.model.separation import Separation, compile_separation, sampling_variances
from hbpipe.model.small import (
    cholesky,
    forward,
    log_det,
    product,
    rows_first,
    rows_last,
    transposed,
)

#: Rows of a block, and numbers of one element of its matrices.
_ROWS, _NUMBERS = 256, 2**14
#: τ_k of an estimate without spread, in sds of the median store: weights are then 1e-8.
_NEXT_TO_NONE = 1e-4
#: Logarithms beyond this are out of the range of floats when squared.
_FARTHEST = 300.0


@dataclass(frozen=True)
class RegressionTarget:
    """A :class:`hbpipe.model.sampling.HyperTarget`.

    Parameters
    ----------
    sketch, prior
        Of the one pool.
    held
        (D,) coordinates that are known, NaN where free.
    estimate
        (D,) a point estimate, at the values of ``held`` where those are known.
    """

    sketch: RegressionSketch
    prior: Separation
    held: Array
    estimate: Array

    @property
    def names(self) -> tuple[str, ...]:
        """The free working variables."""
        rows, columns = lkj.pairs(len(self._varying))
        at = self._varying
        return (
            *(f"log_tau[{k}]" for k in self._with_free_tau),
            *(
                f"atanh_partial[{at[i]},{at[j]}]"
                for i, j in zip(rows, columns, strict=True)
                if not self._is_known
            ),
            *(("log_sigma",) if np.isnan(self.held[-1]) else ()),
        )

    @property
    def spreads(self) -> tuple[int, ...]:
        """Numbers of the logarithms of τ."""
        return tuple(range(len(self._with_free_tau)))

    @cached_property
    def start(self) -> Array:
        """The point estimate; τ next to nothing, and correlations next to ±1, on a bound."""
        at = named(self.estimate, self._size)
        least = at["sigma"] * np.sqrt(sampling_variances(self.sketch)[0]) * _NEXT_TO_NONE
        log_tau = np.log(np.maximum(at["tau"], least))[list(self._with_free_tau)]
        chosen = np.ix_(self._varying, self._varying)
        partial = lkj.partial_of(at["correlation"][chosen])
        sigma = [self.estimate[-1]] if np.isnan(self.held[-1]) else []
        return np.concatenate([log_tau, [] if self._is_known else partial, sigma])

    def log_density(self, points: Array) -> Array:
        """Log of marginal likelihood × hyperprior × Jacobian, (S, V) -> (S,)."""
        log_tau, partial, log_sigma = self._split(points)
        loading = self._loading(log_tau, partial, log_sigma)
        likelihood = self._integrated(self._sums(loading), log_sigma)
        prior = self.prior.log_density(
            () if self._is_known else self._varying, log_tau, partial, log_sigma
        )
        near = np.all(np.abs(points) < _FARTHEST, axis=1)
        return np.where(near, likelihood + prior, -np.inf)

    def nodes(self, points: Array) -> dict[str, Array]:
        """Λ, σ, and mean and covariance of μ at each point, (S, ...)."""
        log_tau, partial, log_sigma = self._split(points)
        loading = self._loading(log_tau, partial, log_sigma)
        sums = self._sums(loading)
        back = self._back
        lower = cholesky(sums.precision)
        root = forward(lower, np.broadcast_to(back.T[:, :, None], (*back.T.shape, len(points))))
        step = product(transposed(root), forward(lower, sums.score[:, None]))[:, 0]
        variance = np.exp(2.0 * log_sigma) * product(transposed(root), root)
        return {
            "loading": rows_first(loading),
            "sigma": np.exp(log_sigma),
            "mu": self.estimate[: self._size] + rows_first(step),
            "mu_covariance": rows_first(variance),
        }

    @property
    def _size(self) -> int:
        return self.sketch.size

    @cached_property
    def _held_loading(self) -> Array:
        """Λ (P, P) where it is known, NaN elsewhere in its lower triangle."""
        return split(self.held, self._size)[1]

    @property
    def _is_known(self) -> bool:
        """Whether all of Λ is held."""
        return not np.isnan(self._held_loading).any()

    @cached_property
    def _varying(self) -> tuple[int, ...]:
        """Coefficients that are not held at no spread."""
        rows = self._held_loading
        return tuple(k for k in range(self._size) if np.any(rows[k, : k + 1] != 0))

    @cached_property
    def _with_free_tau(self) -> tuple[int, ...]:
        """Coefficients whose τ is a working variable: not the first, where it is held."""
        diagonal = np.diag(self._held_loading)
        if self._is_known:
            return ()
        return tuple(k for k in self._varying if np.isnan(diagonal[k]))

    def _split(self, points: Array) -> tuple[Array, Array, Array]:
        """Points (S, V) → log τ (m, S) of what varies, atanh partial (·, S), log σ (S,)."""
        columns = np.ascontiguousarray(points.T)
        free = len(self._with_free_tau)
        is_free = np.isnan(self.held[-1])
        log_sigma = columns[-1] if is_free else np.full(len(points), self.held[-1])
        partial = columns[free : len(columns) - int(is_free)]
        if self._is_known or free == len(self._varying):
            return columns[:free], partial, log_sigma
        first = self._varying[0]
        known = np.full(len(points), np.log(self._held_loading[first, first])) + log_sigma
        return np.concatenate([known[None], columns[:free]]), partial, log_sigma

    def _loading(self, log_tau: Array, partial: Array, log_sigma: Array) -> Array:
        """Λ (P, P, S)."""
        size, points = self._size, len(log_sigma)
        if self._is_known:
            return np.repeat(self._held_loading[:, :, None], points, axis=2)
        loading = np.zeros((size, size, points))
        chosen = np.ix_(self._varying, self._varying)
        relative = np.exp(log_tau - log_sigma)
        loading[chosen] = relative[:, None] * lkj.factor_of(partial, len(self._varying))
        return loading

    @cached_property
    def _directions(self) -> Array:
        """(P, F): an orthonormal basis, in that of the sketch, of what of μ is free."""
        free = np.isnan(self.held[: self._size])
        if free.all():
            return np.eye(self._size)
        return np.asarray(np.linalg.qr(self.sketch.basis[0][0][:, free])[0])

    @property
    def _back(self) -> Array:
        """(P, F): steps along the directions as steps of μ."""
        return np.asarray(self.sketch.basis[1][0] @ self._directions)

    def _sums(self, loading: Array) -> _PointSums:
        """Sum over the stores at every Λ (P, P, S), with μ at the estimate."""
        basis, turn = (matrix[0] for matrix in self.sketch.basis)
        centre = basis @ self.estimate[: self._size]
        moved = product(basis[:, :, None], loading)
        parts = self.sketch.rows.each(_summed, turn, centre, moved)
        sums = total(parts)
        size = self._size
        count = size * (size + 1) // 2
        along = self._directions[:, :, None]
        precision = sums[2 + size : 2 + size + count][places(size)]
        return _PointSums(
            log_det=sums[0],
            distance=sums[1],
            score=product(transposed(along), sums[2 : 2 + size, None])[:, 0],
            precision=product(transposed(along), product(precision, along)),
        )

    def _integrated(self, sums: _PointSums, log_sigma: Array) -> Array:
        """Log likelihood with μ integrated out, (S,)."""
        free = len(sums.score)
        distance, log_determinants = sums.distance, sums.log_det
        if free:
            lower = cholesky(sums.precision)
            pulled = forward(lower, sums.score[:, None])[:, 0]
            distance = distance - np.sum(np.square(pulled), axis=0)
            log_determinants = log_determinants + log_det(lower)
        n, within = float(self.sketch.n_values[0]), float(self.sketch.within[0])
        scaled = (within + distance) * np.exp(-2.0 * log_sigma)
        constants = (n - free) * (LOG_2PI + 2.0 * log_sigma)
        return np.asarray(-0.5 * (constants + log_determinants + scaled))


@dataclass(frozen=True)
class _PointSums:
    """Σ log|M| and Σ u'M⁻¹u (S,), Σ r (F, S) and Σ A (F, F, S) along the free directions of μ."""

    log_det: Array
    distance: Array
    score: Array
    precision: Array


def _summed(rows: Rows, turn: Array, centre: Array, loading: Array) -> Array:
    """Sum over some rows at every point, (N, S), in the order of :class:`_PointSums`."""
    size, points = len(centre), loading.shape[2]
    found = np.zeros((2 + size + size * (size + 1) // 2, points))
    for begin in range(0, len(rows), _ROWS):
        block = slice(begin, begin + _ROWS)
        factor = product(rows_last(rows["factor"][block]), turn[:, :, None])
        expected = product(factor, centre[:, None, None])
        deviation = rows_last(rows["means"][block])[:, None] - expected
        cross = rows_last(rows["cross"][block])
        count = rows["n"][block].astype(np.float64)
        length = max(1, _NUMBERS // len(count))
        for first in range(0, points, length):
            some = slice(first, first + length)
            terms = _terms(factor, deviation, cross, count, loading[:, :, some, None])
            found[:, some] += np.stack([np.sum(values, axis=-1) for values in terms])
    return found


def _terms(
    factor: Array, deviation: Array, cross: Array, count: Array, loading: Array
) -> list[Array]:
    """Return what each row adds at each point, (S, B) each."""
    whitened = Whitened.of(factor[:, :, None], loading)
    residual = forward(whitened.lower, deviation[:, :, None])
    distance = count * np.sum(np.square(residual[:, 0]), axis=0)
    if np.any(cross):
        about = forward(whitened.lower, cross[:, :, None])
        about = forward(whitened.lower, transposed(about))
        distance = distance + np.einsum("kk...->...", about)
    score = product(transposed(whitened.half), residual)[:, 0]
    elements = packed(whitened.precision)
    return [
        count * log_det(whitened.lower),
        distance,
        *(count * value for value in score),
        *(count * value for value in elements),
    ]


def regression_target(
    sketch: RegressionSketch, hyperprior: Any, held: Array, estimate: Array
) -> RegressionTarget:
    """Return the target of the only pool of a sketch.

    Raises
    ------
    FitError
        For a hyperprior that does not fit the family, or leaves the posterior improper.
    """
    known = frozenset(() if np.isnan(held[-1]) else ("sigma",))
    prior = compile_separation(hyperprior, sketch, known)
    return RegressionTarget(sketch, prior, held, estimate)


def integrable(sketch: RegressionSketch) -> NDArray[np.bool_]:
    """Whether μ is determined, and σ is kept from 0 and ∞, (G,).

    That is where rows differ from their store's own plane, or, where every store has its own,
    more rows than coefficients differ from the one plane of all.
    """
    together = factors_of(sketch.together)
    determined = ~np.any(together.collinear, axis=0) & (sketch.n_values > sketch.size)
    spare = sketch.freedom > 0
    return np.asarray(determined & np.where(spare, sketch.within > 0, together.residual > 0))
