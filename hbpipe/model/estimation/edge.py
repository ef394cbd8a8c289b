"""Hyperpriors whose density vanishes where there is no spread.

A density of τ that goes to 0 with τ, such as the default's or a gamma of shape 2, makes "no spread"
an impossible value: the objective of ``map`` is −∞ there. Formulas of named parameters are taken
just inside the bound, where they are large negative numbers; against the likelihood of some
hundred stores that is little, and a climb would rest on the bound. So the bound is closed to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Family

#: Two points next to the bound, as parts of the spread's scale.
_NEAR, _NEARER = 1e-10, 1e-12
#: A density that falls towards the bound by at least this power of the spread vanishes there.
_POWER = 0.1
#: Where a start would be on a closed bound it stands off it, by this part of the scale.
_OFF_THE_BOUND = 1e-3


def closed(family: Family, prior: Any, at: Array, scale: Array) -> NDArray[np.bool_]:
    """Spread coordinates (G, D) at whose lower bound a hyperprior's density is 0.

    Parameters
    ----------
    family
        The family. Where a spread may have either sign its bound is none, and nothing is closed.
    prior
        Coordinates → log density with derivatives.
    at, scale
        (G, D) a point for the other coordinates, and the coordinates' scale.
    """
    found = np.zeros(at.shape, bool)
    if family.mirror is not None:
        return found
    for axis in family.spreads:
        lower = family.coordinates[axis].lower
        values = []
        for part in (_NEAR, _NEARER):
            point = at.copy()
            point[:, axis] = lower + part * scale[:, axis]
            values.append(prior(point)[0])
        found[:, axis] = values[0] - values[1] > _POWER * np.log(_NEAR / _NEARER)
    return found


def inside(family: Family, shut: NDArray[np.bool_], start: Array, scale: Array) -> Array:
    """Move starts (G, D) off closed bounds."""
    return np.where(shut, np.maximum(start, family.bounds[0] + _OFF_THE_BOUND * scale), start)


def on_closed(family: Family, shut: NDArray[np.bool_], coordinates: Array) -> NDArray[np.bool_]:
    """Whether points (G, D) are on a closed bound, (G,)."""
    return np.asarray(np.any(shut & (coordinates <= family.bounds[0]), axis=1))
