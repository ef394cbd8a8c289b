"""Mode and curvature of a log density that is known only by its values.

Derivatives are central differences over a stencil that one call evaluates. The steps are sought
first, so a variable may have any unit: a mean in cents, the logarithm of an sd. Everything is
deterministic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hbpipe.model.family import Array

#: (S, V) -> (S,), −∞ where a point is impossible.
LogDensity: TypeAlias = Callable[[Array], Array]

#: The first step tried of each variable, how often it is changed fourfold, and the largest change
#: of the log density over one that counts as local.
_FIRST, _TRIES, _LOCAL = 0.25, 20, 0.5
#: Distances at which a better start is sought along a log sd.
_SCAN = np.concatenate([np.arange(-8.0, 0.0), np.arange(1.0, 9.0)])
#: Steps of differences in conditional sds: the error of a second derivative is a thousandth of
#: the fourth one's, and rounding has three digits to spare at values of a million.
_SHARE = 0.05
#: The same of third derivatives.
_APART = 0.25
_ITERATIONS = 100
#: Fractions of a Newton step that are tried at once.
_FRACTIONS = 2.0 ** np.arange(2.0, -26.0, -1.0)
#: A Newton step that promises less gain in log density than this ends the search.
_ENOUGH = 1e-8
#: Steps are no longer than this many steps of differences.
_LONGEST = 1e7
#: Least eigenvalue, relative to the largest, of a curvature that counts as definite.
_DEFINITE = 1e-7


@dataclass(frozen=True)
class Mode:
    """A mode of a density of ``V`` variables.

    Parameters
    ----------
    point
        (V,).
    value
        The log density there.
    covariance
        (V, V) the inverse of the negative Hessian, made positive definite where it is not.
    regular
        Whether the Hessian is negative definite, and the search arrived.
    """

    point: Array
    value: float
    covariance: Array
    regular: bool

    @property
    def root(self) -> Array:
        """A square root of the covariance, (V, V), whose axes stay near to the variables.

        That of the correlations is symmetric, so that an axis along which only one variable
        matters remains that variable's, and so does the skewness of its density.
        """
        return root_of(self.covariance)


def root_of(covariance: Array) -> Array:
    """Square root diag(sd) R^½ of a covariance, (V, V), with the symmetric root of R."""
    sd = np.sqrt(np.diag(covariance))
    eigenvalues, vectors = np.linalg.eigh(covariance / np.outer(sd, sd))
    root = (vectors * np.sqrt(np.maximum(eigenvalues, 1e-12))) @ vectors.T
    return np.asarray(sd[:, None] * root)


def find_mode(density: LogDensity, start: Array, spreads: tuple[int, ...] = ()) -> Mode:
    """Climb to a mode from the better of ``start`` and a scan along the log sds.

    Newton's method with the curvature made positive definite; each step is the best of many
    fractions. A start may be far away, or on a plain.

    Parameters
    ----------
    density
        The log density.
    start
        (V,), finite, with a finite density.
    spreads
        Numbers of the variables that are logarithms of sds.
    """
    point = _scan(density, start, spreads)
    steps = _local_steps(density, point)
    for _ in range(_ITERATIONS):
        value, gradient, hessian, steps = _differences(density, point, steps)
        newton, promised, definite = _newton(gradient, hessian, steps)
        arrived = definite and promised < _ENOUGH
        if arrived:
            break
        trials = point + _FRACTIONS[:, None] * newton
        values = density(trials)
        best = int(np.argmax(values))
        if not values[best] > value + 1e-14 * abs(value):
            arrived = definite and promised < 1e3 * _ENOUGH
            break
        point = trials[best]
        steps = _renewed(steps, gradient, hessian)
    steps = _renewed(steps, gradient, hessian)
    value, gradient, hessian, steps = _differences(density, point, steps)
    return _as_mode(point, value, hessian, steps, arrived)


def _scan(density: LogDensity, start: Array, spreads: tuple[int, ...]) -> Array:
    """Return the best of the start and points that move one log sd, or all of them."""
    moves = [np.zeros((1, len(start)))]
    for group in [*((place,) for place in spreads), spreads]:
        move = np.zeros((len(_SCAN), len(start)))
        move[:, list(group)] = _SCAN[:, None]
        moves.append(move)
    points = start + np.concatenate(moves)
    return np.asarray(points[int(np.argmax(density(points)))])


def _local_steps(density: LogDensity, point: Array) -> Array:
    """For each variable a step over which the density changes a little, (V,).

    Steps grow or shrink fourfold, all variables in one call, until they are right; a variable
    that changes nothing at all keeps the first.
    """
    value, axes = density(point[None])[0], np.eye(len(point))
    steps = np.full(len(point), _FIRST)
    grows, searching = np.ones(len(point), bool), np.ones(len(point), bool)
    for number in range(_TRIES):
        ends = density(np.concatenate([point + steps * axes, point - steps * axes]))
        local = np.all(np.abs(ends.reshape(2, -1) - value) <= _LOCAL, axis=0)
        if number == 0:
            grows = local
        searching &= local == grows
        steps = np.where(searching, np.where(grows, 4.0, 0.25) * steps, steps)
        if not searching.any():
            break
    # The last step of one that grew was too long.
    return np.where(searching, _FIRST, np.where(grows, 0.25 * steps, steps))


def _renewed(steps: Array, gradient: Array, hessian: Array) -> Array:
    """Fit the steps to curvature and slope as last seen, at most ten times as large or small."""
    with np.errstate(divide="ignore"):
        wanted = np.minimum(
            _SHARE / np.sqrt(np.abs(np.diag(hessian))), 0.1 * _LOCAL / np.abs(gradient)
        )
    return np.clip(wanted, 0.1 * steps, 10.0 * steps)


def _differences(
    density: LogDensity, point: Array, steps: Array
) -> tuple[float, Array, Array, Array]:
    """Value, gradient (V,) and Hessian (V, V) by central differences, and the steps used.

    One call for the point, 2 V points along the axes and V (V − 1) along their diagonals
    (Abramowitz and Stegun 1964, 25.3.23 and 25.3.27). Steps that reach where the density
    vanishes are shortened.
    """
    variables = len(point)
    first, second = np.triu_indices(variables, 1)
    axes = np.eye(variables)
    half = np.concatenate([axes, axes[first] + axes[second]])
    stencil = np.concatenate([np.zeros((1, variables)), half, -half])
    values = density(point + steps * stencil)
    for _ in range(20):
        if np.isfinite(values).all():
            break
        steps = 0.25 * steps
        values = density(point + steps * stencil)
    value, above, below = values[0], values[1 : len(half) + 1], values[len(half) + 1 :]
    along = above + below - 2.0 * value
    single = along[:variables]
    hessian = np.diag(single)
    mixed = 0.5 * (along[variables:] - single[first] - single[second])
    hessian[first, second] = hessian[second, first] = mixed
    gradient = 0.5 * (above - below)[:variables] / steps
    return float(value), gradient, hessian / np.outer(steps, steps), steps


def _newton(gradient: Array, hessian: Array, steps: Array) -> tuple[Array, float, bool]:
    """Newton step, the gain that it promises, and whether the curvature was definite."""
    slope, curvature = gradient * steps, -hessian * np.outer(steps, steps)
    eigenvalues, vectors = np.linalg.eigh(curvature)
    definite = bool(eigenvalues[0] > _DEFINITE * eigenvalues[-1])
    size = np.maximum(np.abs(eigenvalues), _DEFINITE * np.max(np.abs(eigenvalues)) + 1e-300)
    step = vectors @ ((vectors.T @ slope) / size)
    step *= min(1.0, _LONGEST / max(float(np.max(np.abs(step))), 1e-300))
    return step * steps, 0.5 * float(step @ slope), definite


def _as_mode(point: Array, value: float, hessian: Array, steps: Array, arrived: bool) -> Mode:
    """Invert the curvature, in units in which its diagonal is about one."""
    eigenvalues, vectors = np.linalg.eigh(-hessian * np.outer(steps, steps))
    regular = bool(eigenvalues[0] > _DEFINITE * eigenvalues[-1]) and arrived
    size = np.maximum(np.abs(eigenvalues), 1e-4 * np.max(np.abs(eigenvalues)) + 1e-300)
    size = eigenvalues if regular else size
    covariance = (vectors / size) @ vectors.T * np.outer(steps, steps)
    return Mode(point, value, covariance, regular)


def marginal_mode(density: LogDensity, mode: Mode, spreads: tuple[int, ...]) -> Array:
    """Move from the joint mode to the marginal modes of some variables, (V,).

    By Laplace's method a marginal differs from the profile by −½ log |−H| of the other variables,
    and one Newton step accounts for its slope (Tierney and Kadane 1986). Where the curvature is
    the identity, that slope along an axis is half the sum of the third derivatives, once along
    it and twice along each other axis. The other variables follow to where they are likeliest.
    A step is no longer than an sd: beyond, the expansion is no good.
    """
    if not spreads:
        return mode.point
    places, root = list(spreads), mode.root
    sd = np.sqrt(np.diag(mode.covariance))[places]
    paths = mode.covariance[places] / sd[:, None]
    steps = np.clip([_marginal_slope(density, mode, root, path) for path in paths], -1.0, 1.0)
    within = np.linalg.solve(mode.covariance[np.ix_(places, places)], sd * steps)
    return np.asarray(mode.point + mode.covariance[:, places] @ within)


def _marginal_slope(density: LogDensity, mode: Mode, root: Array, path: Array) -> float:
    """Slope of −½ log |−H| of all directions but the path, along it, at the mode."""
    axes = np.concatenate([np.zeros((1, len(path))), _APART * root.T, -_APART * root.T])
    ends = _APART * np.array([1.0, -1.0])[:, None, None] * path
    values = density((mode.point + ends + axes).reshape(-1, len(path))).reshape(2, -1)
    curvature = np.sum(values[:, 1:] - values[:, :1], axis=1) / _APART**2
    twice = density(mode.point + 2.0 * ends[:, 0])
    own = (twice[0] - twice[1] - 2.0 * (values[0, 0] - values[1, 0])) / (2.0 * _APART**3)
    return float(0.5 * ((curvature[0] - curvature[1]) / (2.0 * _APART) - own))
