"""Where the climbs of a fit begin: the moments, the same without spread, and with a large one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hbpipe.model.covariates.units import Units
from hbpipe.model.estimation.climb import lifted
from hbpipe.model.estimation.problem import Problem, hold
from hbpipe.model.family import Array

#: Starts keep this share of the scale away from 0 where the gradient vanishes by symmetry.
_LIFT = 0.05


def inside(sketch: Any, coordinates: Array) -> Array:
    """Coordinates in the units of the sketch."""
    units = getattr(sketch, "units", None)
    return units.inside(coordinates) if isinstance(units, Units) else coordinates


def first_start(problem: Problem, start: Mapping[str, Any] | None) -> Array:
    """Moments, or the given start where it says something, inside the bounds."""
    moments = problem.family.start(problem.sketch, problem.held)
    if start:
        given = inside(problem.sketch, hold(problem.family, start, len(moments)))
        moments = np.where(np.isnan(given), moments, given)
    return problem.settle(moments)


def starts(problem: Problem, first: Array) -> list[Array]:
    """Give the first start, the same without spread, and the same with a large spread.

    Every coordinate that begins at 0 is a spread of something. Spreads of several levels of
    groups may each be zero alone.
    """
    family = problem.family
    bounded = family.bounds[0] == 0.0
    spreads = bounded | np.isin(np.arange(first.shape[1]), family.spreads)
    if not (problem.free & spreads).any():
        return [first]
    scale = family.scale(problem.sketch)
    alike = np.where(spreads, 0.0, first)
    apart = np.where(bounded, scale, alike)
    found = [first, problem.settle(alike), problem.settle(apart)]
    if family.mirror is None:
        return found + _level_by_level(problem, first)
    # Where the gradient vanishes at 0 by symmetry, no climb may begin there.
    return [problem.settle(lifted(start, _LIFT * scale, bounded)) for start in found]


def _level_by_level(problem: Problem, first: Array) -> list[Array]:
    """Without the spread of one level alone, where there are several."""
    axes, found = problem.family.spreads, []
    for axis in axes if len(axes) > 1 else []:
        start = first.copy()
        start[:, axis] = 0.0
        found.append(problem.settle(start))
    return found
