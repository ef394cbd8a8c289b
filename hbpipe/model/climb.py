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

from hbpipe.model.family import Array, Codes, Derivatives
from hbpipe.model.optimise import Curvature, Optimum, maximise
from hbpipe.model.problem import Problem

#: A spread below this share of its scale is tried as none.
_NEARLY_NONE = 1e-3
#: An eigenvalue of a scaled Hessian up to this is rounding.
_LEVEL = 1e-9
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
        # What comes back with a small spread after a saddle has one.
        tolerance[saddles] = 0.0
        off = _step_off(problem, best, scale, saddles)
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
    scale = problem.family.scale(problem.sketch)
    curvature = Curvature.of(best.hessian, np.zeros_like(folded), scale, pinned)
    return best, np.flatnonzero(curvature.eigenvalues.min(axis=1) < -_LEVEL)


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


def _step_off(problem: Problem, found: Optimum, scale: Array, saddles: Codes) -> Array:
    """Move along the direction of a zero column in which the objective rises fastest."""
    pinned = (found.active == -1) & problem.free
    pinned[:, [axis for axis in range(pinned.shape[1]) if axis not in problem.family.spreads]] = 0
    curvature = Curvature.of(found.hessian, 0.0 * found.gradient, scale, pinned)
    start = found.coordinates.copy()
    for pool in saddles:
        direction = curvature.vectors[pool, :, 0] * curvature.unit[pool]
        direction = direction / np.max(np.abs(direction) / scale[pool])
        start[pool] += _STEP * direction
    return start
