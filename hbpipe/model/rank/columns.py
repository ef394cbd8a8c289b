"""Rank columns of the stores of a few pools, from their posteriors."""

from __future__ import annotations

import numpy as np

from hbpipe.model.distributions.curves import curves
from hbpipe.model.distributions.laws import Law, Parameters
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array
from hbpipe.model.rank.grid import Rows, pool_grids
from hbpipe.model.rank.lattice import Lattice
from hbpipe.model.rank.pools import WHOLE, Values, average_cdf, expected_percentile, quantile
from hbpipe.model.rank.r_values import r_values

#: Values of cdfs that are held at a time.
_BLOCK = 2**16
#: The columns, in this order.
NAMES = ("expected_percentile", "p_top_10", "p_bottom_10", "r_value")
_LEVELS = (0.1, 0.9)


def rank_rows(rows: Rows) -> Array:
    """Return the columns (R, 4) of rows of whole pools; a pool's numbers depend on it alone."""
    grids = pool_grids(rows)
    lengths = np.array([len(grid) for grid in grids])
    begins = np.append(rows.begins, len(rows.pool))
    out = np.empty((len(rows.pool), len(NAMES)))
    for length in np.unique(lengths).tolist():
        size, block = 0, []
        for g in [*np.flatnonzero(lengths == length).tolist(), None]:
            if g is not None:
                block.append(g)
                size += int(begins[g + 1] - begins[g]) * length
            if block and (g is None or size > _BLOCK):
                chosen = np.concatenate([np.arange(begins[g], begins[g + 1]) for g in block])
                number = np.searchsorted(block, rows.pool[chosen])
                some = Rows(rows.curves.take(chosen), number, rows.count[chosen])
                out[chosen] = _on_grids(some, np.stack([grids[g] for g in block]))
                size, block = 0, []
    return out


def _on_grids(rows: Rows, grid: Array) -> Array:
    values = Values.of(rows, grid)
    average = average_cdf(values)
    at = [quantile(values, average, level)[rows.pool] for level in _LEVELS]
    every = np.arange(len(rows.pool))
    bottom, top = (rows.curves.at(every, u) for u in at)
    expected = expected_percentile(values, average)
    return np.stack([expected, 1.0 - top, bottom, r_values(values, average)], axis=1)


def rank_many(law: Law, parameters: Parameters, count: Array) -> Array:
    """Return the columns (J, 4) of the stores of one large pool, whose posteriors are single laws.

    ``parameters`` (J,) each; ``count`` (J,) says how many stores each stands for.
    """
    lattice = Lattice.of(law, parameters)
    points, weight = lattice.sums(count)
    alone = np.flatnonzero(~lattice.inside)
    # In an order of their own: sums of densities are not exact.
    alone = alone[np.lexsort((lattice.level[alone], lattice.centre[alone]))]
    laws = zip(lattice.laws(points), parameters, strict=True)
    both = tuple(np.concatenate([shared, own[alone]])[:, None] for shared, own in laws)
    mixture = Mixture(law, np.ones_like(both[0]), both)
    weights = np.concatenate([weight, count[alone]])
    rows = Rows(curves(mixture), np.zeros(len(weights), np.int64), weights)
    [grid] = pool_grids(rows)
    found = _on_grids(rows, grid[None])
    out = lattice.interpolated(points, found[: len(points)])
    out[alone] = found[len(points) :]
    values = Values.of(rows, grid[None])
    average = average_cdf(values)
    narrow = np.flatnonzero(lattice.narrow)
    some = tuple(own[narrow] for own in parameters)
    for level, column in zip(_LEVELS, (2, 1), strict=True):
        u = _exact_quantile(law, parameters, count, values, average, level)
        below = law.cdf(*some, law.from_line(u))
        out[narrow, column] = below if column == 2 else 1.0 - below
    return np.clip(out, 0.0, 1.0)


def _exact_quantile(
    law: Law, parameters: Parameters, count: Array, values: Values, average: Array, level: float
) -> Array:
    """F⁻¹(level) of all stores as they are: that of the lattice, and one step by their own cdfs.

    Their cdfs are added up as whole numbers, so that no order shows.
    """
    u = quantile(values, average, level)
    cdf = np.rint(law.cdf(*parameters, law.from_line(u)) * WHOLE) / WHOLE
    missed = level - np.sum(cdf * count) / np.sum(count)
    column = np.clip(np.searchsorted(values.grid[0], u), 1, values.grid.shape[1] - 1)
    ends = (sides[0, column] - sides[0, column - 1] for sides in (values.grid, average))
    width, rise = ends
    step = np.divide(width * missed, rise, out=np.zeros_like(u), where=rise > 0)
    return np.asarray(u + np.clip(step, -width, width))
