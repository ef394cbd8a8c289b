"""Full Bayes by a dense tensor grid over the whole posterior of the hyperparameters.

For two free hyperparameters, or three where the stores are few. The axes are turned and scaled by
the curvature at the mode, then a box is grown until the density on every face has fallen to e⁻¹⁸
of its peak. Points are at sinh u for equally spaced u: dense about the mode, sparse in tails, which
may be a thousand times longer. On a smooth density that vanishes at both ends the trapezoidal rule
converges faster than any power of the step (Trefethen and Weideman 2014); half the points must say
the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special
from scipy.optimize import elementwise

from hbpipe.errors import FitError
from hbpipe.full_bayes.answer import Answer
from hbpipe.full_bayes.library import SCIPY
from hbpipe.full_bayes.problem import Problem

Array = NDArray[np.float64]

#: The fall of the log density from its peak to the faces of the box.
_FALL = 18.0
#: The step of u by the number of axes, in standard deviations at the mode.
_STEPS = {0: 1.0, 1: 0.02, 2: 0.08, 3: 0.14}
#: Points of an axis of a box that was not grown, for an estimate of the work.
_USUAL = {0: 1, 1: 265, 2: 67, 3: 39}
#: Points whose weight is less tell nothing of any store.
_NEGLIGIBLE = 1e-10
#: Points of the grid times rows that are evaluated at once, and at all.
_AT_ONCE, MOST_EVALUATIONS = 2_000_000, 600_000_000
#: Moments from half the points differ by no more than this, in sds.
_AGREEMENT = 1e-3
#: e to this power is beyond any scale.
_FARTHEST = 200.0
#: How often a face is moved out.
_MOST_MOVES = 60

#: Law → mean, variance and cdf at its two parameters.
LAWS: dict[str, tuple[Callable[..., Array], Callable[..., Array], Callable[..., Array]]] = {
    "beta": (
        lambda a, b: a / (a + b),
        lambda a, b: a * b / ((a + b) ** 2 * (a + b + 1.0)),
        lambda x, a, b: special.betainc(a, b, np.clip(x, 0.0, 1.0)),
    ),
    "gamma": (
        lambda a, rate: a / rate,
        lambda a, rate: a / rate**2,
        lambda x, a, rate: special.gammainc(a, np.maximum(x, 0.0) * rate),
    ),
    "normal": (
        lambda mean, variance: mean,
        lambda mean, variance: variance,
        lambda x, mean, variance: special.ndtr((x - mean) / np.sqrt(variance)),
    ),
}


def integrate(problem: Problem, levels: tuple[float, float]) -> Answer:
    """Integrate over the hyperparameters, and mix the stores' conjugate posteriors.

    Parameters
    ----------
    problem
        Of a family with a law for the grid, and at most three free hyperparameters.
    levels
        Of the two quantiles.

    Raises
    ------
    FitError
        When the posterior has no mode, or does not fall off: it is improper, or next to it.
    """
    points, weights, coarse = _grid(problem)
    h, _ = problem.hyperparameters(SCIPY, [column[:, None] for column in points.T])
    assert problem.likelihood.law is not None
    law, *parameters = problem.likelihood.law(h, problem.chosen)
    shape = (len(weights), len(problem.chosen[problem.likelihood.columns[0]]))
    first, second = (np.broadcast_to(parameter, shape) for parameter in parameters)
    moments = partial(_moments, LAWS[law], first, second)
    mean, sd = moments(weights)
    with np.errstate(invalid="ignore"):  # half of a grid that misses the mass may have none of it
        rough, rough_sd = moments(weights * coarse)
    moved = float(max(np.max(np.abs(rough - mean) / sd), np.max(np.abs(rough_sd / sd - 1.0))))
    low, high = (_quantile(LAWS[law][2], weights, first, second, q, mean, sd) for q in levels)
    columns = {"mean": mean, "sd": sd, "low": low, "high": high}
    return Answer(
        **{name: values[:, None] for name, values in columns.items()},
        error={name: np.zeros((shape[1], 1)) for name in columns},
        method="quadrature",
        told={"points": len(weights), "moved by half of them": moved},
        trouble=None
        if moved <= _AGREEMENT
        else f"half the points of the grid say {moved:.2g} sd else",
    )


def is_affordable(problem: Problem) -> bool:
    """Tell whether a grid of its hyperparameters over all its stores is not too much work."""
    size = len(problem.axes)
    if size not in _STEPS or problem.likelihood.law is None:
        return False
    rows = len(problem.counts) + len(problem.chosen[problem.likelihood.columns[0]])
    return bool(_USUAL[size] ** size * rows <= MOST_EVALUATIONS)


def _grid(problem: Problem) -> tuple[Array, Array, Array]:
    """Return the points (S, D) that matter, their weights, and which are on the grid of half."""
    size, density = len(problem.axes), partial(_log_density, problem)
    mode, turn = _mode(density, size)
    bounded = np.array([axis.support != "real" for axis in problem.axes], np.bool_)
    box = _box(density, mode, turn, bounded)
    whole = [np.rint(np.arcsinh(np.array(ends)) / _STEPS[size]).astype(np.int64) for ends in box]
    steps = [np.arange(first, last + 1) for first, last in whole]
    numbers = np.array(list(product(*steps)), np.int64).reshape(prod(map(len, steps)), size)
    u = _STEPS[size] * numbers
    points = mode + np.sinh(u) @ turn.T
    values = density(points) + np.log(np.cosh(u)).sum(axis=1)
    mass = np.exp(values - values.max())
    kept = mass > _NEGLIGIBLE
    return points[kept], mass[kept], 1.0 * np.all(numbers[kept] % 2 == 0, axis=1)


def _log_density(problem: Problem, points: Array) -> Array:
    """Log posterior of the hyperparameters at points (S, D), up to a constant; −∞ where none."""
    rows, counts = problem.everyone()
    parts = []
    with np.errstate(all="ignore"):
        for chunk in _chunks(points, len(counts)):
            h, prior = problem.hyperparameters(SCIPY, [column[:, None] for column in chunk.T])
            each = problem.likelihood.log_marginal(SCIPY, h, rows)
            total = np.broadcast_to(each, (len(chunk), len(counts))) @ counts
            parts.append(total + np.broadcast_to(prior, (len(chunk), 1))[:, 0])
    found = np.concatenate(parts)
    return np.where(np.isnan(found), -np.inf, found)


def _chunks(points: Array, rows: int) -> Iterator[Array]:
    size = max(1, _AT_ONCE // max(rows, 1))
    for start in range(0, len(points), size):
        yield points[start : start + size]


def _mode(density: Callable[[Array], Array], size: int) -> tuple[Array, Array]:
    """Return the mode (D,), and axes (D, D) in which the density there is about standard normal."""
    if not size:
        return np.zeros(0), np.zeros((0, 0))
    worst = 1e30
    start = density(np.zeros((1, size)))[0]

    def loss(x: Array) -> float:
        return float(min(start - density(x[None])[0], worst))

    found = optimize.minimize(
        loss,
        np.zeros(size),
        method="Nelder-Mead",
        options={"maxiter": 2000, "maxfev": 2000, "xatol": 1e-8, "fatol": 1e-10},
    )
    mode, steps = found.x, np.eye(size)
    for _ in range(4):  # differences over about one sd in axes that are turned each time
        curvature = _curvature(loss, mode, steps)
        values, vectors = np.linalg.eigh(curvature)
        steps = steps @ (vectors / np.sqrt(np.clip(values, 1e-4, None)))
    return mode, steps


def _curvature(loss: Callable[[Array], float], mode: Array, steps: Array) -> Array:
    """Second differences of the loss along the columns of ``steps``, half a step long."""
    size, width = len(mode), 0.5
    found = np.empty((size, size))
    for i, k in product(range(size), repeat=2):
        one, other = width * steps[:, i], width * steps[:, k]
        corners = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
        values = [
            sign * other_sign * loss(mode + sign * one + other_sign * other)
            for sign, other_sign in corners
        ]
        found[i, k] = sum(values) / (4.0 * width**2)
    return 0.5 * (found + found.T)


def _box(
    density: Callable[[Array], Array], mode: Array, turn: Array, bounded: NDArray[np.bool_]
) -> list[tuple[float, float]]:
    """Grow a box in turned axes until the density has fallen on all its faces.

    ``bounded`` axes are logarithms or logits: nothing is so far out that they are beyond _FARTHEST.
    """
    size = len(mode)
    box = [[-7.0, 7.0] for _ in range(size)]
    peak = density(mode[None])[0]
    for _ in range(_MOST_MOVES):
        grown = False
        for axis, side in product(range(size), (0, 1)):
            spans = [np.linspace(low, high, 21) for low, high in box]
            spans[axis] = np.array([box[axis][side]])
            face = np.array(list(product(*spans)))
            if density(mode + face @ turn.T).max() > peak - _FALL:
                box[axis][side] *= 1.25
                grown = True
        if not grown:
            return [(low, high) for low, high in box]
        reach = np.abs(turn) @ np.max(np.abs(box), axis=1)
        if np.any(reach[bounded] > _FARTHEST):
            break
    raise FitError(
        "the posterior of the hyperparameters does not fall off",
        expected="a density that vanishes at both ends of every hyperparameter",
        remedy="give proper hyperpriors: see hbpipe/model/README.md",
    )


def _moments(
    law: Sequence[Any], first: Array, second: Array, weights: Array
) -> tuple[Array, Array]:
    """Mean and sd of mixtures over points, (J,)."""
    share = weights / weights.sum()
    means, variances = law[0](first, second), law[1](first, second)
    mean = share @ means
    return mean, np.sqrt(share @ (variances + (means - mean) ** 2))


def _quantile(
    cdf: Callable[..., Array],
    weights: Array,
    first: Array,
    second: Array,
    level: float,
    mean: Array,
    sd: Array,
) -> Array:
    """Solve for the quantile of each store's mixture, (J,)."""
    share = weights / weights.sum()

    def excess(x: Array, store: NDArray[np.int64]) -> Array:
        columns = store.astype(np.int64)
        return np.asarray(share @ cdf(x, first[:, columns], second[:, columns]) - level)

    # Cantelli: beyond this many sds lies less than the level.
    reach = np.sqrt(1.0 / min(level, 1.0 - level)) * 1.01
    found = elementwise.find_root(
        excess,
        (mean - reach * sd, mean + reach * sd),
        args=(np.arange(len(mean)),),
        tolerances={"xatol": 1e-5 * float(sd.min()), "fatol": 1e-9},
    )
    return np.asarray(found.x)
