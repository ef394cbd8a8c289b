"""Fit of the common law of chains, by the likelihood of each on its own grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hbpipe.model.estimation.problem import hold
from hbpipe.model.family import Array, Codes, Degeneracy, Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.fits import PoolFits
from hbpipe.model.geometry import LOCATION, geometry_of
from hbpipe.model.hyperpriors import LogPrior, compile_hyperprior
from hbpipe.model.integrate import start_point
from hbpipe.model.integration.proper import IMPROPER
from hbpipe.model.integration.target import Hyperprior, Target
from hbpipe.model.nested.names import law_of
from hbpipe.model.nested.pool_grids import NormalLaw, PoolGrids, place_grids
from hbpipe.model.nested.pools import (
    LOG_SD,
    MEAN,
    GridSketch,
    PooledPrior,
    law_at,
    log_marginal,
    pooled_family,
)
from hbpipe.model.nested.prior import split_hyperprior
from hbpipe.model.nested.typical import of_typical

#: Grids are placed until the estimate moves less than this from where they were placed, in sds,
#: and what they must reach grows by less than this.
_SETTLED, _GROWN, _PLACINGS = 0.25, 1.2, 8
#: They reach as far as laws with sds exp(2.5 sd of log s) times the estimate, within these limits.
_REACH, _WIDER = 2.5, (2.0, 6.0)
#: Sds of m within which nodes are evenly spaced, and their distance there in sds of the law.
_EVEN, _STEP = 1.5, 0.45
#: Fewest nodes along location and log spread, and the most.
_FEWEST, _MOST = (21, 29), 81
#: No chains at all.
_NONE = np.zeros((0, 1, 1))
_NOTHING = GridSketch(
    PoolGrids(_NONE, _NONE, _NONE, np.zeros((0, 2))), np.ones(len(MEAN)), np.zeros(5)
)


@dataclass(frozen=True)
class Placing:
    """How grids are placed.

    Parameters
    ----------
    coordinates
        (5,) the law that they serve, and others near it.
    reach
        (2,) sds of a law as wide as any that matters.
    even
        (2,) how far from a pool's mode nodes are evenly spaced.
    """

    coordinates: Array
    reach: Array
    even: Array

    @classmethod
    def around(cls, coordinates: Array, covariance: Array) -> Placing:
        """Serve laws as likely as an estimate (5,) and its covariance (5, 5) say."""
        sd, uncertainty = np.exp(coordinates[list(LOG_SD)]), np.sqrt(np.diag(covariance))
        drift = np.clip(_EVEN * uncertainty[list(MEAN)], sd, 10.0 * sd)
        with np.errstate(over="ignore"):
            wider = np.clip(np.exp(_REACH * uncertainty[list(LOG_SD)]), *_WIDER)
        return cls(coordinates, np.hypot(wider * sd, drift), drift)

    def grids(self, family: Family, sketch: Any) -> PoolGrids:
        """Place the grids of the pools of a sketch."""
        law = law_at(np.tile(self.coordinates, (sketch.n_pools, 1)))
        wide = NormalLaw(law.mean, np.tile(self.reach, (sketch.n_pools, 1)), law.correlation)
        length = 2.0 * np.arcsinh(5.3 * self.reach / self.even)
        wanted = np.ceil(length * self.even / (_STEP * law.sd[0])).astype(int)
        inner, outer = (int(n) for n in np.clip(wanted, _FEWEST, _MOST))
        target = free_target(family, sketch, wide)
        return place_grids(target, law.mean, self.even, outer, inner)[0]

    def serves(self, other: Placing) -> bool:
        """Whether grids placed so also serve what another placing is for."""
        moved = np.abs(other.coordinates - self.coordinates)
        moved[list(MEAN)] /= np.exp(self.coordinates[list(LOG_SD)])
        wide = np.all(other.reach <= _GROWN * self.reach) & np.all(other.even <= _GROWN * self.even)
        return bool(np.all(moved < _SETTLED) & wide)


def free_target(family: Family, sketch: Any, prior: Hyperprior) -> Target:
    """Return the likelihood of pools, all their hyperparameters free."""
    held = np.full((sketch.n_pools, len(MEAN)), np.nan)
    return Target(family, geometry_of(family), sketch, prior, held)


def fit_pooled(
    family: Family,
    sketch: Any,
    level: str,
    *,
    fixed: Mapping[str, Any],
    hyperprior: Any,
    start: Mapping[str, Any] | None,
) -> tuple[PoolFits, Placing]:
    """Fit N(m, S) of chains.

    Parameters
    ----------
    family, sketch
        The family of the stores, and its sketch of C chains with data.
    level
        What the chains are called.
    fixed, hyperprior, start
        As in :func:`hbpipe.model.nesting.fit_nested`.

    Returns
    -------
    The fit, a batch of one, and how its grids were placed.
    """
    names = law_of(level)[:-1]
    own, ours = split_hyperprior(family, hyperprior, names)
    alone = compile_hyperprior(
        family, own, sketch, held=frozenset(fixed) & set(family.hyperparameters)
    )
    typical = of_typical(family, own, alone)
    terms = (ours.get(names[0]), ours.get(names[1]))
    if not np.isnan(hold(pooled_family(family, level), fixed, 1)).any():
        prior, first = PooledPrior(typical.select(np.zeros(1, int)), terms, np.ones(2)), _NOTHING
    elif (case := _without_counts(family, sketch, alone)) is not None:
        return fit_undetermined(family, level, fixed, case)
    else:
        sampling, first = _begin(family, sketch, alone)
        prior = PooledPrior(typical.select(_middle(family, sketch)), terms, sampling)
    given = hold(pooled_family(family, level), {**(start or {}), **fixed}, 1)[0]
    guess = np.where(np.isnan(given), first.guess, given)
    placing = Placing.around(guess, np.zeros((5, 5)))
    for _ in range(_PLACINGS):
        grids = placing.grids(family, sketch)
        found = fit_pools(
            pooled_family(family, level, placing.coordinates),
            replace(first, grids=grids, guess=placing.coordinates),
            estimator="map",
            fixed=fixed,
            hyperprior=prior,
        )
        wanted = Placing.around(found.coordinates[0], found.covariance[0])
        settled = placing.serves(wanted)
        if settled:
            break
        placing = wanted
    return found if settled else _unsettled(found), placing


def _unsettled(found: PoolFits) -> PoolFits:
    """Say that the estimate still moved when the grids were placed for the last time."""
    return replace(found, converged=np.zeros(1, np.bool_), status=("not_converged",))


def fit_undetermined(
    family: Family, level: str, fixed: Mapping[str, Any], case: Degeneracy
) -> tuple[PoolFits, Placing]:
    """Return what :func:`fit_pooled` does where the data lack too much: finite numbers, no more."""
    sketch = replace(_NOTHING, case=case)
    found = fit_pools(pooled_family(family, level), sketch, fixed=fixed)
    return replace(found, estimator="map"), Placing.around(found.coordinates[0], np.zeros((5, 5)))


def no_data() -> Degeneracy:
    """No chain has data."""
    return Degeneracy(
        "no_data",
        pools=np.ones(1, np.bool_),
        limit=np.zeros((1, 5)),
        identified=False,
        found="no group has data",
        remedy="leave this root out",
    )


def log_likelihood_of_law(family: Family, sketch: Any, coordinates: Array) -> Array:
    """Log marginal likelihood of chains at any law, on grids placed for it, (1,).

    Parameters
    ----------
    family, sketch
        As in :func:`fit_pooled`.
    coordinates
        (5,) of the law.
    """
    grids = Placing.around(coordinates, np.zeros((5, 5))).grids(family, sketch)
    at_law = GridSketch(grids, np.ones(len(MEAN)), coordinates)
    return log_marginal(at_law, coordinates[None])[0]


def _begin(family: Family, sketch: Any, alone: LogPrior) -> tuple[Array, GridSketch]:
    """Look at each chain alone: what its data leave unknown, and a guess of the common law."""
    target = free_target(family, sketch, alone)
    alone_start = start_point(target, family.start(sketch))
    grids, log_prior = place_grids(target, alone_start, np.ones(len(MEAN)))
    weight = grids.weights(log_prior)
    mean, variance = grids.centre(weight), grids.variance(weight)
    sampling, centre = _lower_median(variance), _lower_median(mean)
    # The median square of a normal deviation is 0.455 of its variance.
    between = _lower_median((mean - centre) ** 2) / 0.455 - sampling
    sd = np.sqrt(np.maximum(between, 0.25 * sampling))
    guess = np.concatenate([centre, np.log(sd), [0.0]])
    return sampling, GridSketch(grids, sampling, guess)


def _middle(family: Family, sketch: Any) -> Codes:
    """Return the number of the chain whose median store is of middle size, (1,)."""
    sizes = geometry_of(family).median_size(sketch)
    return np.argsort(sizes, kind="stable")[[(len(sizes) - 1) // 2]]


def _without_counts(family: Family, sketch: Any, alone: LogPrior) -> Degeneracy | None:
    """Return what is wrong where no chain has a count and the mean no proper hyperprior.

    The posterior may be proper then, but it has no end that a grid or a chain of draws reaches.
    """
    mean = geometry_of(family).parametrisations[0][LOCATION]
    term = alone.term(mean)
    if term is not None and term.density not in IMPROPER:
        return None
    for case in family.degeneracies(sketch):
        if case.status.startswith("no_") and np.all(case.pools):
            return replace(
                no_data(),
                status=case.status,
                found=f"{case.found}, and nothing is known of how groups differ",
                remedy=f"give the {mean} a proper hyperprior, widen the window, or leave the "
                "level out",
                prior_helps=False,
            )
    return None


def _lower_median(values: Array) -> Array:
    """Lower median of each column, (C, D) -> (D,)."""
    return np.asarray(np.sort(values, axis=0)[(len(values) - 1) // 2])
