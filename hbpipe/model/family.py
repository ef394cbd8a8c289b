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

from hbpipe.model.declarations import Degeneracy, Description, Mirror, Pearson, Regression

if TYPE_CHECKING:
    from hbpipe.model.dispersion import Dispersion
    from hbpipe.model.fits import PoolFits
    from hbpipe.model.geometry import Geometry
    from hbpipe.model.integration.sampled_nodes import SampledNodes
    from hbpipe.model.integration.sampling import StoreUpdate
    from hbpipe.model.named import NamedSpace
    from hbpipe.model.nested.messages import Message

__all__ = [
    "Array",
    "Codes",
    "Coordinate",
    "Degeneracy",
    "Derivatives",
    "Description",
    "Family",
    "Hyperparameters",
    "Mirror",
    "Pearson",
    "Prior",
    "Regression",
    "Role",
    "Sketch",
    "Statistic",
    "Statistics",
]

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
    statistic without which this one must be zero (no count without exposure): where that is not
    above ``needs_above`` (no squares about the mean of one value).
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
    needs_above: float = 0.0


@dataclass(frozen=True)
class Role:
    """One quantity that a metric of this family takes from the events, named as in the config.

    ``whole``: values must be whole numbers. ``lowest``: values below are impossible;
    ``exclusive``: values equal to it are too. ``at_most`` names another role that bounds this one
    within an event (successes ≤ trials). ``several``: a list of quantities fills the role, and its
    events are (E, P). ``below``: whole values are less than this. ``zero_if_null``: a null is a 0.
    ``needs``: without that role, this one is 0.
    """

    name: str
    whole: bool = False
    lowest: float | None = None
    exclusive: bool = False
    at_most: str | None = None
    several: bool = False
    below: int | None = None
    zero_if_null: bool = False
    needs: str | None = None


@dataclass(frozen=True)
class Coordinate:
    """One axis of the optimiser, bounded so that "no spread" is an ordinary point.

    ``hyperparameter`` is the named one that this axis determines, alone or with others; a fit on
    the axis' bound reports it by that name. Where it is a number, holding it holds the axis.
    ``spread`` marks the coordinates that are all 0 when stores are alike; no spread is on the
    lower bound of those that have one.
    """

    name: str
    lower: float
    upper: float
    hyperparameter: str
    spread: bool = False


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
    #: (posterior, exposure, hyperparameters, quantile levels (Q,)) -> posterior predictive; of a
    #: family with predictors, the exposure is these, (J, P).
    predict: Callable[[Prior, Any, Hyperparameters, Any], Description]
    #: (rng, hyperparameters, n_stores, size) -> events by role, codes (E,), true θ (n_stores,);
    #: ``size`` events per store, one number or (n_stores,).
    simulate: Callable[..., tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]]
    #: (sketch, coordinates) -> what REML adds to ``log_marginal``; None where there is no REML.
    log_restriction: Callable[[Any, Array], Derivatives] | None = None
    #: (sketch, coordinates (G, D), derivatives=whether they are wanted) -> the likelihood of each
    #: pool as a function of its mean; None where it is not Gaussian.
    location_message: Callable[..., Message] | None = None
    #: For families whose spread coordinates mean the same with either sign.
    mirror: Mirror | None = None
    #: A caller's arrays -> the family of their size, and its statistics; None: as they are.
    admit: Callable[[Mapping[str, Any]], tuple[Family, dict[str, NDArray[Any]]]] | None = None
    #: (sketch, held (G, D)) -> (G,) the largest log likelihood when every store has its own θ.
    log_no_pooling: Callable[[Any, Array], Array] | None = None
    #: The statistic that counts the observations behind a raw value, by itself or added up over
    #: its classes; None: events stand in.
    sample_size: str | None = None
    #: Whether the next observation may be of size 0: no trials, but not the mean of no values.
    empty_exposure: bool = True
    #: Whether a sketch is far smaller than its stores; where not, its rows stay where they are.
    compresses: bool = True
    #: statistics -> each store's own estimate, (J,) or (J, P); None where ``geometry`` gives it.
    raw: Callable[[Statistics], Array] | None = None
    #: (statistics, hyperparameters of each store) -> sampling sd of ``raw``, ∞ where it has none.
    raw_sd: Callable[[Statistics, Hyperparameters], Array] | None = None
    #: Coordinates without spread (G, D) -> the θ of all stores (G,); None: it is the location.
    shared: Callable[[Array], Array] | None = None
    heavy_tails: bool = False  #: Whether mean and sd of a posterior may be ∞, and not published.
    #: What integration over the hyperparameters needs to know; None where there is none.
    geometry: Geometry | None = None
    #: How totals vary over days or clusters of events; None where overdispersion is not measured.
    dispersion: Dispersion | None = None
    #: What more than two hyperparameters need: a ``Sampling`` in place of ``geometry``, or with
    #: covariates beside it how stores are updated.
    sampling: StoreUpdate | None = None
    #: Its named hyperparameters as formulas, for hyperpriors; a ``geometry`` has its own.
    named: NamedSpace | None = None
    #: (specification, sketch, held coordinates (D,), NaN where free) -> compiled hyperprior, with
    #: ``select``, where formulas of single parameters do not suffice.
    hyperprior: Callable[[Any, Any, Array], Any] | None = None
    #: P, the number of coefficients or classes of a store's θ; None where θ is one number.
    size: int | None = None
    #: P -> the same family with that many; a record stands for one size.
    sized: Callable[[int], Family] | None = None
    #: What covariates on the prior mean need to know; None where a family takes none.
    regression: Regression | None = None
    #: The smallest such number: a single class has nothing to share.
    least_size: int = 1
    #: P, the number of covariates of a store; None where the prior mean is the same for all.
    covariates: int | None = None
    #: (sketch, whether what the likelihood drives to infinity has coordinates of its own) -> the
    #: same data in units in which the likelihood is round, its attribute ``units`` the way there
    #: and back; None where coordinates are such already.
    standardise: Callable[[Any, bool], Any] | None = None
    #: How θ varies over stores: ``single``, one conjugate law, or the word of a mixture of them.
    prior_form: str = "single"
    #: (family, sketch, and the options of ``fit_pools`` by name) -> PoolFits; what is fitted
    #: otherwise than by climbs in ``coordinates``.
    estimate: Callable[..., PoolFits] | None = None
    #: What takes the place of ``hbpipe.model.integrate.hyperposterior``, with its arguments.
    integrate: Callable[..., SampledNodes] | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by name: workers import the family instead of receiving its functions."""
        from hbpipe.model.families import get_family

        return get_family, (self.name, self.size, self.covariates, self.prior_form)

    @property
    def exposure_width(self) -> int | None:
        """P where the next observation is one at given predictors, None where it has a size.

        The first role is what is predicted, so predictors are among the others.
        """
        return self.size if any(role.several for role in self.roles[1:]) else None

    @property
    def is_measured(self) -> bool:
        """Whether events have all that it needs: days of a drift are laid out by the window."""
        return all(role.below is None for role in self.roles)

    @property
    def predicts_terms(self) -> bool:
        """Whether each term of a store has a prediction of its own: the count of each class."""
        return self.roles[0].several

    def combine(self, left: Statistics, right: Statistics) -> dict[str, NDArray[Any]]:
        """Merge two parts of the same ``J`` stores; an absent store is the identity."""
        names = [statistic.name for statistic in self.statistics]
        stores = len(left[names[0]])
        both = {name: np.concatenate([left[name], right[name]]) for name in names}
        return self.fold(both, np.tile(np.arange(stores), 2), stores)

    def raw_estimates(self, statistics: Statistics) -> Array:
        """Each store's estimate from its own data alone, (J,) or (J, P); NaN where none is."""
        if self.raw is not None:
            return self.raw(statistics)
        assert self.geometry is not None, f"{self.name} has neither raw estimates nor a geometry"
        size, raw = self.geometry.sizes(statistics)
        return np.where(size > 0, raw, np.nan)

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
    def spreads(self) -> list[int]:
        """The numbers of the coordinates that are all 0 when stores are alike."""
        return [number for number, axis in enumerate(self.coordinates) if axis.spread]
