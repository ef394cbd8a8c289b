"""The average posterior F of each pool, at points that lie evenly in it.

Posteriors of a pool are compared at the same points t of the line of θ, about the quantiles of F,
closer together at both ends: that of the shares α = 1 − F(t) is then a fixed grid, whether the
prior is as narrow as a hair or as wide as the sky.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.distributions.near import line_moments, near_cdf
from hbpipe.model.family import Array

Index = NDArray[np.int64]

#: Points of a pool, and the levels of F that they are near.
POINTS = 64
_LEVELS = np.sin(0.5 * np.pi * np.arange(1, POINTS + 1) / (POINTS + 1)) ** 2
#: Values of cdfs are whole multiples of its inverse, so that sums are exact in any order.
WHOLE = 2.0**24
#: To find the points, a posterior's cdf is taken as linear between these places, in sds.
_PLACES = np.array([-4.0, -2.5, -1.6, -0.8, 0.0, 0.8, 1.6, 2.5, 4.0])
_DENSITY = np.diff(np.append(special.ndtr(_PLACES[:-1]), 1.0), prepend=0.0)[1:] / np.diff(_PLACES)
_BENDS = np.diff(_DENSITY, prepend=0.0, append=0.0)
#: For that, no posterior is narrower than this share of its distance from 0, or of the pool.
_NARROWEST = 1e-11, 1e-8
#: Secant steps to a quantile of F: posteriors far narrower than the points are apart show in it.
_STEPS = 2


@dataclass(frozen=True)
class Rows:
    """Posteriors of ``R`` rows of ``G`` pools, rows of a pool together, pools in order.

    ``pool`` (R,) has their pools, numbered from 0, each of which has rows; ``count`` (R,) how many
    stores each stands for; ``mean`` and ``sd`` (R,) are those on the line.
    """

    mixture: Mixture
    pool: Index
    count: Array
    mean: Array
    sd: Array

    @staticmethod
    def of(mixture: Mixture, pool: Index, count: Array) -> Rows:
        """Add mean and sd."""
        return Rows(mixture, pool, count, *line_moments(mixture))

    @property
    def begins(self) -> Index:
        """The first row of each pool, (G,)."""
        return np.asarray(np.searchsorted(self.pool, np.arange(self.pool[-1] + 1)))

    def take(self, rows: Index) -> Rows:
        """Return some rows, with their pools' numbers."""
        own = (self.pool[rows], self.count[rows], self.mean[rows], self.sd[rows])
        return Rows(self.mixture.take(rows), *own)

    def cdf(self, points: Array) -> Array:
        """Cdfs (R, N) at the points (G, N) of each pool."""
        return np.rint(near_cdf(self.mixture, points[self.pool]) * WHOLE) / WHOLE

    def averaged(self, values: Array) -> Array:
        """Average values (R, N) over the stores of each pool, (G, N)."""
        total = np.add.reduceat(self.count, self.begins)
        sums = np.add.reduceat(self.count[:, None] * values, self.begins, axis=0)
        return np.asarray(sums / total[:, None])


def points_of(rows: Rows) -> Array:
    """Return points (G, POINTS) near the quantiles of F, ascending."""
    ends = np.append(rows.begins, len(rows.pool))
    out = np.empty((len(ends) - 1, POINTS))
    # Pool by pool, so that rounding does not depend on the pools before.
    for g, (begin, end) in enumerate(pairwise(ends.tolist())):
        mean, count = rows.mean[begin:end], np.maximum(rows.count[begin:end], 0.0)
        sd = rows.sd[begin:end] + _NARROWEST[0] * np.abs(mean) + 1e-250
        sd = np.maximum(sd, _NARROWEST[1] * (np.max(mean + sd) - np.min(mean - sd)))
        place = (mean + _PLACES[:, None] * sd).ravel()
        order = np.argsort(place, kind="stable")
        place, bend = place[order], (count / sd * _BENDS[:, None]).ravel()[order]
        rise = np.maximum(np.cumsum(bend)[:-1], 0.0) * np.diff(place)
        reached = np.append(0.0, np.cumsum(rise))
        out[g] = np.interp(_LEVELS, reached / reached[-1], place)
    return out


def quantiles(rows: Rows, points: Array, average: Array, levels: tuple[float, ...]) -> Array:
    """F⁻¹(levels) of each pool on the line, (G, Q), from F at its points (G, N)."""
    wanted = np.asarray(levels)
    right = np.sum(average[:, :, None] < wanted, axis=1)
    right = np.clip(right, 1, points.shape[1] - 1)
    ends = [np.take_along_axis(points, right - side, axis=1) for side in (1, 0)]
    reached = [np.take_along_axis(average, right - side, axis=1) for side in (1, 0)]
    for step in range(_STEPS + 1):
        u = ends[0] + fraction(reached[0], reached[1], wanted) * (ends[1] - ends[0])
        if step == _STEPS:
            break
        found = rows.averaged(rows.cdf(u))
        below = found < wanted
        ends = [np.where(below, u, ends[0]), np.where(below, ends[1], u)]
        reached = [np.where(below, found, reached[0]), np.where(below, reached[1], found)]
    return np.asarray(u)


def fraction(low: Array, high: Array, at: Array) -> Array:
    """How far along from low to high something lies, 1/2 where these are the same."""
    low, high, at = np.broadcast_arrays(low, high, at)
    width = high - low
    part = np.divide(at - low, width, out=np.full(at.shape, 0.5), where=width != 0)
    return np.asarray(np.clip(part, 0.0, 1.0))
