"""The posterior of one root of a normal family with nested levels, as nodes.

Given the hyperparameters every group's mean is normal, by messages up and down the tree. Not
knowing them makes it a mixture over weighted points; points with like spreads are put together
in bins by matching moments, so that a store needs few nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hbpipe.model.bins import Bins
from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, geometry_of
from hbpipe.model.importance import Limits
from hbpipe.model.laws import NORMAL
from hbpipe.model.mixture import Mixture
from hbpipe.model.nested_levels import NestedNodes
from hbpipe.model.nested_sampling import draw
from hbpipe.model.nested_target import NestedTarget
from hbpipe.model.nodes import Nodes, single_nodes
from hbpipe.model.tree import Forest

_LEVELS = np.array([0.025, 0.5, 0.975])


@dataclass(frozen=True)
class RootNodes:
    """The posterior of one root on ``K`` × ``L`` nodes.

    Parameters
    ----------
    weight, noise
        (K, L) posterior probability, and σ².
    spreads
        (levels + 1, K, L): the variance, in units of σ², between the stores that a new group of
        each level, coarse to fine, would have; the last that between stores of one group.
    means, variances
        For the root, then for each level, (G, K, L): posterior means and variances of the means
        of its groups, in the order of the tree.
    """

    weight: Array
    noise: Array
    spreads: Array
    means: list[Array]
    variances: list[Array]


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


def reduce_points(target: NestedTarget, points: Array, weight: Array) -> RootNodes:
    """Put weighted points of the hyperparameters together in nodes.

    Bins are cut along the spread between stores, then those of the levels, fine to coarse, then σ.
    """
    coordinates = target.coordinates(points)
    noise = target.noise(coordinates)
    own = len(target.family.coordinates)
    variances = np.hstack([coordinates[:, own:], coordinates[:, [SPREAD]]])
    free = np.isnan(target.held)
    # A single group of a level follows the data and not the level's spread.
    several = np.flatnonzero([units[0] > 1 for units in target.sketch.units[:-1]]) + own
    levels = [coordinates[:, place] for place in several[::-1] if free[place]]
    keys = [coordinates[:, SPREAD] / noise] * bool(free[SPREAD]) + levels + [noise]
    bins = Bins.of([np.log(key) for key in keys], weight)
    above = np.cumsum(variances[:, ::-1], axis=1)[:, ::-1] / noise[:, None]
    means, left = _binned_means(target, coordinates, bins)
    return RootNodes(
        weight=bins.weight,
        noise=bins.average(noise),
        spreads=np.stack([bins.average(column) for column in above.T]),
        means=means,
        variances=left,
    )


def _binned_means(
    target: NestedTarget, coordinates: Array, bins: Bins
) -> tuple[list[Array], list[Array]]:
    """Mean and variance of the means of root and groups in each bin, (G, K, L) each."""
    ordered = coordinates[bins.order]
    weight = bins.share * bins.weight.ravel()[bins.number]
    middle = np.sum(weight[:, None] * ordered, axis=0, keepdims=True)
    centre = [mean[0] for mean, _ in target.means(middle)]
    size = bins.weight.size
    # Moments about a mean nearby, so that an offset of the data costs no digits.
    sums = [np.zeros((size, 2, len(values))) for values in centre]
    for part in target.blocks(len(ordered)):
        for at, total, (mean, variance) in zip(
            centre, sums, target.means(ordered[part]), strict=True
        ):
            away = mean - at
            bins.add(total, part, np.stack([away, variance + away**2], axis=1))
    shape = (-1, *bins.shape)
    sums = [total[bins.source] for total in sums]
    means = [(at + total[:, 0]).T.reshape(shape) for at, total in zip(centre, sums, strict=True)]
    left = [np.maximum(total[:, 1] - total[:, 0] ** 2, 0.0).T.reshape(shape) for total in sums]
    return means, left


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
    known = NestedTarget(family, fits.sketch, fits.hyperprior, estimate, estimate)
    if uncertainty == "plug_in" or not usable:
        target, method = known, "plug_in" if usable else "unidentified"
    else:
        target, method = replace(known, held=held), "integrated"
    found = draw(target, _limits(target))
    reduced = reduce_points(target, found.points, found.weight)
    nodes, first = _pools(family, fits, reduced, method)
    return NestedNodes(
        levels=fits.levels,
        nodes=nodes,
        hyperparameters=_estimates(family, fits, known, first),
        first=first,
        drawn=found,
    )


def _by_number(forest: Forest, means: list[Array]) -> list[Array]:
    """Put what is about root and groups, in the order of the tree, into that of their numbers."""
    found = [means[0]]
    for level, values in zip(forest.levels, means[1:], strict=True):
        sorted_values = np.empty_like(values)
        sorted_values[level["number"]] = values
        found.append(sorted_values)
    return found


def _pools(
    family: Family, fits: Any, root: RootNodes, method: str
) -> tuple[Nodes, tuple[int, ...]]:
    """Nodes of the finest groups, and of new groups under each parent, level by level."""
    forest = fits.sketch.forest
    means, variances = (_by_number(forest, part) for part in (root.means, root.variances))
    # A new group's stores vary around its parent; the finest groups' around their own means.
    order = [len(means) - 1, *range(len(means) - 1)]
    counts = [len(means[place]) for place in order]
    spread = [np.broadcast_to(root.spreads[place], means[place].shape) for place in order]
    location = np.concatenate([means[place] for place in order])
    stores = np.zeros(len(location), np.int64)
    stores[: counts[0]] = fits.groups.n_groups
    blank = np.zeros(len(location))
    nodes = single_nodes(
        family.name, method, spread=blank, location=blank, noise=blank, n_groups=stores
    )
    nodes = replace(
        nodes,
        weight=np.broadcast_to(root.weight, location.shape).copy(),
        spread=np.concatenate(spread),
        location=location,
        location_variance=np.concatenate([variances[place] for place in order]),
        noise=np.broadcast_to(root.noise, location.shape).copy(),
    )
    return nodes, tuple(np.cumsum(counts).tolist())


def _estimates(
    family: Family, fits: Any, known: NestedTarget, first: tuple[int, ...]
) -> dict[str, Array]:
    """Point estimates of the pools' hyperparameters, at those of the fit."""
    own, estimate = len(family.coordinates), fits.coordinates[:1]
    means = _by_number(fits.sketch.forest, [mean[0] for mean, _ in known.means(estimate)])
    between = np.append(np.cumsum(estimate[0, own:][::-1])[::-1], 0.0)
    order = [len(means) - 1, *range(len(means) - 1)]
    coordinates = np.concatenate(
        [np.tile(estimate[:, :own], (len(means[place]), 1)) for place in order]
    )
    coordinates[:, LOCATION] = np.concatenate([means[place] for place in order])
    coordinates[:, SPREAD] += np.concatenate(
        [np.full(len(means[place]), between[place]) for place in order]
    )
    return family.from_coordinates(coordinates)
