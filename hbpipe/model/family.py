"""The Family contract: what a conjugate hierarchical model must offer, as a value.

A family is a frozen record of pure functions. **Prior and posterior are the same type**: that
is what conjugate means, so it is in the signatures. Adding a family is one new file in
``families/``; it is found by discovery and the contract suite tests it without being asked.

Shapes: ``J`` stores, ``G`` pools (a pool is the set of stores that share one prior, usually a
chain), ``D`` coordinates of the optimiser, ``E`` events.

Everything is batched over pools. ``log_marginal`` takes the coordinates of all pools at once and
gives all their likelihoods, because a night fits thousands of small chains and a Python loop
over them would cost more than the arithmetic. A single fit is a batch with ``G = 1``. The sums of
one pool never depend on which other pools are in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.integer[Any]]
#: name -> (J, ...) for statistics, name -> (J,) or scalar for hyperparameters and priors.
Statistics: TypeAlias = Mapping[str, NDArray[Any]]
Hyperparameters: TypeAlias = Mapping[str, Any]
#: Parameters of a prior, or of a posterior: the same names, the same meaning.
Prior: TypeAlias = dict[str, Array]
#: Sufficient for the likelihood of G pools; opaque to everything but its family.
Sketch: TypeAlias = Any


@dataclass(frozen=True)
class Statistic:
    """One sufficient statistic of a store.

    ``merge`` is the rule for two parts of one store: ``sum``; ``moments`` (n, mean, m2 by Chan,
    Golub and LeVeque 1983); ``precision`` (estimates weighted by inverse variance).
    """

    name: str
    dtype: Literal["int64", "float64"]
    merge: Literal["sum", "moments", "precision"]


@dataclass(frozen=True)
class Role:
    """One quantity that a metric of this family takes from the events, named as in the config.

    ``whole``: values must be whole numbers. ``lowest``: values below are impossible;
    ``exclusive``: values equal to it are too.
    ``at_most`` names another role that bounds this one within an event (successes ≤ trials).
    """

    name: str
    whole: bool = False
    lowest: float | None = None
    exclusive: bool = False
    at_most: str | None = None


@dataclass(frozen=True)
class Coordinate:
    """One axis of the optimiser, bounded so that "no spread" is an ordinary point.

    ``spread`` marks the coordinate whose lower bound means that all stores are alike.
    """

    name: str
    lower: float
    upper: float
    spread: bool = False


@dataclass(frozen=True)
class Description:
    """Summary of ``J`` posteriors: mean and sd (J,), quantiles (J, Q), and cdf as a function."""

    mean: Array
    sd: Array
    quantiles: Array
    cdf: Callable[[Array], Array]


@dataclass(frozen=True)
class Family:
    """A conjugate family; see ``README.md`` beside this file for each slot in full."""

    name: str
    #: Bumped by hand when ``summarise`` or ``fold`` would give other numbers.
    kernel_version: int
    roles: tuple[Role, ...]
    statistics: tuple[Statistic, ...]
    hyperparameters: tuple[str, ...]
    coordinates: tuple[Coordinate, ...]

    #: (events: role -> (E,) arrays, codes (E,), n_stores) -> statistics of ``n_stores`` stores.
    summarise: Callable[[Mapping[str, NDArray[Any]], Codes, int], dict[str, NDArray[Any]]]
    #: (statistics (R, ...), codes (R,), n_stores) -> rows with equal code merged, in row order.
    fold: Callable[[Statistics, Codes, int], dict[str, NDArray[Any]]]
    #: (statistics, pools (J,), n_pools) -> lossless sketch, additive over disjoint stores.
    compress: Callable[[Statistics, Codes, int], Sketch]
    #: Sketches of disjoint stores -> the sketch of all of them.
    merge_sketches: Callable[[Any], Sketch]
    #: sketch -> moments start, (G, D).
    start: Callable[[Sketch], Array]
    #: (sketch, coordinates (G, D)) -> value (G,), gradient (G, D), Hessian (G, D, D); all
    #: constants included.
    log_marginal: Callable[[Sketch, Array], tuple[Array, Array, Array]]
    #: coordinates (..., D) -> hyperparameters by name, and back.
    from_coordinates: Callable[[Array], dict[str, Array]]
    to_coordinates: Callable[[Hyperparameters], Array]
    #: (statistics, hyperparameters) -> posterior, the same type as the prior.
    update: Callable[[Statistics, Hyperparameters], Prior]
    #: prior -> A, so that log marginal = A(posterior) − A(prior) + constants of the data.
    log_normaliser: Callable[[Prior], Array]
    #: (posterior, quantile levels (Q,)) -> Description.
    describe: Callable[[Prior, Array], Description]
    #: (posterior, exposure, hyperparameters, quantile levels) -> posterior predictive.
    predict: Callable[..., Description]
    #: (rng, hyperparameters, n_stores, ...) -> events by role, codes, and the true θ.
    simulate: Callable[..., Any]

    def combine(self, left: Statistics, right: Statistics) -> dict[str, NDArray[Any]]:
        """Merge two parts of the same ``J`` stores; an absent store is the identity."""
        names = [statistic.name for statistic in self.statistics]
        stores = len(left[names[0]])
        both = {name: np.concatenate([left[name], right[name]]) for name in names}
        return self.fold(both, np.tile(np.arange(stores), 2), stores)
