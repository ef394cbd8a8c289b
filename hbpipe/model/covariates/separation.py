"""Coefficients that the likelihood of counts drives to infinity.

A store without a success, or without a failure, or without any count, is likeliest at the end of
the line. Where a direction d of the coefficients moves only such stores, each towards its own
end, the likelihood rises along it for ever, whatever the spread: x'd = 0 for every other store
(Albert and Anderson 1984, *Biometrika* 71; Correia, Guimarães and Zylkin 2019). The usual case is
a category without any success. The stores that such directions move are *runaway*; the others
determine the remaining coefficients.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.covariates.sketch import CovariateSketch, StandardSketch
from hbpipe.model.covariates.units import Units, orthogonal, standard_units
from hbpipe.model.family import Array, Family
from hbpipe.model.numerics.grouped import Rows

#: A row that moves by less than this along a direction of length one stays where it is.
_ROUNDING = 1e-6
#: No runaway coefficient is reported larger than this, in standard units.
_FARTHEST = 1e6


def standardise(base: Family, sketch: CovariateSketch, apart: bool = True) -> StandardSketch:
    """Return the sketch in standard units; it is returned as it is when it already has them.

    ``apart`` gives coefficients that run away axes of their own, on which a fit holds them. A
    hyperprior keeps them finite.
    """
    if isinstance(sketch, StandardSketch):
        return sketch
    units = standard_units(sketch.rows)
    if not apart:
        return sketch.in_units(units)
    sides = _sides(base, sketch.parts)
    moved = _runaway(sketch.rows, sides) & (units.collinear[sketch.rows.pool] < 0)
    if not moved.any():
        return sketch.in_units(units)
    units = standard_units(sketch.rows, moved)
    lower, upper = base.bounds
    towards = _towards(units, sketch.rows, moved, sides, float(upper[0] - lower[0]))
    return sketch.in_units(replace(units, runaway=towards))


def _sides(base: Family, parts: Any) -> NDArray[np.int8]:
    """Which end of the line a sub-pool alone would be taken to, −1, 1 or 0 for neither, (U,)."""
    lower, upper = base.bounds
    side = np.zeros(parts.n_pools, np.int8)
    if not np.isfinite(lower[0]):
        return side[:-1]
    for case in base.degeneracies(parts):
        side[case.pools & (case.limit[:, 0] <= lower[0])] = -1
        side[case.pools & (case.limit[:, 0] >= upper[0])] = 1
    return side[:-1]


def unbounded(base: Family, sketch: CovariateSketch, precision: Array) -> NDArray[np.bool_]:
    """Whether the likelihood of a pool has no end in a direction that its hyperprior leaves free.

    ``precision`` (G, P, P) is that of the normal hyperprior of the coefficients. Directions that it
    leaves free are those that move none of its rows.
    """
    rows, width = sketch.rows, precision.shape[1]
    pool = np.concatenate([rows.pool, np.repeat(np.arange(rows.n_pools), width)])
    order = np.argsort(pool, kind="stable")
    kept = np.ones(rows.n_pools * width)
    columns = {
        "x": np.concatenate([rows["x"], precision.reshape(-1, width)])[order],
        "stores": np.concatenate([rows["stores"], kept])[order],
    }
    sides = np.concatenate([_sides(base, sketch.parts), 0 * kept.astype(np.int8)])[order]
    moved = _runaway(Rows(rows.n_pools, pool[order], columns), sides)
    return np.bincount(pool[order][moved], minlength=rows.n_pools) > 0


def _runaway(rows: Rows, sides: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Sub-pools that some direction moves to their end while it moves none elsewhere, (U,)."""
    moved = np.zeros(len(rows), bool)
    if not sides.any():
        return moved
    matrix, idle = orthogonal(rows, np.where(sides == 0, rows["stores"], 0.0))
    first = np.searchsorted(rows.pool, np.arange(rows.n_pools + 1))
    for pool in np.flatnonzero(idle.any(axis=1)):
        members = np.arange(first[pool], first[pool + 1])
        edge = members[sides[members] != 0]
        # A pool with only one kind of outcome has a word of its own.
        if len(set(sides[members].tolist())) > 1:
            along = rows["x"][edge] @ matrix[pool][:, idle[pool]]
            moved[edge] = _movable(along * sides[edge, None])
    return moved


def _movable(along: Array) -> NDArray[np.bool_]:
    """Rows u (U, K) with u'a > 0 for some a that has u'a ≥ 0 for all.

    Linear programme: maximise Σ u'a with u'a ≥ 0 and |a| ≤ 1. What it moves may be moved back a
    little by the next direction, so it no longer counts, until nothing moves.
    """
    size = np.max(np.abs(along), axis=0)
    along = along / np.where(size > 0, size, 1.0)
    moved = ~np.ones(len(along), bool)
    left = np.flatnonzero(np.any(np.abs(along) > _ROUNDING, axis=1))
    while len(left):
        rows = along[left]
        found = _minimise(
            -np.mean(rows, axis=0),
            A_ub=-rows,
            b_ub=np.zeros(len(rows)),
            bounds=[(-1.0, 1.0)] * rows.shape[1],
        )
        moves = rows @ found > _ROUNDING
        if not moves.any():
            break
        moved[left[moves]] = True
        left = left[~moves]
    return moved


def _towards(
    units: Units, rows: Rows, moved: NDArray[np.bool_], sides: NDArray[np.int8], line: float
) -> Array:
    """Find standard coefficients (G, P) that take runaway sub-pools past the end of the line."""
    towards, z = units.runaway.copy(), units.apply(rows)
    for pool in np.unique(rows.pool[moved]):
        members = moved & (rows.pool == pool)
        axes = np.isfinite(units.runaway[pool])
        direction, margin = _widest(z[members][:, axes] * sides[members, None])
        towards[pool, axes] = direction * min(2.0 * line / margin, _FARTHEST)
    return towards


def _widest(along: Array) -> tuple[Array, float]:
    """Find a with |a| ≤ 1 that moves the row that it moves least by most: a, and by how much.

    Linear programme: maximise m with m ≤ u'a for the rows u (U, K).
    """
    rows, columns = along.shape
    direction = _minimise(
        np.append(np.zeros(columns), -1.0),
        A_ub=np.hstack([-along, np.ones((rows, 1))]),
        b_ub=np.zeros(rows),
        bounds=[(-1.0, 1.0)] * columns + [(None, None)],
    )
    return direction[:-1], max(float(direction[-1]), np.finfo(np.float64).tiny)


def _minimise(objective: Array, **programme: Any) -> Array:
    from scipy.optimize import linprog  # a quarter of a second, and most nights have no covariates

    found = linprog(objective, method="highs", **programme)
    if found.status != 0:
        raise FitError(
            f"the search for separated stores failed: {found.message}",
            expected="covariates of ordinary size",
            remedy="centre and scale the covariates, or leave out those of a few stores only",
        )
    return np.asarray(found.x)
