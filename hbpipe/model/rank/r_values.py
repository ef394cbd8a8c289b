"""r-values: the share of its pool at which each store enters the list of the best.

At each point t of the grid the stores are put in the order of V(j) = 1 − F_j(t), and α = 1 − F(t).
A store is on the list of the best α where at most a share α of the stores stands before it. Only
those whose cdf is neither 0 nor 1 need sorting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbpipe.model.family import Array
from hbpipe.model.rank.grid import places
from hbpipe.model.rank.pools import FEW, WHOLE, Index, Values, fraction

_HALVINGS = 20
#: Points between the ends of a typical row.
_TYPICAL = 24.0


@dataclass(frozen=True)
class _Order:
    """The stores of each pool in the order of V at each point of the grid.

    ``sorted_`` (N,) puts values in order, point by point; ``before`` (N,) is the share of the
    stores that stands before that of a value, those beside it counted half. ``above`` and
    ``below`` (G, M) are the shares of stores whose V is 1, and 0, with those of V in between at
    neither.
    """

    sorted_: Index
    before: Array
    above: Array
    below: Array

    @staticmethod
    def of(values: Values) -> _Order:
        rows = values.rows
        total = rows.total(rows.count)[:, None]
        above = total - values.from_columns(values.first)
        below = values.from_columns(values.beyond)
        # One whole number for point and cdf: sorting these is faster than by two keys.
        key = values.at * int(2 * WHOLE) + (values.cdf * WHOLE).astype(np.int64)
        order = np.argsort(key)
        key, count = key[order], rows.count[values.row[order]]
        begins = np.flatnonzero(np.diff(key, prepend=-1))
        alike = np.add.reduceat(count, begins) if len(begins) else count
        behind = np.cumsum(alike) - 0.5 * alike
        point = values.at[order[begins]]
        opens = np.flatnonzero(np.diff(point, prepend=-1))
        offset = (behind - 0.5 * alike)[opens]
        lengths = np.diff(np.append(opens, len(point)))
        share = above.ravel()[point] + behind - np.repeat(offset, lengths)
        before = np.empty(len(key))
        before[order] = np.repeat(share, np.diff(np.append(begins, len(key))))
        before /= total.ravel()[rows.pool[values.row]]
        return _Order(order, before, above / total, below / total)


def r_values(values: Values, average: Array) -> Array:
    """Return the r-value of each row, (R,).

    Sorting is dear, so only as many points of a grid are looked at as a typical row needs.
    """
    strides = _strides(values)
    found = np.empty(len(strides))
    for stride in np.unique(strides).tolist():
        chosen = np.flatnonzero(strides == stride)
        pools = np.unique(values.rows.pool[chosen])
        some = values.thinned(chosen, pools, stride)
        found[chosen] = _of_pools(some, average[pools, stride - 1 :: stride])
    return found


def _strides(values: Values) -> Index:
    """Return which points are looked at of the pool of each row, every n-th with n a power of 2."""
    rows = values.rows
    count = rows.total((values.beyond - values.first).astype(np.float64))
    members = np.bincount(rows.pool, minlength=rows.n_pools)
    wanted = np.maximum(count / (members * _TYPICAL), 1.0)
    stride = 2 ** np.floor(np.log2(wanted)).astype(np.int64)
    return np.asarray(np.minimum(stride, values.grid.shape[1] // 4)[rows.pool])


def _of_pools(values: Values, average: Array) -> Array:
    order, alpha = _Order.of(values), 1.0 - average
    found = _crossings(values, order, alpha)
    narrow = np.flatnonzero(values.beyond - values.first < FEW)
    if len(narrow):
        found[narrow] = _between_points(values, order, alpha, narrow)
    return np.asarray(np.clip(found, 0.0, 1.0))


def _crossings(values: Values, order: _Order, alpha: Array) -> Array:
    """Find the least α at which each row is on the list, between points of the grid."""
    pool, points = values.rows.pool, values.grid.shape[1]
    own = alpha[values.rows.pool[values.row], values.column]
    room = own - order.before
    # Points ascend and α falls, so it is the last one that counts.
    last = np.full(len(pool), -1)
    on_list = np.flatnonzero(room >= 0)
    last[values.row[on_list]] = on_list
    count = values.beyond - values.first
    start = np.cumsum(count) - count
    some, final = last >= 0, last + 1 == start + count
    # Before its first point a row's V is 1, beyond its last one 0.
    left = np.clip(values.first - 1, 0, points - 1)
    right = np.clip(values.beyond, 0, points - 1)
    low_alpha = np.where(values.first > 0, alpha[pool, left], 1.0)
    low_room = low_alpha - np.where(values.first > 0, 0.5 * order.above[pool, left], 0.0)
    high_alpha = np.where(values.beyond < points, alpha[pool, right], 0.0)
    high_room = high_alpha - (1.0 - 0.5 * order.below[pool, right])
    padded = [np.append(part, 0.0) for part in (own, room)]
    at, after = np.where(some, last, -1), np.where(some, last + 1, start)
    final = np.where(some, final, count == 0)
    here = [
        np.where(some, part[at], edge)
        for part, edge in zip(padded, (low_alpha, low_room), strict=True)
    ]
    there = [
        np.where(final, edge, part[np.minimum(after, len(own))])
        for part, edge in zip(padded, (high_alpha, high_room), strict=True)
    ]
    room_here, room_there = np.maximum(here[1], 0.0), np.maximum(-there[1], 0.0)
    t = fraction(np.zeros(len(pool)), room_here + room_there, room_here)
    return np.asarray(here[0] + t * (there[0] - here[0]))


def _between_points(values: Values, order: _Order, alpha: Array, narrow: Index) -> Array:
    """Solve V_j = λ for rows that are narrow beside the grid, with α and λ interpolated."""
    pool, curves = values.rows.pool[narrow], values.rows.curves
    limit = _limits(values, order, alpha)
    low, high = curves.low[narrow], curves.high[narrow]
    for _ in range(_HALVINGS):
        u = 0.5 * (low + high)
        on_list = 1.0 - curves.at(narrow, u) >= _interpolated(values.grid, limit, pool, u)
        low, high = np.where(on_list, u, low), np.where(on_list, high, u)
    return _interpolated(values.grid, alpha, pool, 0.5 * (low + high))


def _interpolated(grid: Array, at_points: Array, pool: Index, u: Array) -> Array:
    right = np.clip(places(grid, pool, u), 1, grid.shape[1] - 1)
    t = fraction(grid[pool, right - 1], grid[pool, right], u)
    low = at_points[pool, right - 1]
    return np.asarray(low + t * (at_points[pool, right] - low))


def _limits(values: Values, order: _Order, alpha: Array) -> Array:
    """Return λ at each point of the grid, (G, M): V of the store with a share α before it."""
    shape = alpha.shape
    point = values.at[order.sorted_]
    before, v = order.before[order.sorted_], 1.0 - values.cdf[order.sorted_]
    ends = np.searchsorted(point, np.arange(alpha.size + 1))
    counted = np.bincount(point[before <= alpha.ravel()[point]], minlength=alpha.size)
    upper, lower = ends[:-1] + counted - 1, ends[:-1] + counted
    has_upper, has_lower = upper >= ends[:-1], lower < ends[1:]
    padded = [np.append(part, 0.0) for part in (before, v)]
    first = np.where(has_upper, padded[0][upper], 0.5 * order.above.ravel())
    second = np.where(has_lower, padded[0][lower], 1.0 - 0.5 * order.below.ravel())
    above = np.where(has_upper, padded[1][upper], 1.0)
    below = np.where(has_lower, padded[1][lower], 0.0)
    t = fraction(first, second, alpha.ravel())
    return np.asarray((above + t * (below - above)).reshape(shape))
