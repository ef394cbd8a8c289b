"""How much nested groups' own data decide about their means."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np

from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import LOCATION, geometry_of
from hbpipe.model.integration.drawing import Drawn
from hbpipe.model.nested.pooled_nodes import PooledTarget
from hbpipe.model.nested.pools import LOG_SD, coefficients_for, features, weigh
from hbpipe.model.nested.target import NestedTarget
from hbpipe.model.nesting import NestedFits

#: Points of the hyperparameters that are averaged over.
_POINTS = 512


def group_weights(fits: NestedFits, drawn: Drawn) -> list[Array]:
    """Share of the variance between groups of one parent that a group's own data take away.

    From 0, a group that is what its parent is, to 1, a group that speaks for itself; averaged
    over the hyperparameters. For a normal family it is the weight of the group's own data in its
    mean, τ²/(τ² + V), with V the variance of what they say of it. For counts it is about the
    location on its line, 1 − Var(location | data)/s².

    Parameters
    ----------
    fits
        Of one root.
    drawn
        The points of its hyperparameters, from :func:`hbpipe.model.nesting.integrate_nested`.

    Returns
    -------
    For each level, coarse to fine, (G,) by the groups' numbers.
    """
    family = get_family(fits.family)
    if geometry_of(family).location_is_analytic:
        return _of_means(family, fits, drawn)
    found, seen = np.zeros(len(fits.parents[-1])), np.asarray(fits.groups.n_groups) > 0
    if fits.identified[0] and seen.any():
        found[seen] = _of_counts(fits, drawn)
    return [found]


def _thinned(drawn: Drawn, coordinates: Array, place: int) -> Array:
    """Take coordinates (S, D) of equal weight, spread evenly along the one at ``place``."""
    if len(coordinates) == 1:
        return coordinates
    order = np.argsort(coordinates[:, place], kind="stable")
    share = np.cumsum(drawn.weight[order]) / np.sum(drawn.weight)
    places = np.searchsorted(share, (np.arange(_POINTS) + 0.5) / _POINTS)
    return np.asarray(coordinates[order[np.minimum(places, len(order) - 1)]])


def _held(fits: NestedFits, drawn: Drawn) -> Array:
    """Return what is held where the points lie: everything, where nothing was integrated."""
    return np.asarray(fits.held[0] if drawn.points.shape[1] else fits.coordinates[0])


def _of_means(family: Family, fits: NestedFits, drawn: Drawn) -> list[Array]:
    own, estimate = len(family.coordinates), fits.coordinates[0]
    known = NestedTarget.at(family, fits.sketch, fits.hyperprior, estimate)
    target = replace(known, held=_held(fits, drawn))
    coordinates = _thinned(drawn, target.coordinates(drawn.points), own)
    totals = [np.zeros(len(level)) for level in fits.sketch.forest.levels]
    for part in target.blocks(len(coordinates)):
        some = coordinates[part]
        messages = target.messages(some).levels
        for total, message, between in zip(totals, messages, some[:, own:].T, strict=True):
            precision = np.asarray(message.precision.value).reshape(len(some), -1)
            gain = between[:, None] * precision
            total += np.sum(gain / (1.0 + gain), axis=0)
    found = [np.empty_like(total) for total in totals]
    for weight, total, level in zip(found, totals, fits.sketch.forest.levels, strict=True):
        weight[level["number"]] = total / len(coordinates)
    return found


def _of_counts(fits: NestedFits, drawn: Drawn) -> Array:
    """Weights of the chains that have data."""
    grids, axes = fits.sketch.grids, tuple(axis.name for axis in fits.model.coordinates)
    target = PooledTarget(
        fits.sketch, fits.hyperprior, _held(fits, drawn), fits.coordinates[0], axes
    )
    log_sd = LOG_SD[LOCATION]
    coordinates = _thinned(drawn, target.coordinates(drawn.points), log_sd)
    parts, total = features(grids), np.zeros(len(grids.line))
    between = np.exp(2.0 * coordinates[:, log_sd])
    laws = chain.from_iterable(coefficients_for(grids, coordinates))
    for variance, at in zip(between, laws, strict=True):
        weight = weigh(grids.flat, parts, at)[0].reshape(grids.line.shape)
        left = grids.variance(weight)[:, LOCATION]
        total += np.clip(1.0 - left / variance, 0.0, 1.0)
    return total / len(coordinates)
