"""The posterior of one root of a normal family with nested levels, as nodes.

Given the hyperparameters every group's mean is normal, by messages up and down the tree. Not
knowing them makes it a mixture over weighted points; points with like spreads are put together
in bins by matching moments, so that a store needs few nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, geometry_of, log_of_spread
from hbpipe.model.integration.nodes import Nodes, combine_pools, single_nodes
from hbpipe.model.nested.levels import NestedNodes
from hbpipe.model.nested.sampling import draw
from hbpipe.model.nested.target import NestedTarget
from hbpipe.model.numerics.bins import Bins
from hbpipe.model.numerics.importance import Limits

_LEVELS = np.array([0.025, 0.5, 0.975])


@dataclass(frozen=True)
class Reduced:
    """Nodes of ``G`` pools of one kind, in the order of their numbers.

    Parameters
    ----------
    weight, noise, spread
        (K, L) posterior probability, σ², and the variance between stores in units of it.
    mean, variance
        (G, K, L) posterior mean and variance of what the stores vary around.
    """

    weight: Array
    noise: Array
    spread: Array
    mean: Array
    variance: Array

    def nodes(self, family: Family, method: str, stores: NDArray[np.int64]) -> Nodes:
        """Nodes of the pools, with as many stores with data in each, (G,)."""
        blank, shape = np.zeros(len(self.mean)), self.mean.shape
        single = single_nodes(
            family.name, method, spread=blank, location=blank, noise=blank, n_groups=stores
        )
        weight, noise, spread = (
            np.broadcast_to(part, shape).copy() for part in (self.weight, self.noise, self.spread)
        )
        return replace(
            single,
            weight=weight,
            noise=noise,
            spread=spread,
            location=self.mean,
            location_variance=self.variance,
        )


def _limits(target: NestedTarget) -> Limits:
    """Limits of the mean of the smallest, a middle and the largest group, and of a new store."""
    order = np.argsort(target.sketch.children[-1], kind="stable")
    chosen = np.unique(order[[0, len(order) // 2, -1]])

    def limits(points: Array, weight: Array) -> tuple[Array, Array]:
        coordinates = target.coordinates(points)
        mean, variance, spread = (np.empty((len(points), len(chosen))) for _ in range(3))
        for part in target.blocks(len(points)):
            means, variances = target.means(coordinates[part])[-1]
            mean[part], variance[part] = means[:, chosen], variances[:, chosen]
            spread[part] = coordinates[part][:, [SPREAD]]
        means = np.concatenate([mean, mean], axis=1).T
        variances = np.concatenate([variance, variance + spread], axis=1).T
        shares = np.broadcast_to(weight, means.shape)
        mixture = Mixture(NORMAL, shares, (means, np.sqrt(variances)))
        found = mixture.quantiles(_LEVELS)
        sd = np.sqrt(mixture.moments()[1])
        return found.ravel(), np.repeat(sd, len(_LEVELS))

    return limits


def reduce_points(target: NestedTarget, points: Array, weight: Array) -> list[Reduced]:
    """Put weighted points of the hyperparameters together in nodes, for each kind of pools.

    Bins are cut along the spread between the stores of a pool, then along those of the levels,
    fine to coarse, then along σ.

    Returns
    -------
    New groups of each level, coarse to fine, under every parent, and last the finest groups.
    """
    coordinates = target.coordinates(points)
    noise, own = target.noise(coordinates), len(target.family.coordinates)
    variances = np.hstack([coordinates[:, own:], coordinates[:, [SPREAD]]])
    # The stores of a new group vary as far as all levels from there down let them.
    spreads = np.cumsum(variances[:, ::-1], axis=1)[:, ::-1].T / noise
    # A single group of a level follows the data and not the level's spread.
    several = np.flatnonzero([units[0] > 1 for units in target.sketch.units[:-1]]) + own
    keys = [*coordinates[:, several[::-1]].T, noise]
    bins = [Bins.of([log_of_spread(key) for key in (spread, *keys)], weight) for spread in spreads]
    found = []
    for some, spread, (mean, variance) in zip(
        bins, spreads, _binned_means(target, coordinates, weight, bins), strict=True
    ):
        # One value for all inner nodes: an outer node is a spread.
        between = np.sum(some.weight * some.average(spread), axis=1, keepdims=True)
        share = np.sum(some.weight, axis=1, keepdims=True)
        between = np.where(share > 0, between / np.where(share > 0, share, 1.0), spread[0])
        found.append(
            Reduced(
                weight=some.weight,
                noise=some.average(noise),
                spread=np.broadcast_to(between, some.shape),
                mean=mean,
                variance=variance,
            )
        )
    return found


def _binned_means(
    target: NestedTarget, coordinates: Array, weight: Array, bins: list[Bins]
) -> list[tuple[Array, Array]]:
    """Mean and variance of the means of root and groups in bins of their own, (G, K, L) each."""
    middle = np.sum(weight[:, None] * coordinates, axis=0, keepdims=True)
    centre = [mean[0] for mean, _ in target.means(middle)]
    # Moments about a mean nearby, so that an offset of the data costs no digits.
    sums = [some.empty(2, len(at)) for some, at in zip(bins, centre, strict=True)]
    for part in target.blocks(len(coordinates)):
        means = target.means(coordinates[part])
        for some, total, at, (mean, variance) in zip(bins, sums, centre, means, strict=True):
            away = mean - at
            some.add(total, part, np.stack([away, variance + away**2], axis=1))
    found = []
    numbers = [np.zeros(1, np.int64), *(level["number"] for level in target.sketch.forest.levels)]
    for some, total, at, number in zip(bins, sums, centre, numbers, strict=True):
        moments = some.filled(total)
        left = np.maximum(moments[:, 1] - moments[:, 0] ** 2, 0.0)
        order = np.argsort(number)
        shape = (-1, *some.shape)
        mean = np.asarray((at + moments[:, 0])[:, order].T.reshape(shape))
        found.append((mean, np.asarray(left[:, order].T.reshape(shape))))
    return found


def is_usable(family: Family, fits: Any) -> bool:
    """Whether the data of a root say enough to integrate over its hyperparameters."""
    usable = bool(geometry_of(family).integrable(fits.sketch.whole)[0])
    if geometry_of(family).has_noise:
        usable |= bool(~np.isnan(fits.held[0, NOISE]) & (fits.sketch.n_groups[0] > 0))
    return usable


def nested_nodes(family: Family, fits: Any, uncertainty: str) -> NestedNodes:
    """Nodes of the groups of a nested fit of a normal family.

    Parameters
    ----------
    family
        The family of the stores.
    fits
        A :class:`hbpipe.model.nesting.NestedFits`.
    uncertainty
        ``plug_in``; anything else integrates.
    """
    estimate, held, usable = fits.coordinates[0], fits.held[0], is_usable(family, fits)
    known = NestedTarget.at(family, fits.sketch, fits.hyperprior, estimate)
    if uncertainty == "plug_in" or not usable:
        target, method = known, "plug_in" if usable else "unidentified"
    else:
        target, method = replace(known, held=held), "integrated"
    found = draw(target, _limits(target))
    *new, finest = reduce_points(target, found.points, found.weight)
    stores = [np.asarray(fits.groups.n_groups), *(np.zeros(len(kind.mean)) for kind in new)]
    first = np.cumsum([len(count) for count in stores])
    parts = [
        (np.arange(end - len(count), end), kind.nodes(family, method, count.astype(np.int64)))
        for kind, count, end in zip((finest, *new), stores, first, strict=True)
    ]
    return NestedNodes(
        levels=fits.levels,
        nodes=combine_pools(parts, int(first[-1])),
        hyperparameters=_estimates(family, fits, known),
        first=tuple(first.tolist()),
        drawn=found,
    )


def _estimates(family: Family, fits: Any, known: NestedTarget) -> dict[str, Array]:
    """Point estimates of the pools' hyperparameters, at those of the fit."""
    own, estimate = len(family.coordinates), fits.coordinates[:1]
    *new, finest = reduce_points(known, np.zeros((1, 0)), np.ones(1))
    between = np.append(np.cumsum(estimate[0, own:][::-1])[::-1], 0.0)
    parts = []
    for kind, more in zip((finest, *new), (0.0, *between[:-1]), strict=True):
        at = np.tile(estimate[:, :own], (len(kind.mean), 1))
        at[:, LOCATION] = kind.mean[:, 0, 0]
        at[:, SPREAD] += more
        parts.append(at)
    return family.from_coordinates(np.concatenate(parts))
