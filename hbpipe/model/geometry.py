"""What integration over hyperparameters needs to know of a family.

The four conjugate families are natural exponential families with quadratic variance function
(Morris 1982, 1983): a store of size ``n`` with total ``t`` has, given the prior mean ``m`` and
the prior size ``M``,

    E[θ | t] = (M m + t) / (M + n),        Var[θ | t] = V(E[θ | t]) / (M + n − v₂),

with V(θ) = v₀ + v₁ θ + v₂ θ². So one set of formulas serves all, in the *working variables*

    location ℓ   the prior mean on the line (identity, logit or logarithm),
    log spread x = log(1/M), the spread in units of one observation's sampling variance,
    log noise    log σ, where the within-store sd is a hyperparameter.

=======================  ==========  =========  ======  ==============  =================
family                   size n      total t    1/M     V(θ)            law of θ
=======================  ==========  =========  ======  ==============  =================
normal                   n           n·mean     τ²/σ²   σ²              Normal
normal_known_variance    1/variance  estimate/v τ²      1               Normal
beta_binomial            trials      successes  1/(α+β) θ(1−θ), v₂=−1   Beta
gamma_poisson            exposure    count      1/rate  θ               Gamma
=======================  ==========  =========  ======  ==============  =================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Statistics
from hbpipe.model.gaussian import location_moments
from hbpipe.model.grouped import Rows
from hbpipe.model.jets import Jet, exp, log, log1p_exp
from hbpipe.model.mixture import BETA, GAMMA, NORMAL, Law

Named: TypeAlias = dict[str, Jet]
Sizes: TypeAlias = Callable[[Statistics], tuple[Array, Array]]

#: Places of the working variables.
LOCATION, SPREAD, NOISE = 0, 1, 2
#: An optimiser's coordinate may sit on its bound; named parameters there are taken just inside.
_INSIDE = 1e-14
#: The largest log spread at which φ = A/(1 + A) is a number below 1.
_LARGEST = 33.0


def _any_store(sketch: Any) -> NDArray[np.bool_]:
    return np.asarray(sketch.n_groups > 0)


def _any_variation(sketch: Any) -> NDArray[np.bool_]:
    """Whether σ is kept from 0 and ∞: values differ within stores, or single values differ."""
    stores = np.asarray(sketch.n_groups)
    single = sketch.n_values == stores
    between = location_moments(sketch.rows)["m2"]
    return np.asarray((sketch.within > 0) | (single & (stores > 1) & (between > 0)))


@dataclass(frozen=True)
class Geometry:
    """One family in working variables.

    ``coordinates`` and ``named`` map working variables, as jets, to the family's coordinates
    and to its named hyperparameters; ``named_at`` maps coordinates to the latter.
    ``log_jacobian`` gives, for each name, its part of log |∂ named / ∂ working|: the parts of
    any one of the ``parametrisations`` add up, because each is triangular. ``integrable`` tells
    for which pools of a sketch (G,) data and a proper prior on the spread give a proper
    posterior, whatever the spread's prior.
    """

    name: str
    law: Law
    variance: tuple[float, float, float]
    has_noise: bool
    mean: Callable[[Array], Array]
    sizes: Sizes
    median_size: Callable[[Any], Array]
    coordinates: Callable[[list[Jet]], list[Jet]]
    log_spread: Callable[[Array, list[Jet]], Jet]
    named: Callable[[list[Jet]], Named]
    named_at: Callable[[list[Jet]], Named]
    log_jacobian: Mapping[str, Callable[[list[Jet]], Jet]]
    parametrisations: tuple[tuple[str, ...], ...]
    integrable: Callable[[Any], NDArray[np.bool_]] = _any_store

    @property
    def location_is_analytic(self) -> bool:
        """Whether the marginal likelihood is exactly Gaussian in the location."""
        return self.law is NORMAL

    @property
    def n_working(self) -> int:
        """The number of working variables."""
        return 3 if self.has_noise else 2


def _softplus_both(line: Jet) -> Jet:
    """Log m(1 − m) at m = expit(line)."""
    return -log1p_exp(line) - log1p_exp(-line)


def _beta_coordinates(working: list[Jet]) -> list[Jet]:
    line, spread = working
    # φ must stay below 1: beyond this, counts are all or nothing and the likelihood is flat.
    below = Jet(np.minimum(spread.value, _LARGEST), spread.gradient, spread.hessian)
    return [line, exp(-log1p_exp(-below))]


def _beta_named(working: list[Jet]) -> Named:
    line, spread = working
    mean, rest = exp(-log1p_exp(-line)), exp(-log1p_exp(line))
    size = exp(-spread)
    return {"mean": mean, "concentration": size, "alpha": mean * size, "beta": rest * size}


def _beta_named_at(coordinates: list[Jet]) -> Named:
    line, phi = coordinates
    phi = Jet(np.maximum(phi.value, _INSIDE), phi.gradient, phi.hessian)
    return _beta_named([line, log(phi) - log(1.0 - phi)])


def _gamma_named(working: list[Jet]) -> Named:
    line, spread = working
    return {"mean": exp(line), "rate": exp(-spread), "shape": exp(line - spread)}


def _gamma_named_at(coordinates: list[Jet]) -> Named:
    line, kappa = coordinates
    kappa = Jet(np.maximum(kappa.value, _INSIDE), kappa.gradient, kappa.hessian)
    return _gamma_named([line, log(kappa) + line])


def _normal_named(working: list[Jet]) -> Named:
    noise_log = working[NOISE] if len(working) > NOISE else working[SPREAD] * 0.0
    named = {
        "mu": working[LOCATION],
        "tau": exp(0.5 * working[SPREAD] + noise_log),
        "tau_squared": exp(working[SPREAD] + 2.0 * noise_log),
        "odds": exp(working[SPREAD]),
    }
    return named | ({"sigma": exp(noise_log)} if len(working) > NOISE else {})


def _normal_named_at(coordinates: list[Jet]) -> Named:
    variance = coordinates[SPREAD]
    inside = np.maximum(variance.value, np.finfo(float).tiny ** 0.125)
    root = Jet(inside, variance.gradient, variance.hessian)
    named = {
        "mu": coordinates[LOCATION],
        "tau": exp(0.5 * log(root)),
        "tau_squared": variance,
        "odds": variance,
    }
    if len(coordinates) > NOISE:
        named["sigma"] = exp(coordinates[NOISE])
        named["odds"] = variance * exp(-2.0 * coordinates[NOISE])
    return named


def _sizes(size: str, raw: Callable[[Statistics, Array], Array]) -> Sizes:
    """Read sizes and raw estimates; a store without data has size 0 and raw estimate 0."""

    def sizes(statistics: Statistics) -> tuple[Array, Array]:
        n = np.asarray(statistics[size], dtype=float)
        n = 1.0 / n if size == "variance" else n
        present = n > 0
        return n, np.where(present, raw(statistics, np.where(present, n, 1.0)), 0.0)

    return sizes


def _median(rows: Rows, size: str, count: str) -> Array:
    """Median size of the stores of each pool, (G,); 1 where a pool has none.

    The lower median, so that it is a size that occurs and never depends on other pools.
    """
    present = rows[size] > 0
    order = np.flatnonzero(present)[np.lexsort((rows[size][present], rows.pool[present]))]
    pool, counts = rows.pool[order], rows[count][order].astype(np.int64)
    total = np.bincount(pool, counts, rows.n_pools).astype(np.int64)
    before = np.concatenate([[0], np.cumsum(total)])[:-1]
    middle = 2 * (np.cumsum(counts) - before[pool]) >= total[pool]
    found, first = np.unique(pool[middle], return_index=True)
    out = np.ones(rows.n_pools)
    out[found] = rows[size][order][middle][first]
    return out


def _minus_spread(working: list[Jet]) -> Jet:
    return -working[SPREAD]


_NORMAL_JACOBIAN: dict[str, Callable[[list[Jet]], Jet]] = {
    "mu": lambda w: w[LOCATION] * 0.0,
    "tau": lambda w: 0.5 * w[SPREAD] + (w[NOISE] if len(w) > NOISE else 0.0) - np.log(2.0),
    "tau_squared": lambda w: w[SPREAD] + (2.0 * w[NOISE] if len(w) > NOISE else 0.0),
    "sigma": lambda w: w[NOISE],
}


def _log(spread: Array) -> Array:
    """Logarithm of a spread that may be zero: 1e-260 is as good as none."""
    return np.log(np.maximum(spread, 1e-260))


def _identity(values: Array) -> Array:
    return values


GEOMETRIES: dict[str, Geometry] = {
    "normal_known_variance": Geometry(
        name="normal_known_variance",
        law=NORMAL,
        variance=(1.0, 0.0, 0.0),
        has_noise=False,
        mean=_identity,
        sizes=_sizes("variance", lambda s, n: np.asarray(s["estimate"], dtype=float)),
        median_size=lambda sketch: 1.0 / _median(sketch.rows, "size", "n"),
        coordinates=lambda w: [w[LOCATION], exp(w[SPREAD])],
        log_spread=lambda held, w: w[LOCATION] * 0.0 + _log(held),
        named=_normal_named,
        named_at=_normal_named_at,
        log_jacobian=_NORMAL_JACOBIAN,
        parametrisations=(("mu", "tau"), ("mu", "tau_squared")),
    ),
    "normal": Geometry(
        name="normal",
        law=NORMAL,
        variance=(1.0, 0.0, 0.0),
        has_noise=True,
        mean=_identity,
        sizes=_sizes("n", lambda s, n: np.asarray(s["mean"], dtype=float)),
        median_size=lambda sketch: _median(sketch.rows, "size", "n"),
        coordinates=lambda w: [w[LOCATION], exp(w[SPREAD] + 2.0 * w[NOISE]), w[NOISE]],
        log_spread=lambda held, w: w[NOISE] * -2.0 + _log(held),
        named=_normal_named,
        named_at=_normal_named_at,
        log_jacobian=_NORMAL_JACOBIAN,
        parametrisations=(("mu", "tau", "sigma"), ("mu", "tau_squared", "sigma")),
        integrable=_any_variation,
    ),
    "beta_binomial": Geometry(
        name="beta_binomial",
        law=BETA,
        variance=(0.0, 1.0, -1.0),
        has_noise=False,
        mean=special.expit,
        sizes=_sizes("trials", lambda s, n: s["successes"] / n),
        median_size=lambda sketch: _median(sketch.trials.counts, "value", "count"),
        coordinates=_beta_coordinates,
        log_spread=lambda held, w: w[LOCATION] * 0.0 + (_log(held) - np.log1p(-held)),
        named=_beta_named,
        named_at=_beta_named_at,
        log_jacobian={
            "mean": lambda w: _softplus_both(w[LOCATION]),
            "concentration": _minus_spread,
            "alpha": lambda w: _softplus_both(w[LOCATION]) - w[SPREAD],
            "beta": _minus_spread,
        },
        parametrisations=(("mean", "concentration"), ("alpha", "beta")),
    ),
    "gamma_poisson": Geometry(
        name="gamma_poisson",
        law=GAMMA,
        variance=(0.0, 1.0, 0.0),
        has_noise=False,
        mean=np.exp,
        sizes=_sizes("exposure", lambda s, n: s["count"] / n),
        median_size=lambda sketch: _median(sketch.exposures, "exposure", "stores"),
        coordinates=lambda w: [w[LOCATION], exp(w[SPREAD] - w[LOCATION])],
        log_spread=lambda held, w: w[LOCATION] + _log(held),
        named=_gamma_named,
        named_at=_gamma_named_at,
        log_jacobian={
            "mean": lambda w: w[LOCATION],
            "rate": _minus_spread,
            "shape": lambda w: w[LOCATION] - w[SPREAD],
        },
        parametrisations=(("mean", "rate"), ("mean", "shape"), ("shape", "rate")),
    ),
}


def geometry_of(family: str) -> Geometry:
    """Return the geometry of a family.

    Raises
    ------
    FitError
        If the family is not of this kind; its posteriors need another method.
    """
    if family in GEOMETRIES:
        return GEOMETRIES[family]
    raise FitError(
        f"integration over hyperparameters is not defined for {family!r}",
        expected=f"one of {', '.join(GEOMETRIES)}",
        remedy="use uncertainty='plug_in'",
    )
