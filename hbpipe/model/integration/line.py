"""Integration over one hyperparameter that is left: a trapezoidal rule around the mode.

For a smooth density that falls off on both sides its error is exponentially small in 1/step
(Trefethen and Weideman 2014). A rule that has every second node must agree with the whole one.
"""

from __future__ import annotations

import numpy as np

from hbpipe.model.family import Array
from hbpipe.model.numerics.modes import LogDensity, Mode

#: The first step in sds at the mode, and how often it may be halved.
_STEP, _HALVINGS = 1.0, 5
#: The density is followed to e^−14 of its mode, and over so many steps at most on each side.
_DEPTH, _FARTHEST = 14.0, 512
#: Nodes that are looked at together on the way out.
_AT_ONCE = 8
#: Share of the probability, and part of an sd, in which both rules may differ.
_AGREE = 1e-4
#: Nodes that together have less weight than this are left out.
_NEGLIGIBLE = 1e-5


def line_nodes(density: LogDensity, mode: Mode) -> tuple[Array, Array]:
    """Nodes (S, 1) and their weights (S,), adding to one, for a density of one variable."""
    step = _STEP * float(np.sqrt(mode.covariance[0, 0]))
    for _ in range(_HALVINGS):
        points = _outward(density, mode, step)
        mass = np.exp(points[1] - np.max(points[1]))
        if _resolved(points[0], mass):
            break
        step *= 0.5
    order = np.argsort(mass, kind="stable")
    kept = np.sort(order[np.cumsum(mass[order]) > _NEGLIGIBLE * np.sum(mass)])
    return points[0][kept, None], mass[kept] / np.sum(mass[kept])


def _outward(density: LogDensity, mode: Mode, step: float) -> tuple[Array, Array]:
    """Places from the mode outward until the density has fallen off: x and log density (S,)."""
    centre = float(mode.point[0])
    numbers: list[Array] = [np.zeros(1)]
    values: list[Array] = [density(mode.point[None])]
    for side in (-1.0, 1.0):
        for first in range(1, _FARTHEST, _AT_ONCE):
            some: Array = side * np.arange(first, first + _AT_ONCE, dtype=np.float64)
            numbers.append(some)
            values.append(density(centre + step * some[:, None]))
            if values[-1][-1] < np.max(np.concatenate(values)) - _DEPTH:
                break
    number = np.concatenate(numbers)
    order = np.argsort(number)
    return np.asarray(centre + step * number[order]), np.concatenate(values)[order]


def _resolved(x: Array, mass: Array) -> bool:
    """Whether every second node gives the same mass, and the same mean."""
    parts = [mass[0::2].sum(), mass[1::2].sum()]
    means = [np.sum(mass[k::2] * x[k::2]) / parts[k] for k in (0, 1)]
    whole = np.sum(mass)
    mean = np.sum(mass * x) / whole
    sd = np.sqrt(np.sum(mass * (x - mean) ** 2) / whole)
    near = abs(parts[0] - parts[1]) <= _AGREE * whole
    return bool(near and abs(means[0] - means[1]) <= _AGREE * sd)
