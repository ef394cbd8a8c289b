"""Posteriors of chains that vary around a common law, the law's uncertainty included."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import LOCATION, SPREAD, geometry_of
from hbpipe.model.integrate import FIRST_ORDER_CURVATURE
from hbpipe.model.integration.drawing import Drawn
from hbpipe.model.integration.nodes import Nodes, combine_pools, single_nodes
from hbpipe.model.nested.levels import NestedNodes
from hbpipe.model.nested.pool_grids import PoolGrids
from hbpipe.model.nested.pools import (
    ATANH,
    LOG_SD,
    MEAN,
    GridSketch,
    PooledPrior,
    coefficients_for,
    features,
    law_at,
    weigh,
)
from hbpipe.model.nested.sampling import draw
from hbpipe.model.nested.typical import check_proper_pooled
from hbpipe.model.numerics import jets
from hbpipe.model.numerics.importance import Limits

#: Farther than this from the estimate, m in sds of the law and log s, no grid reaches.
_FARTHEST, _LEAST, _MOST = 30.0, -10.0, 3.0
#: Nor is m farther from 0: beyond, a probability or its complement is no longer a number.
_BOUND = 300.0
#: log s is no farther from 0 where m is measured in sds.
_HUGE = 300.0
#: Sd of the law at a node, as a share of the gap to the next, from which sums over nodes are
#: smooth: normal laws so far apart add up to a flat line within 4 %.
_SMOOTH = 0.4


@dataclass(frozen=True)
class PooledTarget:
    """The posterior density of (m, S) of one root, in z, log s₁, log s₂ and atanh ρ.

    Where chains differ much little is known of m, so that in m and log s the density is a funnel
    (Neal 2003), with more weight far out than any law of fixed scales expects. In
    z_i = (m_i − m̂_i) √(C/(v_i + s_i²) + h_i), for C chains with sampling variance v_i and the
    curvature h_i of m's hyperprior, it is about that of log s times a standard normal one
    (Papaspiliopoulos, Roberts and Sköld 2007).

    Parameters
    ----------
    sketch, prior
        Likelihoods of the chains, and the hyperprior.
    held
        (5,) coordinates that are known, NaN for the free ones.
    estimate
        (5,) point estimate.
    axes
        The names of the coordinates.
    """

    sketch: GridSketch
    prior: PooledPrior
    held: Array
    estimate: Array
    axes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The free coordinates."""
        return tuple(self.axes[place] for place in self._free)

    @property
    def spreads(self) -> tuple[int, ...]:
        """Numbers of the free coordinates that are log sds between chains."""
        return tuple(i for i, place in enumerate(self._free.tolist()) if place in LOG_SD)

    @property
    def start(self) -> Array:
        """The point estimate, at which z is 0."""
        point = self.estimate.copy()
        point[list(MEAN)] = 0.0
        return np.asarray(point[self._free])

    def log_density(self, points: Array) -> Array:
        """Log of marginal likelihood × hyperprior × Jacobian, (S, V) -> (S,)."""
        found = np.full(len(points), -np.inf)
        coordinates = self.coordinates(points)
        possible = np.flatnonzero(self._possible(coordinates))
        if len(possible):
            point = [jets.constants(column, 0) for column in coordinates[possible].T]
            evidence = [
                np.sum(weigh(self.sketch.grids.flat, self._parts, at)[1], axis=1)
                for at in coefficients_for(self.sketch.grids, coordinates[possible])
            ]
            width = self._widths(coordinates[possible])[:, np.isnan(self.held[list(MEAN)])]
            jacobian = np.sum(np.log(width), axis=1)
            found[possible] = self.prior.at(point).value + np.concatenate(evidence) + jacobian
        return found

    def coordinates(self, points: Array) -> Array:
        """Working variables (S, V) → the coordinates (S, 5)."""
        everything = np.tile(np.where(np.isnan(self.held), 0.0, self.held), (len(points), 1))
        everything[:, self._free] = points
        moved = self.estimate[list(MEAN)] + self._widths(everything) * everything[:, list(MEAN)]
        everything[:, list(MEAN)] = np.where(
            np.isnan(self.held[list(MEAN)]), moved, self.held[list(MEAN)]
        )
        return everything

    def _widths(self, coordinates: Array) -> Array:
        """About the sds of m given log s, (S, 2)."""
        # Beyond the grids' reach, where the density is 0, a width need only be a number.
        log_sd = np.clip(coordinates[:, list(LOG_SD)], -_HUGE, _HUGE)
        spread = self.sketch.sampling + np.exp(2.0 * log_sd)
        chains = max(1, len(self.sketch.grids.line))
        return np.asarray(1.0 / np.sqrt(chains / spread + self._curvature))

    @cached_property
    def _curvature(self) -> Array:
        """Of the hyperprior of m at the estimate, (2,)."""
        at = self.prior.centre.in_working(jets.variables(self.estimate[None, list(MEAN)]))
        return np.maximum(-np.diag(at.hessian[0]), 0.0)

    @cached_property
    def _free(self) -> NDArray[np.int64]:
        return np.flatnonzero(np.isnan(self.held))

    @cached_property
    def _parts(self) -> Array:
        return features(self.sketch.grids)

    def _possible(self, coordinates: Array) -> NDArray[np.bool_]:
        """Where the grids know the likelihood: not far from the law they were placed for."""
        away = coordinates - self.estimate
        shift = away[:, list(MEAN)] / np.exp(self.estimate[list(LOG_SD)])
        growth = away[:, list(LOG_SD)]
        near = np.all(np.abs(shift) <= _FARTHEST, axis=1) & (np.abs(coordinates[:, ATANH]) < 8.0)
        near &= np.all(np.abs(coordinates[:, list(MEAN)]) <= _BOUND, axis=1)
        return np.asarray(near & np.all((growth >= _LEAST) & (growth <= _MOST), axis=1))


def _limits(target: PooledTarget) -> Limits:
    """Means and sds of η of the chains whose data know least, middling and most of it."""
    grids = target.sketch.grids
    law = law_at(np.tile(target.estimate, (len(grids.line), 1)))
    variance = grids.variance(grids.weights(grids.log_density(law)))
    order = np.argsort(variance[:, LOCATION], kind="stable")
    some = grids.select(np.unique(order[[0, len(order) // 2, -1]]))

    def limits(points: Array, weight: Array) -> tuple[Array, Array]:
        share = average_weights(some, target.coordinates(points), weight)
        mean, sd = some.centre(share), np.sqrt(some.variance(share))
        return np.concatenate([mean.ravel(), sd.ravel()]), np.tile(sd.ravel(), 2)

    return limits


def average_weights(grids: PoolGrids, coordinates: Array, weight: Array) -> Array:
    """Weights of the nodes of C pools, averaged over points of (m, S), (C, K, L).

    Parameters
    ----------
    grids
        Of C pools.
    coordinates, weight
        (S, 5) and (S,).
    """
    parts, total, done = features(grids), np.zeros_like(grids.flat), 0
    for at in coefficients_for(grids, coordinates):
        share = weight[done : done + len(at)]
        total += np.einsum("s,scn->cn", share, weigh(grids.flat, parts, at)[0])
        done += len(at)
    return total.reshape(grids.line.shape)


def grid_nodes(family: Family, grids: PoolGrids, weight: Array, n_groups: Array) -> Nodes:
    """Nodes of C pools on their grids.

    Parameters
    ----------
    family, grids
        The family and its grids.
    weight
        (C, K, L), adding to one for each pool.
    n_groups
        (C,) stores with data.
    """
    geometry = geometry_of(family)
    blank = np.zeros(len(weight))
    nodes = single_nodes(
        family.name,
        "integrated",
        spread=blank,
        location=blank,
        noise=blank + 1.0,
        n_groups=np.asarray(n_groups),
    )
    spread, location = np.exp(grids.log_spread), geometry.mean(grids.line)
    _, v1, v2 = geometry.variance
    component = spread * (v1 * location + v2 * location**2)
    # Where the law of a store is narrower than the gaps, a mixture over points is a staircase.
    gap = np.gradient(location, axis=2)
    return replace(
        nodes,
        weight=weight,
        spread=spread,
        location=location,
        location_variance=np.maximum((_SMOOTH * gap) ** 2 - component, 0.0),
        noise=np.ones_like(weight),
    )


def pooled_nodes(family: Family, fits: Any, uncertainty: str) -> NestedNodes:
    """Nodes of the chains of a nested fit of a family of counts, and of a new chain.

    Parameters
    ----------
    family
        The family of the stores.
    fits
        A :class:`hbpipe.model.nesting.NestedFits`.
    uncertainty
        ``plug_in``, ``integrated`` or ``auto``.
    """
    estimate, stores = fits.coordinates[0], np.asarray(fits.groups.n_groups)
    if not fits.identified[0] or not stores.any():
        return _unidentified(family, fits)
    is_known = uncertainty == "plug_in" or (uncertainty == "auto" and _is_sharp(fits))
    held = estimate if is_known else fits.held[0]
    prior = fits.hyperprior
    if not is_known:
        check_proper_pooled(prior.centre, prior.terms, held, estimate[list(MEAN)])
    axes = tuple(axis.name for axis in fits.model.coordinates)
    target = PooledTarget(fits.sketch, prior, held, estimate, axes)
    law = draw(target, _limits(target))
    coordinates = target.coordinates(law.points)
    # A chain without data has the law of a new one.
    seen, silent = np.flatnonzero(stores > 0), np.flatnonzero(np.append(stores, 0) == 0)
    empty = fits.placing.grids(family, _no_store(family))
    pools = np.empty((len(stores) + 1, 2))
    parts = []
    for numbers, grids in ((seen, fits.sketch.grids), (silent, empty)):
        weight = average_weights(grids, coordinates, law.weight)
        pools[numbers] = grids.centre(weight)
        nodes = grid_nodes(family, grids, weight, stores[seen] if numbers is seen else np.zeros(1))
        parts.append((numbers, nodes if numbers is seen else nodes.select(np.zeros_like(silent))))
    nodes = combine_pools(parts, len(pools))
    hyperparameters = _named(family, pools)
    if uncertainty == "plug_in":
        nodes = _known(family, pools, nodes.n_groups)
    return NestedNodes(
        levels=fits.levels,
        nodes=nodes,
        hyperparameters=hyperparameters,
        first=(len(stores), len(pools)),
        drawn=law,
    )


def _unidentified(family: Family, fits: Any) -> NestedNodes:
    """Nodes that are merely finite, where data determine nothing."""
    stores = np.asarray(fits.groups.n_groups)
    pools = np.tile(fits.coordinates[:, list(MEAN)], (len(stores) + 1, 1))
    nodes = _known(family, pools, np.append(stores, 0))
    return NestedNodes(
        levels=fits.levels,
        nodes=replace(nodes, method=np.full(len(pools), "unidentified")),
        hyperparameters=_named(family, pools),
        first=(len(stores), len(pools)),
        drawn=Drawn(np.zeros((1, 0)), np.ones(1), "none", 1.0, 0.0),
    )


def _is_sharp(fits: Any) -> bool:
    """Whether the data know both log sds between chains so well that their law counts as known."""
    places = [place for place in LOG_SD if np.isnan(fits.held[0, place])]
    variance = np.diag(fits.covariance[0])[places]
    return bool(np.all(variance * FIRST_ORDER_CURVATURE <= 1.0))


def _no_store(family: Family) -> Any:
    """Return the sketch of a pool in which no store has data."""
    absent = {item.name: np.full(1, item.absent, item.dtype) for item in family.statistics}
    return family.compress(absent, np.zeros(1, np.int64), 1)


def _named(family: Family, pools: Array) -> dict[str, Array]:
    """Hyperparameters at (location, log spread) of pools, (P, 2)."""
    working = [jets.constants(column, 0) for column in pools.T]
    coordinates = [jet.value for jet in geometry_of(family).coordinates(working)]
    return family.from_coordinates(np.stack(coordinates, axis=1))


def _known(family: Family, pools: Array, n_groups: NDArray[np.int64]) -> Nodes:
    """One node for each pool, at its (location, log spread), without any uncertainty."""
    return single_nodes(
        family.name,
        "plug_in",
        spread=np.exp(pools[:, SPREAD]),
        location=geometry_of(family).mean(pools[:, LOCATION]),
        noise=np.ones(len(pools)),
        n_groups=n_groups,
    )
