"""Rank columns of the stores of some pools, from their posteriors.

With F_j the posterior cdf of store j, F the average over the pool, α = 1 − F(t) and
V_α(j) = 1 − F_j(t), all of them come from V at the pool's points:

    expected percentile   ∫ F dF_j = ∫ V_α(j) dα        (Lin, Louis, Paddock and Ridgeway 2006)
    p_top_10              V_α(j) at α = 0.1
    r-value               V_α(j) ≥ λ_α from it on       (Henderson and Newton 2016)

where λ_α is the upper α quantile of V_α over the pool, and α is one of 32 that are the same, within
a hundredth, for all pools; between two of them V − λ is linear. Percentiles and probabilities are
within 1e-3 of those of the same posteriors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from hbpipe.model.distributions.laws import Law, Pair, Parameters
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array
from hbpipe.model.rank.average import WHOLE, Index, Rows, fraction, points_of, quantiles
from hbpipe.model.rank.lattice import lattice_of

#: The columns, in this order.
NAMES = ("expected_percentile", "p_top_10", "p_bottom_10", "r_value")
_LEVELS = (0.1, 0.9)
#: Every second point has a list of the best.
_STRIDE = 2
#: A posterior with fewer points between these levels of it is narrow beside them.
_FEW, _WITHIN = 3, 0.02
#: Narrow posteriors are compared one by one with so many on either side.
_NEIGHBOURS = 32
#: Nodes of Gauss and Hermite, in sds, and their weights.
_NODES, _WEIGHTS = np.sqrt(3.0) * np.array([-1.0, 0.0, 1.0]), np.array([1.0, 4.0, 1.0]) / 6.0
#: Stores of a large pool at a time.
_BLOCK = 2**11


@dataclass(frozen=True)
class Summary:
    """What ranks of stores need of the others of their pools, each (G, N).

    ``average`` is F at ``points``; ``limit`` is λ at those with lists; ``ends`` (G, 2) are F⁻¹ at
    0.1 and 0.9.
    """

    points: Array
    average: Array
    limit: Array
    ends: Array
    stride: int = _STRIDE

    @staticmethod
    def of(rows: Rows) -> tuple[Summary, Array]:
        """Sum up whole pools; the rows' cdfs (R, N) at the points come along."""
        points = points_of(rows)
        cdf = rows.cdf(points)
        average = np.clip(np.maximum.accumulate(rows.averaged(cdf), axis=1), 0.0, 1.0)
        ends = quantiles(rows, points, average, _LEVELS)
        lists = slice(_STRIDE - 1, None, _STRIDE)
        limit = _limits(rows, cdf[:, lists], average[:, lists])
        return Summary(points, average, limit, ends), cdf

    @property
    def lists(self) -> slice:
        """The points that have lists."""
        return slice(self.stride - 1, None, self.stride)

    def thinned(self) -> Summary:
        """Keep the points of lists alone: F is smooth in pools of very many stores."""
        points, average = (part[:, self.lists].copy() for part in (self.points, self.average))
        return replace(self, points=points, average=average, stride=1)

    def moved(self, missed: Array) -> Summary:
        """Move the ends of the only pool on by what F lacks there, (2,)."""
        column = np.clip(np.sum(self.points[0] < self.ends.T, axis=1), 1, self.points.shape[1] - 1)
        width, rise = (
            values[0, column] - values[0, column - 1] for values in (self.points, self.average)
        )
        step = np.divide(width * missed, rise, out=np.zeros(2), where=rise > 0)
        return replace(self, ends=self.ends + np.clip(step, -width, width))


def rank_rows(rows: Rows) -> Array:
    """Return the columns (R, 4) of rows of whole pools; a pool's numbers depend on it alone."""
    summary, cdf = Summary.of(rows)
    out, narrow = _columns(rows, summary, cdf)
    if len(narrow):
        wide = np.ones(len(rows.pool))
        wide[narrow] = 0.0
        narrow = narrow[np.lexsort((rows.sd[narrow], rows.mean[narrow], rows.pool[narrow]))]
        own, total = rows.take(narrow), np.add.reduceat(rows.count, rows.begins)
        among = _among(own) / total[own.pool]
        smooth = rows.averaged(wide[:, None] * cdf)
        _place(out, narrow, among + _at_rows(own, summary.points, smooth))
    return out


def rank_many(law: Law, parameters: Parameters, count: Array) -> Array:
    """Return the columns (J, 4) of the stores of one large pool, whose posteriors are single laws.

    ``parameters`` (J,) each; ``count`` (J,) says how many stores each stands for. The pool is
    summed up by a lattice of laws that stands for them.
    """
    shared, weight = lattice_of(law, parameters, count)
    summary = Summary.of(_single(law, shared, weight))[0].thinned()
    parts = [
        _single(law, tuple(own[begin : begin + _BLOCK] for own in parameters), some)
        for begin, some in _in_blocks(count)
    ]
    # One secant step by their own cdfs, since very narrow ones see the lattice's error.
    below = sum(np.sum(rows.count[:, None] * rows.cdf(summary.ends), axis=0) for rows in parts)
    summary = summary.moved(np.asarray(_LEVELS) - below / np.sum(count))
    found = []
    for rows in parts:
        out, narrow = _columns(rows, summary, rows.cdf(summary.points))
        own = rows.take(narrow)
        _place(out, narrow, _at_rows(own, summary.points, summary.average))
        found.append(out)
    return np.concatenate(found)


def _in_blocks(count: Array) -> list[tuple[int, Array]]:
    starts = range(0, len(count), _BLOCK)
    return [(begin, count[begin : begin + _BLOCK]) for begin in starts]


def _single(law: Law, parameters: Parameters, count: Array) -> Rows:
    """Rows of one pool that are single laws."""
    columns = tuple(own[:, None] for own in parameters)
    mixture = Mixture(law, np.ones_like(columns[0]), columns)
    return Rows.of(mixture, np.zeros(len(count), np.int64), count)


def _place(out: Array, narrow: Index, expected: Array) -> None:
    """Put in what narrow posteriors have: such a store is on every list that goes down to it."""
    out[narrow, 0] = np.clip(expected, 0.0, 1.0)
    out[narrow, 3] = 1.0 - out[narrow, 0]


def _at_rows(rows: Rows, points: Array, values: Array) -> Array:
    """Average values (G, N) at the points of each pool over the posteriors of rows, (R,)."""
    own, each = points[rows.pool], np.arange(len(rows.pool))
    found = np.zeros(len(rows.pool))
    for node, weight in zip(_NODES, _WEIGHTS, strict=True):
        u = rows.mean + node * rows.sd
        right = np.clip(np.sum(own < u[:, None], axis=1), 1, own.shape[1] - 1)
        t = fraction(own[each, right - 1], own[each, right], u)
        low = values[rows.pool, right - 1]
        found += weight * (low + t * (values[rows.pool, right] - low))
    return found


def _columns(rows: Rows, summary: Summary, cdf: Array) -> tuple[Array, Index]:
    """Return the columns (R, 4) of rows with cdfs (R, N) at the points, and which are narrow."""
    average = _ended(summary.average, 0.0, 1.0)
    # F has no slope at the ends of the index, so it goes on as its own reflection. Beside the
    # average, whose percentile is 1/2, no term is left at the ends.
    f = np.pad(average, ((0, 0), (1, 1)), mode="reflect")
    slope = (8.0 * (f[:, 3:-1] - f[:, 1:-3]) - f[:, 4:] + f[:, :-4]) / 12.0
    below = summary.average[rows.pool] - cdf
    expected = 0.5 + np.sum(slope[rows.pool] * below, axis=1)
    r_value = _r_values(rows, summary, cdf)
    within = np.sum((cdf > _WITHIN) & (cdf < 1.0 - _WITHIN), axis=1)
    bottom, top = rows.cdf(summary.ends).T
    out = np.clip(np.stack([expected, 1.0 - top, bottom, r_value], axis=1), 0.0, 1.0)
    return out, np.flatnonzero(within < _FEW)


def _ended(values: Array, first: float, last: float) -> Array:
    """Add the values (R, N) that all have at either end of the line."""
    return np.pad(values, ((0, 0), (1, 1)), constant_values=((0, 0), (first, last)))


def _r_values(rows: Rows, summary: Summary, cdf: Array) -> Array:
    """Return r-values (R,): from α = 1 down, the first α beyond which a row is not on the list.

    It lies between two lists, with V − λ linear in between.
    """
    alpha = 1.0 - _ended(summary.average[:, summary.lists], 0.0, 1.0)[rows.pool]
    room = 1.0 - cdf[:, summary.lists] - summary.limit[rows.pool]
    off = np.argmax(np.pad(room < 0, ((0, 0), (0, 1)), constant_values=True), axis=1)
    room, each = _ended(room, 0.0, 0.0), np.arange(len(room))
    t = fraction(room[each, off], room[each, off + 1], np.zeros(len(room)))
    return np.asarray(alpha[each, off] + t * (alpha[each, off + 1] - alpha[each, off]))


def _limits(rows: Rows, cdf: Array, average: Array) -> Array:
    """Return λ at each point of each pool, (G, N): V where a share α of the stores lies before.

    Of the share before a store its own half is part; V is linear in it between stores.
    """
    begins, alpha = rows.begins, 1.0 - average.T
    before, v = _in_order(rows, cdf)
    counted = np.add.reduceat(before <= alpha[:, rows.pool], begins, axis=1, dtype=np.int64)
    ends = np.append(begins[1:], len(rows.pool))
    upper, lower = begins + counted - 1, begins + counted
    sides = []
    for at, inside, edge in (
        (upper, upper >= begins, (0.0, 1.0)),
        (lower, lower < ends, (1.0, 0.0)),
    ):
        place = np.clip(at, 0, len(rows.pool) - 1)
        found = [np.take_along_axis(part, place, axis=1) for part in (before, v)]
        sides.append([np.where(inside, part, e) for part, e in zip(found, edge, strict=True)])
    (low, high_v), (high, low_v) = sides
    return np.asarray((high_v + fraction(low, high, alpha) * (low_v - high_v)).T)


def _in_order(rows: Rows, cdf: Array) -> Pair:
    """Put V in order at each point: the share of its pool before each, and V, (N, R) both."""
    begins = rows.begins
    # Pool, cdf and row in one whole number: sorting such is several times faster than by keys.
    bits = len(rows.pool).bit_length()
    key = rows.pool * int(2 * WHOLE) + (cdf.T * WHOLE).astype(np.int64)
    key = np.sort((key << bits) + np.arange(len(rows.pool)), axis=1)
    count = rows.count[key & (2**bits - 1)]
    v = 1.0 - ((key >> bits) % int(2 * WHOLE)) / WHOLE
    reached = np.cumsum(count, axis=1)
    total = np.add.reduceat(rows.count, begins)
    earlier = np.take(np.pad(reached, ((0, 0), (1, 0))), begins, axis=1)
    # Equal ones are all half behind and half before each other.
    opens = np.diff(key >> bits, axis=1, prepend=-1) != 0
    closes = np.pad(opens[:, 1:], ((0, 0), (0, 1)), constant_values=True)
    first = np.maximum.accumulate(np.where(opens, reached - count, -np.inf), axis=1)
    last = np.where(closes, reached, np.inf)[:, ::-1]
    last = np.minimum.accumulate(last, axis=1)[:, ::-1]
    before = (0.5 * (first + last) - earlier[:, rows.pool]) / total[rows.pool]
    return before, v


def _among(rows: Rows) -> Array:
    """How many stores of their pools each row is expected to be above, itself counted half, (R,).

    Rows are in the order of their means.
    """
    size = len(rows.pool)
    reached = np.append(0.0, np.cumsum(rows.count))
    begins = np.searchsorted(rows.pool, rows.pool)
    near = np.maximum(np.arange(size) - _NEIGHBOURS, begins)
    above = reached[near] - reached[begins] + 0.5 * rows.count
    for lag in range(1, min(_NEIGHBOURS, size - 1) + 1):
        upper = np.flatnonzero(rows.pool[lag:] == rows.pool[:-lag]) + lag
        lower = upper - lag
        apart = np.maximum(np.hypot(rows.sd[upper], rows.sd[lower]), 1e-300)
        share = special.ndtr((rows.mean[upper] - rows.mean[lower]) / apart)
        above[upper] += rows.count[lower] * share
        above[lower] += rows.count[upper] * (1.0 - share)
    return np.asarray(above)
