"""Ranks of the stores of pools whose grids have equally many points.

With F_j the posterior cdf of store j and F the average over the pool, what is sought is

    expected percentile   ∫ F dF_j                      (Lin, Louis, Paddock and Ridgeway 2006)
    p_top_10              1 − F_j(F⁻¹(0.9))
    r-value               inf {α: V_α(j) ≥ λ_α}         (Henderson and Newton 2016)

where V_α(j) = 1 − F_j(t_α), t_α = F⁻¹(1 − α), and λ_α is the upper α quantile of V_α over the
pool: the least α at which the store belongs to the best α of all stores when these are ordered by
the probability of belonging to them. Whether V_α(j) ≥ λ_α is asked as whether at most a share α of
the stores stands before it, ties in the middle.

Each F_j needs values between its ends alone. They are whole multiples of 2⁻²⁴, so their sums are
exact, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array
from hbpipe.model.rank.grid import Rows, places

Index = NDArray[np.int64]

#: Values of cdfs are whole multiples of its inverse.
WHOLE = 2.0**24
#: Posteriors with fewer points of the grid between their ends lie between them: F is interpolated.
FEW = 8
#: Nodes of Gauss and Hermite, in sds, and their weights.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(5)


@dataclass(frozen=True)
class Values:
    """Cdfs of rows at the points of their grids that lie between their ends, row after row.

    ``row`` and ``column`` (N,) say whose and where; before ``first`` (R,) a cdf is 0, from
    ``beyond`` (R,) on it is 1. ``grid`` is (G, M).
    """

    rows: Rows
    grid: Array
    first: Index
    beyond: Index
    row: Index
    column: Index
    cdf: Array
    density: Array

    @staticmethod
    def of(rows: Rows, grid: Array) -> Values:
        """Evaluate all cdfs."""
        first = places(grid, rows.pool, rows.curves.low)
        beyond = np.maximum(places(grid, rows.pool, rows.curves.high), first)
        count = beyond - first
        row = np.repeat(np.arange(len(first)), count)
        column = np.arange(len(row)) - np.repeat(np.cumsum(count) - count - first, count)
        cdf, density = rows.curves.with_density(row, grid[rows.pool[row], column])
        whole = np.rint(cdf * WHOLE) / WHOLE
        return Values(rows, grid, first, beyond, row, column, whole, density)

    def thinned(self, chosen: Index, pools: Index, stride: int) -> Values:
        """Return the values of the rows of some pools at every ``stride``-th point."""
        rows = self.rows
        number = np.full(len(self.first), -1)
        number[chosen] = np.arange(len(chosen))
        kept = np.flatnonzero((number[self.row] >= 0) & (self.column % stride == stride - 1))
        return Values(
            rows=Rows(
                rows.curves.take(chosen),
                np.searchsorted(pools, rows.pool[chosen]),
                rows.count[chosen],
            ),
            grid=self.grid[pools, stride - 1 :: stride],
            first=self.first[chosen] // stride,
            beyond=self.beyond[chosen] // stride,
            row=number[self.row[kept]],
            column=self.column[kept] // stride,
            cdf=self.cdf[kept],
            density=self.density[kept],
        )

    @property
    def at(self) -> Index:
        """Number of each value's point among those of all pools."""
        return np.asarray(self.rows.pool[self.row] * self.grid.shape[1] + self.column)

    def on_grid(self, values: Array) -> Array:
        """Add up values (N,) at each point, (G, M)."""
        sums = np.bincount(self.at, values, self.grid.size)
        return np.asarray(sums.reshape(self.grid.shape), np.float64)

    def from_columns(self, columns: Index) -> Array:
        """Count the stores whose column, (R,), is at or before each point, (G, M)."""
        pools, points = self.grid.shape
        place = self.rows.pool * (points + 1) + columns
        found = np.bincount(place, self.rows.count, pools * (points + 1))
        return np.asarray(np.cumsum(found.reshape(pools, -1), axis=1)[:, :-1], np.float64)


def average_cdf(values: Values) -> Array:
    """F at the points of each pool's grid, (G, M)."""
    sums = values.on_grid(values.rows.count[values.row] * values.cdf)
    sums += values.from_columns(values.beyond)
    share = sums / values.rows.total(values.rows.count)[:, None]
    return np.asarray(np.clip(np.maximum.accumulate(share, axis=1), 0.0, 1.0))


def expected_percentile(values: Values, average: Array) -> Array:
    """∫ F dF_j of each row, (R,).

    In a cell of width h between points with cdfs F, G and densities f, g the integral of F dG is
    ½ (F₀ + F₁)(G₁ − G₀) + h² (f₀g₁ − f₁g₀)/12, exactly where both are quadratic. It changes sign
    with the order of both, so a pool's average is 1/2, as it must be. An hf is taken as no more
    than three times the rise over the cell, as that of a monotone cubic (Fritsch and Carlson 1980):
    beyond that a posterior is too narrow for the grid.
    """
    pool = values.rows.pool
    padded = np.pad(average, ((0, 0), (1, 1)), constant_values=((0, 0), (0, 1)))
    middle = 0.5 * (padded[:, 1:] + padded[:, :-1])
    change = 0.5 * (padded[:, 2:] - padded[:, :-2])
    weighed = values.cdf * change.ravel()[values.at] - _curvature(values, average)
    found = middle[pool, values.beyond] - np.bincount(values.row, weighed, len(pool))
    narrow = np.flatnonzero(values.beyond - values.first < FEW)
    if len(narrow):
        found[narrow] = _between_points(values, average, narrow)
    return np.asarray(np.clip(found, 0.0, 1.0))


def _curvature(values: Values, average: Array) -> Array:
    """Return what each value's density adds to these integrals, in both cells it ends, (N,)."""
    rows, at = values.rows, values.at
    density = values.on_grid(rows.count[values.row] * values.density)
    density /= rows.total(rows.count)[:, None]
    width, rise = np.diff(values.grid, axis=1), np.diff(average, axis=1)
    opening = np.pad(np.minimum(width * density[:, :-1], 3.0 * rise), ((0, 0), (1, 0)))
    closing = np.pad(np.minimum(width * density[:, 1:], 3.0 * rise), ((0, 0), (0, 1)))
    width = np.pad(width, ((0, 0), (1, 1)))
    before, after = _rises(values)
    left = np.minimum(values.density * width[:, :-1].ravel()[at], 3.0 * before)
    right = np.minimum(values.density * width[:, 1:].ravel()[at], 3.0 * after)
    return np.asarray((left * opening.ravel()[at] - right * closing.ravel()[at]) / 12.0)


def _rises(values: Values) -> tuple[Array, Array]:
    """How much each cdf rises in the cell before, and in that after, each of its values."""
    other = np.diff(values.row, prepend=-1) != 0
    before = values.cdf - np.where(other, 0.0, np.append(0.0, values.cdf[:-1]))
    last = np.append(other[1:], True)
    after = np.where(last, 1.0, np.append(values.cdf[1:], 1.0)) - values.cdf
    return np.maximum(before, 0.0), np.maximum(after, 0.0)


def _between_points(values: Values, average: Array, narrow: Index) -> Array:
    """Integrate F along posteriors that are narrow beside the grid, F without their own part."""
    rows, points = values.rows, values.grid.shape[1]
    mean, sd = rows.curves.mean, rows.curves.sd
    share = rows.count / rows.total(rows.count)[rows.pool]
    found = 0.5 * share[narrow]
    pool = rows.pool[narrow]
    for node, weight in zip(_NODES, _WEIGHTS / np.sum(_WEIGHTS), strict=True):
        u = mean[narrow] + node * sd[narrow]
        right = np.clip(places(values.grid, pool, u), 1, points - 1)
        t = fraction(values.grid[pool, right - 1], values.grid[pool, right], u)
        ends = [
            average[pool, at] - share[narrow] * rows.curves.at(narrow, values.grid[pool, at])
            for at in (right - 1, right)
        ]
        found += weight * (ends[0] + t * (ends[1] - ends[0]))
    return np.asarray(found)


def fraction(low: Array, high: Array, at: Array) -> Array:
    """How far along from low to high something lies, 1/2 where these are the same."""
    width = high - low
    part = np.divide(at - low, width, out=np.full(at.shape, 0.5), where=width > 0)
    return np.asarray(np.clip(part, 0.0, 1.0))


def quantile(values: Values, average: Array, level: float) -> Array:
    """F⁻¹(level) of each pool on the line, (G,).

    Two secant steps follow the interpolation, so that stores far narrower than the grid see it.
    """
    rows, grid = values.rows, values.grid
    each = np.arange(rows.n_pools)
    right = np.clip(np.sum(average < level, axis=1), 1, grid.shape[1] - 1)
    reached = [average[each, right - 1], average[each, right]]
    ends = [grid[each, right - 1], grid[each, right]]
    total, every = rows.total(rows.count), np.arange(len(rows.pool))
    wanted = np.full(len(each), level)
    u = ends[0] + fraction(reached[0], reached[1], wanted) * (ends[1] - ends[0])
    for _ in range(2):
        cdf = np.rint(rows.curves.at(every, u[rows.pool]) * WHOLE) / WHOLE
        found = rows.total(rows.count * cdf) / total
        below = found < level
        ends = [np.where(below, u, ends[0]), np.where(below, ends[1], u)]
        reached = [np.where(below, found, reached[0]), np.where(below, reached[1], found)]
        u = ends[0] + fraction(reached[0], reached[1], wanted) * (ends[1] - ends[0])
    return np.asarray(u)
