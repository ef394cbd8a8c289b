"""The Family contract: what a conjugate hierarchical model must offer, as a value.

A family is a frozen record of pure functions. **Prior and posterior are the same type**: that
is what conjugate means, so it is in the signatures. Adding a family is one new file in
``families/``; it is found by discovery and the contract suite tests it without being asked.

Shapes: ``J`` stores, ``G`` pools (a pool is the set of stores that share one prior, usually a
chain), ``D`` coordinates of the optimiser, ``E`` events, ``Q`` quantile levels.

Everything is batched over pools. ``log_marginal`` takes the coordinates of all pools at once and
gives all their likelihoods, because a night fits thousands of small chains and a Python loop
over them would cost more than the arithmetic. A single fit is a batch with ``G = 1``. The sums of
one pool never depend on which other pools are in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from hbpipe.model.geometry import Geometry
    from hbpipe.model.sampling import Sampling

Array: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.integer[Any]]
#: name -> (J, ...) for statistics, name -> (J,) or scalar for hyperparameters and priors.
Statistics: TypeAlias = Mapping[str, NDArray[Any]]
Hyperparameters: TypeAlias = Mapping[str, Any]
#: Parameters of a prior, or of a posterior: the same names, the same meaning.
Prior: TypeAlias = dict[str, Array]
#: Value (G,), gradient (G, D) and Hessian (G, D, D) of one function of the coordinates.
Derivatives: TypeAlias = tuple[Array, Array, Array]


class Sketch(Protocol):
    """Sufficient for the likelihood of ``G`` pools; its content is its family's business.

    A sketch is additive over disjoint stores (``Family.merge_sketches``) and a sketch of some
    of its pools is cut out with ``select``, so that pools whose fit is done stop costing time.
    """

    @property
    def n_rows(self) -> int:
        """Rows of its tables: what one evaluation of the likelihood costs."""

    @property
    def n_pools(self) -> int:
        """The number of pools, ``G``."""

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with data in each pool, (G,)."""

    def select(self, pools: Codes) -> Sketch:
        """Return the sketch of the pools with these numbers, renumbered from 0.

        A number may occur more than once: a posterior is looked at from many points, and one
        call for all of them costs little more than one call for one.
        """


@dataclass(frozen=True)
class Statistic:
    """One sufficient statistic of a store.

    ``merge`` is the rule for two parts of one store: ``sum``; ``moments`` (n, means and centred
    squares or cross-products by Chan, Golub and LeVeque 1983); ``precision`` (estimates weighted
    by inverse variance). ``shape`` has the lengths of the axes after that of the stores.
    ``lowest``, ``exclusive`` and ``at_most`` are as in :class:`Role`. ``absent`` is the value
    that says "this store has no data" and may be the only infinite one. ``needs`` names another
    statistic without which this one must be zero (no count without exposure).
    """

    name: str
    dtype: Literal["int64", "float64"]
    merge: Literal["sum", "moments", "precision"]
    shape: tuple[int, ...] = ()
    lowest: float | None = None
    exclusive: bool = False
    at_most: str | None = None
    absent: float = 0.0
    needs: str | None = None


@dataclass(frozen=True)
class Role:
    """One quantity that a metric of this family takes from the events, named as in the config.

    ``whole``: values must be whole numbers. ``lowest``: values below are impossible;
    ``exclusive``: values equal to it are too.
    ``at_most`` names another role that bounds this one within an event (successes ≤ trials).
    ``several``: the role is filled by a list of quantities, and its events are (E, P).
    """

    name: str
    whole: bool = False
    lowest: float | None = None
    exclusive: bool = False
    at_most: str | None = None
    several: bool = False


@dataclass(frozen=True)
class Coordinate:
    """One axis of the optimiser, bounded so that "no spread" is an ordinary point.

    ``hyperparameter`` is the named one that this axis alone determines; holding it holds the
    axis, and a fit on the axis' bound reports it by that name. ``spread`` marks the coordinate
    whose lower bound means that all stores are alike.
    """

    name: str
    lower: float
    upper: float
    hyperparameter: str
    spread: bool = False


@dataclass(frozen=True)
class Degeneracy:
    """A shape of the data that leaves some coordinates without an interior estimate.

    Parameters
    ----------
    status
        The word that a fit of such a pool reports.
    pools
        Which pools are concerned, (G,) bool.
    limit
        (G, D): the coordinates at which the likelihood attains or approaches its supremum, NaN
        where the data determine the coordinate as usual.
    identified
        Whether that limit is the only one. If not, the data say nothing about these coordinates
        and the limit is merely a representative that must not pass for an estimate.
    found, remedy
        What the reader is told.
    unless
        Hyperparameters; holding any one of them makes the rest estimable, and nothing is wrong.
    """

    status: str
    pools: NDArray[np.bool_]
    limit: Array
    identified: bool
    found: str
    remedy: str
    unless: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """Summary of posteriors of any shape (J, ...).

    ``mean`` and ``sd`` have the posteriors' shape, ``quantiles`` one more axis (..., Q), and
    ``cdf`` takes points that broadcast against that shape.
    """

    mean: Array
    sd: Array
    quantiles: Array
    cdf: Callable[[Any], Array]


@dataclass(frozen=True)
class Pearson:
    """How far stores lie from the location, by pool, (G,) each.

    With w the precision of a store's raw value given θ, in units of its variance function:
    ``square`` is Pearson's X² = Σ w (raw − location)²; a spread s raises its expectation to
    Σ (1 + c s)(1 − leverage). ``growth`` is Σ c, ``leverage`` Σ c times the information of the
    store about the location (McCullagh and Nelder 1989, section 4.5; Williams 1982).
    """

    square: Array
    growth: Array
    leverage: Array


@dataclass(frozen=True)
class Regression:
    """What covariates on the prior mean need to know of a family.

    Parameters
    ----------
    link
        Name of the line on which coordinate 0, the location, is linear in the covariates.
    pearson
        (sketch, coordinates (G, D)) -> Pearson; the families of counts take the spread as 0.
    log_probability
        (sketch, coordinates (G, D)) -> the value of ``log_marginal`` alone, (G,); None where the
        location is integrated analytically, and values alone are not needed.
    """

    link: str
    pearson: Callable[[Any, Array], Pearson]
    log_probability: Callable[[Any, Array], Array] | None = None


@dataclass(frozen=True)
class Family:
    """A conjugate family; see ``README.md`` beside this file for each slot in full."""

    name: str
    #: Bumped by hand when ``summarise`` or ``fold`` would give other numbers.
    kernel_version: int
    roles: tuple[Role, ...]
    statistics: tuple[Statistic, ...]
    #: Names that ``from_coordinates`` gives and ``fixed`` may hold.
    hyperparameters: tuple[str, ...]
    coordinates: tuple[Coordinate, ...]

    #: (events: role -> (E,) arrays, codes (E,), n_stores) -> statistics of ``n_stores`` stores.
    summarise: Callable[[Mapping[str, NDArray[Any]], Codes, int], dict[str, NDArray[Any]]]
    #: (statistics (R, ...), codes (R,), n_stores) -> rows with equal code merged, in row order.
    fold: Callable[[Statistics, Codes, int], dict[str, NDArray[Any]]]
    #: (statistics, pools (J,), n_pools) -> lossless sketch, additive over disjoint stores.
    compress: Callable[[Statistics, Codes, int], Any]
    #: Sketches of disjoint stores -> the sketch of all of them.
    merge_sketches: Callable[[Sequence[Any]], Any]
    #: name -> (sketch, held (G, D), NaN where free) -> coordinates (G, D) by the method of
    #: moments, the spread not truncated at its bound; the first is the default.
    moments: Mapping[str, Callable[[Any, Array], Array]]
    #: sketch -> the size of a sensible step along each coordinate, (G, D), in its units.
    scale: Callable[[Any], Array]
    #: sketch -> the shapes of data it finds in it, those that matter most first.
    degeneracies: Callable[[Any], tuple[Degeneracy, ...]]
    #: (sketch, coordinates (G, D)) -> value (G,), gradient (G, D), Hessian (G, D, D); all
    #: constants included.
    log_marginal: Callable[[Any, Array], Derivatives]
    #: coordinates (..., D) -> hyperparameters by name.
    from_coordinates: Callable[[Array], dict[str, Array]]
    #: hyperparameters -> coordinates (..., D); NaN for what the given names leave open.
    to_coordinates: Callable[[Hyperparameters], Array]
    #: (statistics, hyperparameters) -> posterior, the same type as the prior.
    update: Callable[[Statistics, Hyperparameters], Prior]
    #: hyperparameters -> the prior: the posterior of a store without data.
    prior: Callable[[Hyperparameters], Prior]
    #: prior -> A, so that log marginal = A(posterior) − A(prior) + log base measure.
    log_normaliser: Callable[[Prior], Array]
    #: (statistics, hyperparameters) -> (J,) the part of the log marginal that no prior changes.
    log_base_measure: Callable[[Statistics, Hyperparameters], Array]
    #: (posterior, quantile levels (Q,)) -> Description.
    describe: Callable[[Prior, Any], Description]
    #: (posterior, exposure, hyperparameters, quantile levels (Q,)) -> posterior predictive.
    predict: Callable[[Prior, Any, Hyperparameters, Any], Description]
    #: (rng, hyperparameters, n_stores, size) -> events by role, codes (E,), true θ (n_stores,);
    #: ``size`` events per store, one number or (n_stores,).
    simulate: Callable[..., tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]]
    #: (sketch, coordinates) -> what REML adds to ``log_marginal``; None where there is no REML.
    log_restriction: Callable[[Any, Array], Derivatives] | None = None
    #: The statistic that counts the observations behind a store's raw value; None where none
    #: does and the number of events stands in.
    sample_size: str | None = None
    #: What integration over the hyperparameters needs to know; None where a family has no
    #: posteriors but its own at given hyperparameters.
    geometry: Geometry | None = None
    #: The same for more than two hyperparameters, in place of ``geometry``.
    sampling: Sampling | None = None
    #: P, the number of coefficients or classes of a store's θ; None where θ is one number.
    size: int | None = None
    #: P -> the same family with that many; a record stands for one size.
    sized: Callable[[int], Family] | None = None
    #: What covariates on the prior mean need to know; None where a family takes none.
    regression: Regression | None = None
    #: P, the number of covariates of a store; None where the prior mean is the same for all.
    covariates: int | None = None
    #: (sketch, whether what the likelihood drives to infinity has coordinates of its own) -> the
    #: same data in units in which the likelihood is round, its attribute ``units`` the way there
    #: and back; None where coordinates are such already.
    standardise: Callable[[Any, bool], Any] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name: workers import the family instead of receiving its functions."""
        from hbpipe.model.families import get_family

        return get_family, (self.name, self.size, self.covariates)

    def combine(self, left: Statistics, right: Statistics) -> dict[str, NDArray[Any]]:
        """Merge two parts of the same ``J`` stores; an absent store is the identity."""
        names = [statistic.name for statistic in self.statistics]
        stores = len(left[names[0]])
        both = {name: np.concatenate([left[name], right[name]]) for name in names}
        return self.fold(both, np.tile(np.arange(stores), 2), stores)

    def start(self, sketch: Any, held: Array | None = None) -> Array:
        """Moments start, (G, D): the default of ``moments``, inside the bounds."""
        if held is None:
            held = np.full((sketch.n_pools, len(self.coordinates)), np.nan)
        estimate = next(iter(self.moments.values()))(sketch, held)
        lower, upper = self.bounds
        return np.clip(np.where(np.isnan(held), estimate, held), lower, upper)

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds of the coordinates, (D,) each."""
        return (
            np.array([axis.lower for axis in self.coordinates]),
            np.array([axis.upper for axis in self.coordinates]),
        )

    @property
    def spread(self) -> int:
        """The number of the coordinate whose lower bound means that all stores are alike."""
        return next(i for i, axis in enumerate(self.coordinates) if axis.spread)
