"""Few nodes in place of many rows: sums of a smooth function, by Chebyshev polynomials.

A likelihood of stores is Σ w f(x) over rows with sizes x and weights w, where f changes from one
call to the next and the rows do not. Functions such as log Γ(a + x) and log(1 + ax), and their
derivatives in a, are analytic in t = log x in the strip |Im t| < π, whatever a ≥ 0. Interpolated
at the N Chebyshev points of a panel of half-width h in t they lose about ρ^−N of their size there,
ρ = π/h + √(1 + (π/h)²) (Trefethen 2013, *Approximation Theory and Approximation Practice*,
theorem 8.2): with h = log 2 and N = 16 that is 4e-16, which is rounding. So a panel's rows are
replaced by its points once there are more rows than points, and a pool has a few hundred rows,
however many stores it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes
from hbpipe.model.numerics.grouped import Rows

#: Points of a panel, along which the size grows by the factor ``GROWTH``.
NODES = 16
GROWTH = 4.0
_ANGLES: Array = np.pi * (np.arange(NODES) + 0.5) / NODES
_POINTS: Array = np.cos(_ANGLES)
#: T_n at the points, row by n, so that a function's nth coefficient is the product with its values.
_MODES: Array = np.cos(np.arange(NODES)[:, None] * _ANGLES) * (2.0 / NODES)
_MODES[0] *= 0.5


def condense(rows: Rows, size: str) -> Rows:
    """Replace the rows of crowded panels by the panels' points, so that sums over rows agree.

    What becomes of a row depends on the rows of its own pool alone.

    Parameters
    ----------
    rows
        The column ``size`` is positive, every other column a weight.
    size
        The column that functions are evaluated at.

    Returns
    -------
    Rows with the same columns as floats, or the same rows where no panel is crowded.
    """
    if len(rows) <= NODES:
        return rows
    t = np.log(rows[size]) / np.log(GROWTH)
    panel = np.floor(t)
    least, width = panel.min(), int(np.ptp(panel)) + 1
    cell = rows.pool * width + (panel - least).astype(np.int64)
    order = np.argsort(cell, kind="stable")  # linear where rows are sorted, as they mostly are
    first = np.flatnonzero(np.diff(cell[order], prepend=-1))
    crowd = np.diff(first, append=len(order))
    crowded = crowd > NODES
    if not crowded.any():
        return rows
    moved = order[np.repeat(crowded, crowd)]
    number = np.repeat(np.arange(crowded.sum()), crowd[crowded])
    names = [name for name in rows.columns if name != size]
    place = 2.0 * (t - panel)[moved] - 1.0
    weights = _weights(place, number, [rows[name][moved] for name in names])
    origin, begun = np.divmod(cell[order[first[crowded]]], width)
    nodes = GROWTH ** ((begun + least + 0.5)[:, None] + 0.5 * _POINTS)
    stay = np.sort(order[np.repeat(~crowded, crowd)])
    return _joined(
        rows, stay, np.repeat(origin, NODES), {size: nodes} | dict(zip(names, weights, strict=True))
    )


def _weights(place: Array, number: Codes, columns: Sequence[NDArray[Any]]) -> list[Array]:
    """Weights of the points of K panels, (K, N) for each column.

    ``place`` is in [−1, 1], ``number`` the panel of each row, ascending. The moments Σ w T_n(place)
    are all that an interpolating polynomial asks of the rows.
    """
    panels = int(number[-1]) + 1
    found = [np.zeros((panels, NODES)) for _ in columns]
    before, now = place, np.ones_like(place)
    for mode in _MODES:
        for total, weight in zip(found, columns, strict=True):
            total += np.bincount(number, weight * now, panels)[:, None] * mode
        before, now = now, 2.0 * place * now - before
    return found


def _joined(rows: Rows, stay: Codes, pool: Codes, nodes: dict[str, Array]) -> Rows:
    """Put points behind the rows that stay, pool by pool."""
    pools = np.concatenate([rows.pool[stay], pool])
    order = np.argsort(pools, kind="stable")
    columns = {
        name: np.concatenate([rows[name][stay], nodes[name].ravel()])[order]
        for name in rows.columns
    }
    return Rows(rows.n_pools, pools[order], columns)
