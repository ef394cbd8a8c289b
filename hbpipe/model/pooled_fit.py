"""Fit of the common law of chains, by the likelihood of each on its own grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hbpipe.model.family import Array, Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.fits import PoolFits
from hbpipe.model.geometry import geometry_of
from hbpipe.model.hyperpriors import compile_hyperprior
from hbpipe.model.integrate import start_point
from hbpipe.model.nested_pools import (
    LOG_SD,
    MEAN,
    GridSketch,
    PooledPrior,
    law_at,
    pooled_family,
)
from hbpipe.model.nested_prior import split_hyperprior
from hbpipe.model.pool_grids import NormalLaw, PoolGrids, place_grids
from hbpipe.model.problem import hold
from hbpipe.model.target import Hyperprior, Target

#: Grids are placed until the estimate moves less than this from where they were placed, in sds.
_SETTLED, _PLACINGS = 0.25, 8
#: They reach as far as laws with sds exp(2.5 sd of log s) times the estimate, within these limits.
_REACH, _WIDER = 2.5, (2.0, 6.0)


@dataclass(frozen=True)
class Placing:
    """How grids are placed: for the law at ``coordinates`` (5,) with sds ``wider`` (2,) times."""

    coordinates: Array
    wider: Array

    def grids(self, family: Family, sketch: Any) -> PoolGrids:
        """Place the grids of the pools of a sketch."""
        law = law_at(np.tile(self.coordinates, (sketch.n_pools, 1)))
        wide = NormalLaw(law.mean, law.sd * self.wider, law.correlation)
        return place_grids(free_target(family, sketch, wide), law.mean, law.sd[0])[0]

    def serves(self, coordinates: Array) -> bool:
        """Whether an estimate is near enough to the one they were placed for."""
        moved = np.abs(coordinates - self.coordinates)
        moved[list(MEAN)] /= np.exp(self.coordinates[list(LOG_SD)])
        return bool(np.all(moved < _SETTLED))


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
    prior, first = _begin(family, sketch, level, fixed, hyperprior)
    given = hold(pooled_family(family, level), {**(start or {}), **fixed}, 1)[0]
    guess = np.where(np.isnan(given), first.guess, given)
    placing = Placing(guess, np.full(2, _WIDER[0]))
    for _ in range(_PLACINGS):
        grids = placing.grids(family, sketch)
        found = fit_pools(
            pooled_family(family, level, placing.coordinates),
            replace(first, grids=grids, guess=placing.coordinates),
            estimator="map",
            fixed=fixed,
            hyperprior=prior,
        )
        estimate = found.coordinates[0]
        uncertainty = np.sqrt(np.diag(found.covariance[0])[list(LOG_SD)])
        wider = np.clip(np.exp(_REACH * uncertainty), *_WIDER)
        settled = placing.serves(estimate) and np.all(wider <= 1.2 * placing.wider)
        if settled:
            break
        placing = Placing(estimate, np.maximum(wider, placing.wider))
    return replace(found, converged=found.converged & settled), placing


def fit_no_data(family: Family, level: str, fixed: Mapping[str, Any]) -> tuple[PoolFits, Placing]:
    """Return what :func:`fit_pooled` does where no chain has data: nothing is identified."""
    none = np.zeros((0, 1, 1))
    sketch = GridSketch(PoolGrids(none, none, none, np.ones((0, 2))), np.ones(2), np.zeros(5))
    found = fit_pools(pooled_family(family, level), sketch, fixed=fixed)
    return replace(found, estimator="map"), Placing(np.zeros(5), np.ones(2))


def _begin(
    family: Family, sketch: Any, level: str, fixed: Mapping[str, Any], hyperprior: Any
) -> tuple[PooledPrior, GridSketch]:
    """Look at each chain alone: what its data leave unknown, and a guess of the common law."""
    names = (f"tau_{level}", f"tau_{level}_spread")
    own, ours = split_hyperprior(family, hyperprior, names)
    alone = compile_hyperprior(
        family, own, sketch, held=frozenset(fixed) & set(family.hyperparameters)
    )
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
    sizes = geometry_of(family).median_size(sketch)
    typical = np.argsort(sizes, kind="stable")[[(len(sizes) - 1) // 2]]
    prior = PooledPrior(alone.select(typical), (ours.get(names[0]), ours.get(names[1])), sampling)
    return prior, GridSketch(grids, sampling, guess)


def _lower_median(values: Array) -> Array:
    """Lower median of each column, (C, D) -> (D,)."""
    return np.asarray(np.sort(values, axis=0)[(len(values) - 1) // 2])
