"""One climb to a summit, also where a covariance between stores loses a rank.

With Λ of Σ = σ² Λ Λ' as coordinates the gradient along a column of Λ that is zero vanishes by
symmetry, at a summit and at a saddle alike. So the walk knows no bound at 0: there it converges,
or not, as it does elsewhere. What it finds is folded to the bounded coordinates; columns of Λ
that have become zero are set aside, because what they hold has no meaning, and their curvature
then tells summits from saddles: moving a zero column by w changes log L by −½ w'Qw, so its block
of the Hessian must not have a positive eigenvalue. From a saddle the climb goes on.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.estimation.problem import Problem
from hbpipe.model.family import Array, Codes, Derivatives
from hbpipe.model.numerics.optimise import Optimum, maximise

#: A spread below this share of its scale is tried as none.
_NEARLY_NONE = 1e-3
#: A spread below this share of its scale is rounding.
_ROUNDING = 1e-9
#: Curvature up to this share of the largest is rounding.
_LEVEL = 1e-10
#: First step off a saddle, in units of the scale.
_STEP = 0.1


def climb(problem: Problem, start: Array) -> Optimum:
    """Climb from a start (G, D) to a local maximum of each pool's objective."""
    family = problem.family
    lower, upper = family.bounds
    scale = family.scale(problem.sketch)
    if family.mirror is None:
        return maximise(problem.objective, start, lower, upper, scale, problem.free)
    across = np.where(np.isin(np.arange(len(lower)), family.spreads), -np.inf, lower)
    best = maximise(problem.objective, start, across, upper, scale, problem.free)
    tolerance = _NEARLY_NONE * scale
    for _ in family.spreads:
        best, saddles = _fold(problem, best, tolerance, across)
        if len(saddles) == 0:
            return best
        # What comes back with a small spread after a saddle has one, unless it is rounding.
        tolerance[saddles] = _ROUNDING * scale[saddles]
        off = _step_off(problem, best, saddles)
        best = _again(problem, best, off, problem.free, across, saddles)
    best.converged[saddles] = False
    return best


def lifted(coordinates: Array, floor: Array, bounded: NDArray[np.bool_]) -> Array:
    """Raise bounded coordinates (G, D) to a floor."""
    return np.where(bounded, np.maximum(coordinates, floor), coordinates)


def _fold(
    problem: Problem, found: Optimum, tolerance: Array, across: Array
) -> tuple[Optimum, NDArray[np.int64]]:
    """Fold optima to their bounded coordinates and settle there; also give the saddles (A,)."""
    mirror = problem.family.mirror
    assert mirror is not None
    # What is held stays as it is, signs included.
    small = np.where(problem.free, tolerance, 0.0)
    folded, lost = mirror.fold(found.coordinates, small)
    pinned = lost & problem.free
    moved = np.flatnonzero(np.any(folded != found.coordinates, axis=1) | pinned.any(axis=1))
    if len(moved) == 0:
        return found, moved
    best = _again(problem, found, folded, problem.free & ~pinned, across, moved)
    best = replace(best, active=np.where(pinned, np.int8(-1), best.active))
    upward, _ = _steepest(problem, best, pinned)
    return best, np.flatnonzero(upward)


def _again(
    problem: Problem,
    found: Optimum,
    start: Array,
    free: NDArray[np.bool_],
    lower: Array,
    pools: Codes,
) -> Optimum:
    """Climb once more in some of the pools, and put the results in place."""
    upper, scale = problem.family.bounds[1], problem.family.scale(problem.sketch)

    def objective(coordinates: Array, chosen: Codes) -> Derivatives:
        return problem.objective(coordinates, pools[chosen])

    part = maximise(objective, start[pools], lower, upper, scale[pools], free[pools])
    whole = {name: values.copy() for name, values in vars(found).items()}
    for name, values in vars(part).items():
        whole[name][pools] = values + (whole["rounds"][pools] if name == "rounds" else 0)
    return Optimum(**whole)


def _steepest(
    problem: Problem, found: Optimum, pinned: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], Array]:
    """Whether the objective rises from a stationary point along pinned coordinates, and where to.

    Along some of them it may be level: a zero column that grows along later ones only turns Λ. So
    the curvature is measured against that along all coordinates, in units of the scale.
    """
    scale = problem.family.scale(problem.sketch)
    relative = found.hessian * scale[:, :, None] * scale[:, None, :]
    rounding = _LEVEL * np.max(np.abs(np.einsum("gii->gi", relative)), axis=1)
    both = pinned[:, :, None] & pinned[:, None, :]
    rises, directions = np.linalg.eigh(np.where(both, relative, 0.0))
    return rises[:, -1] > rounding, directions[:, :, -1] * scale


def _step_off(problem: Problem, found: Optimum, saddles: Codes) -> Array:
    """Move a little along the direction of a zero column in which the objective rises fastest."""
    spreads = np.isin(np.arange(found.active.shape[1]), problem.family.spreads)
    pinned = (found.active == -1) & problem.free & spreads
    start = found.coordinates.copy()
    start[saddles] += _STEP * _steepest(problem, found, pinned)[1][saddles]
    return start
