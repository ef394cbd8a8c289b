"""How much nested groups' own data decide about their means."""

from __future__ import annotations

import numpy as np

from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import LOCATION, geometry_of
from hbpipe.model.nested_normal import upward
from hbpipe.model.nested_pools import LOG_SD
from hbpipe.model.nesting import NestedFits
from hbpipe.model.pooled_nodes import average_weights


def group_weights(fits: NestedFits) -> list[Array]:
    """Share of the variance between groups of one parent that a group's own data take away.

    At the estimated hyperparameters, from 0, a group that is what its parent is, to 1, a group
    that speaks for itself. For a normal family it is the weight of the group's own data in its
    mean, τ² / (τ² + V), with V the variance of what they say of it. For counts it is about the
    location on its line, 1 − Var(location | data) / s².

    Returns
    -------
    For each level, coarse to fine, (G,) by the groups' numbers.
    """
    family = get_family(fits.family)
    if geometry_of(family).location_is_analytic:
        return _of_means(family, fits)
    grids, found = fits.sketch.grids, np.zeros(len(fits.parents[-1]))
    variance = grids.variance(average_weights(grids, fits.coordinates, np.ones(1)))[:, LOCATION]
    between = np.exp(2.0 * fits.coordinates[0, LOG_SD[LOCATION]])
    seen = np.asarray(fits.groups.n_groups) > 0
    found[seen] = np.clip(1.0 - variance / between, 0.0, 1.0)
    return [found]


def _of_means(family: Family, fits: NestedFits) -> list[Array]:
    own = len(family.coordinates)
    messages = upward(family, fits.sketch, fits.coordinates, derivatives=False)
    found = []
    steps = zip(messages.levels, fits.sketch.forest.levels, fits.coordinates[0, own:], strict=True)
    for message, level, between in steps:
        gain = between * np.asarray(message.precision.value)
        weight = np.empty(len(gain))
        weight[level["number"]] = gain / (1.0 + gain)
        found.append(weight)
    return found
