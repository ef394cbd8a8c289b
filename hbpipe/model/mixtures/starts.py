"""Where the climbs of a mixture begin: stores of one end apart from the others, and a wide tail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Family
from hbpipe.model.mixtures.sketch import MixtureSketch
from hbpipe.model.numerics.grouped import Rows

#: Shares of the stores, from the highest raw estimate down or from the lowest up, that begin as
#: the second component.
_SHARES = (0.05, 0.2, 0.5)
#: A component begins with at least this share of the single law's spread, and of the scale.
_LEAST, _LEAST_OF_SCALE = 0.05, 1e-4
#: The second component of a wide tail: its proportion, and its spread in those of the single law.
_TAIL, _WIDER = 0.1, 10.0


def starts(base: Family, sketch: MixtureSketch, single: Array) -> list[Array]:
    """Give points (G, 2 D + 1) to climb from, beside the single law's estimate (G, D)."""
    raw = _raw(base, sketch)
    found = [_tail(base, sketch, single)]
    for ends in (raw, -raw):
        share = _share_above(sketch.rows, ends)
        for part in _SHARES:
            far = share <= part
            if part < max(_SHARES) or ends is raw:
                found.append(_apart(base, sketch, single, far))
    return found


def _raw(base: Family, sketch: MixtureSketch) -> Array:
    return np.asarray(base.raw_estimates(sketch.statistics))


def _share_above(rows: Rows, value: Array) -> Array:
    """Share of the pool's stores whose value is above the middle of each row, (R,)."""
    order = np.lexsort((-value, rows.pool))
    stores = rows["stores"][order]
    running = np.cumsum(stores) - 0.5 * stores
    total = rows.sum(rows["stores"])
    before = np.concatenate([[0.0], np.cumsum(total)])[:-1]
    share = np.empty(len(rows))
    share[order] = (running - before[rows.pool[order]]) / total[rows.pool[order]]
    return share


def _tail(base: Family, sketch: MixtureSketch, single: Array) -> Array:
    """Join the single law and a wide one about the same location."""
    wide = _with_spread(base, sketch, single, single)
    (spread,) = base.spreads
    wide[:, spread] *= _WIDER
    return _joined(base, single, wide, np.full(len(single), _TAIL))


def _apart(base: Family, sketch: MixtureSketch, single: Array, far: NDArray[np.bool_]) -> Array:
    """Moments of the stores that are not far, and of those that are."""
    parts, counts = [], []
    for members in (~far, far):
        rows = np.repeat(np.flatnonzero(members), sketch.rows["stores"][members].astype(np.int64))
        some = {name: values[rows] for name, values in sketch.statistics.items()}
        own = base.compress(some, sketch.rows.pool[rows], sketch.n_pools)
        count = np.asarray(own.n_groups, np.float64)
        moments = np.where(count[:, None] > 0, base.start(own), single)
        moments = np.where(np.isfinite(moments), moments, single)
        parts.append(_with_spread(base, sketch, moments, single))
        counts.append(count)
    second = counts[1] / np.maximum(counts[0] + counts[1], 1.0)
    return _joined(base, parts[0], parts[1], second)


def _with_spread(base: Family, sketch: MixtureSketch, at: Array, single: Array) -> Array:
    """Raise spreads off their bound, where a component has no room to move."""
    (spread,) = base.spreads
    found, scale = at.copy(), base.scale(sketch.whole)[:, spread]
    least = np.maximum(_LEAST * single[:, spread], _LEAST_OF_SCALE * scale)
    found[:, spread] = np.maximum(found[:, spread], least)
    return found


def _joined(base: Family, first: Array, second: Array, proportion: Array) -> Array:
    lower, upper = base.bounds
    inside = [np.clip(part, lower, upper) for part in (first, second)]
    return np.concatenate([*inside, np.clip(proportion, 0.01, 0.99)[:, None]], axis=1)
