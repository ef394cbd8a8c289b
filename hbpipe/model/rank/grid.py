"""A grid on the line of θ for each pool: dense where its posteriors lie, to the last flagship.

Its points are about quantiles of the average posterior, closer together at both ends, so that a
prior as narrow as a hair and stores far outside have points alike. How many there are follows from
how narrow posteriors are beside their average: stores that hardly overlap need some points each,
those that do need few together. The few that are much narrower get points of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.curves import Curves
from hbpipe.model.family import Array

#: Three points carry five moments of a normal law (Gauss and Hermite): sds from the mean, weights.
_AT, _SHARE = np.sqrt(3.0) * np.array([-1.0, 0.0, 1.0]), np.array([1.0, 4.0, 1.0]) / 6.0
#: Points across the middle of a narrow posterior, the share of posteriors that may be narrower.
#: In pools of so few stores each weighs more, and has twice as many.
_ACROSS, _NARROWER, _SMALL = 4.0, 0.05, 64
#: Points of their own that the narrowest get, in sds from the mean.
_OWN = np.linspace(-2.8, 2.8, 8)
#: Fewest points; most of them, by the stores of a pool, of which many make their average smooth.
_FEWEST, _MOST_OF_MANY, _MOST, _STORES = 64, 512, 4096, 2**22


@dataclass(frozen=True)
class Rows:
    """Posteriors of ``R`` rows of ``G`` pools, rows of a pool together, pools in order.

    ``pool`` (R,) has their pools, numbered from 0, each of which has rows; ``count`` (R,) how many
    stores each stands for.
    """

    curves: Curves
    pool: NDArray[np.int64]
    count: Array

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return int(self.pool[-1]) + 1

    @property
    def begins(self) -> NDArray[np.int64]:
        """The first row of each pool, (G,)."""
        return np.asarray(np.searchsorted(self.pool, np.arange(self.n_pools)))

    def total(self, values: Array) -> Array:
        """Sum values (R,) of the rows of each pool, (G,)."""
        return np.asarray(np.bincount(self.pool, values, self.n_pools), np.float64)


def pool_grids(rows: Rows) -> list[Array]:
    """Return the grid of each pool, ascending."""
    mean, sd = rows.curves.mean, rows.curves.sd
    value = (mean + _AT[:, None] * sd).ravel()
    weight = (np.maximum(rows.count, 0.0) * _SHARE[:, None]).ravel()
    pool = np.tile(rows.pool, 3)
    order = np.lexsort((value, pool))
    begins = np.append(rows.begins, len(rows.pool))
    total = rows.total(np.maximum(rows.count, 0.0))
    level = np.empty(len(order))
    for g, stores in enumerate(total.tolist()):
        # Pool by pool, so that rounding does not depend on the pools before.
        inner = order[3 * begins[g] : 3 * begins[g + 1]]
        level[inner] = (np.cumsum(weight[inner]) - 0.5 * weight[inner]) / stores
    across = level.reshape(3, -1)[2] - level.reshape(3, -1)[0]
    narrow = np.lexsort((across, rows.pool))
    low = np.minimum.reduceat(rows.curves.low, rows.begins)
    high = np.maximum.reduceat(rows.curves.high, rows.begins)
    grids = []
    for g in range(rows.n_pools):
        members = narrow[begins[g] : begins[g + 1]]
        inner = order[3 * begins[g] : 3 * begins[g + 1]]
        few, points = _lengths(across[members], total[g])
        own = mean[members[:few]] + np.multiply.outer(_OWN, sd[members[:few]])
        known = np.concatenate([[0.0], level[inner], [1.0]])
        places = np.concatenate([[low[g]], value[inner], [high[g]]])
        wanted = np.sin(0.5 * np.pi * np.linspace(0.0, 1.0, points - own.size)) ** 2
        # The outermost of all points are the ends of the widest posteriors.
        common = np.interp(wanted, known, np.clip(places, low[g], high[g]))
        grids.append(np.sort(np.concatenate([common, own.ravel()])))
    return grids


def _lengths(across: Array, stores: float) -> tuple[int, int]:
    """How many of the narrowest posteriors get points of their own, and all points of a pool.

    ``across`` has the share of the pool that lies in the middle of each posterior, ascending.
    """
    most = min(max(_STORES / stores, _MOST_OF_MANY), _MOST)
    typical = across[int(_NARROWER * len(across))]
    wanted = _ACROSS if stores > _SMALL else 2.0 * _ACROSS
    common = min(max(wanted / max(typical, 1e-9), _FEWEST), most)
    if most == _MOST_OF_MANY:  # none of so many stores is seen by itself
        return 0, _rounded(common)
    few = int(np.searchsorted(across, wanted / common))
    few = min(few, int((most - common) // len(_OWN)))
    return few, _rounded(common + few * len(_OWN))


def _rounded(points: float) -> int:
    """Round up to one of few numbers, so that many pools have grids of equal length."""
    return _FEWEST * math.ceil(points / _FEWEST)


def places(grid: Array, pool: NDArray[np.int64], value: Array) -> NDArray[np.int64]:
    """Count the points below each value in the grid of its pool; grids are (G, M)."""
    found, points = np.zeros(len(value), np.int64), grid.shape[1]
    step = 2 ** (points.bit_length() - 1)
    while step:
        further = np.minimum(found + step, points)
        found = np.where(grid[pool, further - 1] < value, further, found)
        step //= 2
    return found
