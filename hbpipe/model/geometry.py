"""What integration over hyperparameters needs to know of a family.

The families here are natural exponential families with quadratic variance function
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

Each family writes its :class:`Geometry` in its own file; here is what they share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.densities import Term
from hbpipe.model.distributions.laws import NORMAL, Law
from hbpipe.model.family import Array, Codes, Derivatives, Family, Statistics
from hbpipe.model.numerics.grouped import Rows
from hbpipe.model.numerics.jets import Jet, variables

#: Name of a hyperparameter -> its jet.
Named: TypeAlias = dict[str, Jet]
#: Working variables, or coordinates, as jets.
Point: TypeAlias = list[Jet]
#: Names of the parameters that a joint hyperprior is a density of, and its factors.
Joint: TypeAlias = tuple[tuple[str, ...], tuple[Term, ...]]

#: Places of the working variables.
LOCATION, SPREAD, NOISE = 0, 1, 2
#: An optimiser's coordinate may sit on its bound; named parameters there are taken just inside.
_INSIDE = 1e-14


def any_store(sketch: Any) -> NDArray[np.bool_]:
    """Whether a pool has a store with data, (G,)."""
    return np.asarray(sketch.n_groups > 0)


class GivenSpread(Protocol):
    """The likelihoods of ``G`` pools at given spreads, as functions of the other variables."""

    @property
    def n_rows(self) -> int:
        """Rows that sums are taken over."""

    def select(self, pools: Codes) -> Self:
        """Return the likelihoods of some pools, any of them several times."""

    def value(self, point: Array) -> Array:
        """Evaluate the log likelihood at working points (G, V), (G,); their spread is ignored."""

    def derivatives(self, point: Array) -> Derivatives:
        """Evaluate it with gradient (G, V) and Hessian (G, V, V), zero along the spread."""


@dataclass(frozen=True)
class Geometry:
    """One family in working variables.

    Parameters
    ----------
    law, variance
        The law of θ, and the coefficients (v₀, v₁, v₂) of its variance function; v₀ is in units
        of the noise variance.
    has_noise
        Whether the within-store sd is a hyperparameter.
    mean
        Location → prior mean.
    sizes
        Statistics → size n and raw estimate t/n of each store, (J,) each; 0 and 0 without data.
    median_size
        Sketch → median size of the stores of each pool, (G,); see :func:`lower_median`.
    coordinates, named
        Working variables → the family's coordinates, and its named hyperparameters.
    named_at
        Coordinates → named hyperparameters, just inside where a coordinate is on its bound.
    log_spread
        (held spread coordinate (G,), working variables) → log spread.
    given_spread
        (sketch, log spreads (G,)) → the likelihoods there, as functions of the other variables.
    log_jacobian
        Name → its part of log |∂ named / ∂ working|: the parts of any one of the
        ``parametrisations`` add up, because each is triangular.
    parametrisations
        Sets of names that determine everything, the location's parameter first.
    defaults
        Name → factors of the default hyperprior, flat where there are none; every name of the
        first parametrisation has an entry. They take c (G,), the scale of uniform shrinkage on
        that of A: the width of :mod:`hbpipe.model.hyperpriors` over the median size.
    joint
        Hyperpriors of several parameters that have a name.
    integrable
        Sketch → for which pools (G,) data and a proper prior on the spread give a proper
        posterior, whatever the spread's prior.
    """

    law: Law
    variance: tuple[float, float, float]
    has_noise: bool
    mean: Callable[[Array], Array]
    sizes: Callable[[Statistics], tuple[Array, Array]]
    median_size: Callable[[Any], Array]
    coordinates: Callable[[Point], Point]
    log_spread: Callable[[Array, Point], Jet]
    given_spread: Callable[[Any, Array], GivenSpread]
    named: Callable[[Point], Named]
    named_at: Callable[[Point], Named]
    log_jacobian: Mapping[str, Callable[[Point], Jet]]
    parametrisations: tuple[tuple[str, ...], ...]
    defaults: Mapping[str, Callable[[Array], tuple[Term, ...]]]
    joint: Mapping[str, Joint] = field(default_factory=dict)
    integrable: Callable[[Any], NDArray[np.bool_]] = any_store

    @property
    def location_is_analytic(self) -> bool:
        """Whether the marginal likelihood is exactly Gaussian in the location."""
        return self.law is NORMAL

    @property
    def location_has_any_sign(self) -> bool:
        """Whether a hyperprior of the location must be a density on the whole line."""
        return self.location_is_analytic

    @property
    def n_working(self) -> int:
        """The number of working variables."""
        return 3 if self.has_noise else 2

    @property
    def spread_follows(self) -> float:
        """How log A moves with the location while the spread's coordinate stays: c in README."""
        at = variables(np.zeros((1, self.n_working)))
        return float(self.log_spread(np.full(1, 0.5), at).gradient[0, LOCATION])

    def slope(self, location: Array) -> Array:
        """Slope of the prior mean along its line: the variance function, 1 where it is analytic."""
        if self.location_is_analytic:
            return np.ones_like(location)
        _, v1, v2 = self.variance
        return v1 * location + v2 * location**2

    @property
    def names(self) -> tuple[str, ...]:
        """Every named parameter that a hyperprior may be about, in alphabetical order."""
        return tuple(sorted({name for names in self.parametrisations for name in names}))


def geometry_of(family: str | Family) -> Geometry:
    """Return the geometry of a family, or of the family of this name.

    Raises
    ------
    FitError
        If the family has none, and so no posteriors but its own at given hyperparameters.
    """
    from hbpipe.model.families import FAMILIES, get_family  # families import this module

    model = get_family(family) if isinstance(family, str) else family
    if model.geometry is not None:
        return model.geometry
    others = (name for name, other in FAMILIES.items() if other.geometry is not None)
    raise FitError(
        f"integration over hyperparameters is not defined for {model.name!r}",
        expected=f"one of {', '.join(others)}",
        remedy="use the family's update and describe at the hyperparameters of the fit",
    )


def inside(coordinate: Jet) -> Jet:
    """Move a spread coordinate off its lower bound, where named parameters are infinite."""
    moved = np.maximum(coordinate.value, _INSIDE)
    return Jet(moved, coordinate.gradient, coordinate.hessian)


def log_of_spread(spread: Array) -> Array:
    """Logarithm of a spread that may be zero: 1e-260 is as good as none."""
    return np.log(np.maximum(spread, 1e-260))


def minus_log_spread(working: Point) -> Jet:
    """Log |∂M/∂x| of the prior size M = exp(−x)."""
    return -working[SPREAD]


def lower_median(rows: Rows, size: str, count: str) -> Array:
    """Median size of the stores of each pool, (G,); 1 where a pool has none.

    The lower median of ``size``, each row standing for ``count`` stores, so that it is a size that
    occurs and never depends on other pools.
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
