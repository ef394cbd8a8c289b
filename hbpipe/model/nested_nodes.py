"""The posterior of one root of a normal family with nested levels, as nodes.

Given the hyperparameters every group's mean is normal, by messages up and down the tree. Not
knowing them makes it a mixture over weighted points; points with like spreads are put together
in bins by matching moments, so that a store needs few nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hbpipe.model.bins import Bins
from hbpipe.model.family import Array
from hbpipe.model.geometry import SPREAD
from hbpipe.model.importance import Weighted, sample
from hbpipe.model.laws import NORMAL
from hbpipe.model.mixture import Mixture
from hbpipe.model.modes import find_mode
from hbpipe.model.nested_target import NestedTarget
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


def sample_root(target: NestedTarget) -> Weighted:
    """Weighted points of the hyperparameters, as many as the limits of new stores need."""
    if not target.names:
        return Weighted(np.zeros((1, 0)), np.zeros(1))
    mode = find_mode(target.log_density, target.start, target.spreads)
    return sample(target.log_density, mode, _limits(target))


def _limits(target: NestedTarget) -> Callable[[Array, Array], Array]:
    """Limits of the mean of the smallest, a middle and the largest group, and of a new store."""
    order = np.argsort(target.sketch.children[-1], kind="stable")
    chosen = np.unique(order[[0, len(order) // 2, -1]])

    def limits(points: Array, weight: Array) -> Array:
        mean, variance, spread = (np.empty((len(points), len(chosen))) for _ in range(3))
        for part in target.blocks(len(points)):
            means, variances = target.means(points[part])[-1]
            mean[part], variance[part] = means[:, chosen], variances[:, chosen]
            spread[part] = target.coordinates(points[part])[:, [SPREAD]]
        means = np.concatenate([mean, mean], axis=1).T
        variances = np.concatenate([variance, variance + spread], axis=1).T
        shares = np.broadcast_to(weight, means.shape)
        mixture = Mixture(NORMAL, shares, (means, np.sqrt(variances)))
        sd = np.sqrt(mixture.moments()[1])
        return np.asarray((mixture.quantiles(_LEVELS) / sd[:, None]).ravel())

    return limits


def reduce_points(target: NestedTarget, points: Array, weight: Array) -> RootNodes:
    """Put weighted points of the hyperparameters together in nodes.

    Bins are cut along the spread between stores, then along that of the finest level.
    """
    coordinates = target.coordinates(points)
    noise = target.noise(coordinates)
    own = len(target.family.coordinates)
    variances = np.hstack([coordinates[:, own:], coordinates[:, [SPREAD]]])
    free = np.isnan(target.held)
    keys = [coordinates[:, SPREAD] / noise] * bool(free[SPREAD])
    keys += [coordinates[:, place] for place in range(len(free) - 1, own - 1, -1) if free[place]]
    bins = Bins.of((keys or [noise])[:2], weight)
    above = np.cumsum(variances[:, ::-1], axis=1)[:, ::-1] / noise[:, None]
    means, left = _binned_means(target, points, bins)
    return RootNodes(
        weight=bins.weight,
        noise=bins.average(noise),
        spreads=np.stack([bins.average(column) for column in above.T]),
        means=means,
        variances=left,
    )


def _binned_means(
    target: NestedTarget, points: Array, bins: Bins
) -> tuple[list[Array], list[Array]]:
    """Mean and variance of the means of root and groups in each bin, (G, K, L) each."""
    middle = np.sum(bins.share * bins.weight.ravel()[bins.number] * points[bins.order].T, axis=1)
    centre = [mean[0] for mean, _ in target.means(middle[None])]
    size = bins.weight.size
    # Moments about a mean nearby, so that an offset of the data costs no digits.
    sums = [np.zeros((size, 2, len(values))) for values in centre]
    ordered = points[bins.order]
    for part in target.blocks(len(points)):
        for at, total, (mean, variance) in zip(
            centre, sums, target.means(ordered[part]), strict=True
        ):
            away = mean - at
            bins.add(total, part, np.stack([away, variance + away**2], axis=1))
    shape = (-1, *bins.shape)
    means = [(at + total[:, 0]).T.reshape(shape) for at, total in zip(centre, sums, strict=True)]
    left = [np.maximum(total[:, 1] - total[:, 0] ** 2, 0.0).T.reshape(shape) for total in sums]
    return means, left
