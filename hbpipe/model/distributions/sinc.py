"""Quantiles of Beta and Gamma laws, and of their mixtures, from the density alone.

An incomplete beta ratio costs as much as three hundred exponentials, and a root of it takes several
of them for each component of a mixture and each level. On the law's line (logit, logarithm) the
density is smooth and falls off on both sides; there the sinc rule gives all of the cdf from some
forty values of the density, with an error that falls exponentially in their number (Stenger 1993,
*Numerical Methods Based on Sinc and Analytic Functions*, section 3.6):

    F(u_i) = h Σ_j f(u_j) (½ + Si(π(i − j))/π).

From the point u_i nearest to a quantile, Gauss–Legendre nodes lead to the quantile itself, where
Halley's method ends. Quantiles are within 1e-9 sd.

Both laws have the log density a t₁(u) − b t₂(u) + constant on their line, and the mode log(a/b).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.family import Array

#: A component is left out of the range where weight times density has fallen by exp(−this).
_DROP = 30.0
#: The step resolves a component whose spectrum there has fallen by exp(−this).
_SPECTRUM = 27.0
#: Numbers of points of a grid; a row takes the first that is enough for it.
_POINTS = np.array([40, 48, 64, 96, 128, 192, 288, 512])
#: Levels nearer to 0 or 1 than this are left to the cdf itself.
_EXTREME = 1e-3
#: Numbers of one array of densities, which should stay in the processor's cache, and of the others.
_BLOCK, _LENGTH = 2**14, 2**17
#: Sums over even and over odd points agree to this where the grid resolves the density.
_RESOLVED = 1e-9
#: Walks from the grid to a quantile; the last step, in steps of the grid, from which on Halley's
#: method leaves less than 1e-9 sd.
_WALKS, _LAST_STEP = 4, 3e-4
_AT, _SHARE = np.polynomial.legendre.leggauss(4)
#: Nodes and weights on (0, 1), and its end without weight.
_NODES, _WEIGHTS = np.append(0.5 * (1.0 + _AT), 1.0), np.append(0.5 * _SHARE, 0.0)
#: Taylor coefficients 0 to 4 in units of the step, from the values at five neighbouring points.
_TAYLOR = np.array(
    [
        [0.0, 0.0, 1.0, 0.0, 0.0],
        [1 / 12, -2 / 3, 0.0, 2 / 3, -1 / 12],
        [-1 / 24, 2 / 3, -5 / 4, 2 / 3, -1 / 24],
        [-1 / 12, 1 / 6, 0.0, -1 / 6, 1 / 12],
        [1 / 24, -1 / 6, 1 / 4, -1 / 6, 1 / 24],
    ]
)


@dataclass(frozen=True)
class Kernel:
    """The density of a law on its line, up to its constant.

    Parameters
    ----------
    statistics
        (centre, offset) -> t₁ and t₂ at centre + offset less those at the centre. Differences keep
        the digits that logarithms of θ would lose beside large shapes.
    tails
        (a, b) -> curvature c of −log density at the mode, and the slopes of its tails below and
        above in units of c.
    """

    statistics: Callable[[Array, Array], tuple[Array, Array]]
    tails: Callable[[Array, Array], tuple[Array, Array, Array]]


@dataclass(frozen=True)
class _Rows:
    """Mixtures of R rows with the grid of each.

    ``a``, ``b`` and ``weight`` are (R, K); ``top`` (R, K) is the log density at a component's mode
    less that at the centre. The points are ``centre`` + ``low`` + i ``step``, (R,) each, with i
    below ``points``, which is 0 for a row that needs more than there are.
    """

    a: Array
    b: Array
    weight: Array
    top: Array
    centre: Array
    low: Array
    step: Array
    points: NDArray[np.int64]

    @staticmethod
    def of(kernel: Kernel, weight: Array, a: Array, b: Array) -> _Rows:
        """Find the range and the step that each row needs.

        A log density that ends as a line of slope g, in units of the curvature, has fallen by y of
        them at √(2y + (2gy/3)²) + gy/3 or before.
        """
        with np.errstate(divide="ignore"):
            mode, log_weight = np.log(a) - np.log(b), np.log(weight)
        curvature, below, above = kernel.tails(a, b)
        fall = np.maximum(_DROP + log_weight, 1.0) / curvature
        low = np.min(mode - _reach(fall, below), axis=1)
        high = np.max(mode + _reach(fall, above), axis=1)
        depth = np.maximum(_SPECTRUM + log_weight, 1.0)
        # |Γ(a + iω)/Γ(a)| falls as exp(−ω²/2a) and at last as exp(−πω/2).
        highest = np.sqrt(np.max(2.0 * depth * (curvature + depth * (2.0 / np.pi**2)), axis=1))
        needed = 1.0 + (high - low) * highest / np.pi
        points = np.append(_POINTS, 0)[np.searchsorted(_POINTS, needed)]
        centre = 0.5 * (low + high)
        step = (high - low) / np.maximum(points - 1, 1)
        at_mode = kernel.statistics(centre[:, None], np.clip(mode - centre[:, None], -700.0, 700.0))
        top = a * at_mode[0] - b * at_mode[1]
        return _Rows(a, b, weight, top, centre, low - centre, step, points)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> _Rows:
        """Return some rows."""
        return _Rows(**{name: values[rows] for name, values in vars(self).items()})


def _reach(fall: Array, slope: Array) -> Array:
    along = slope * fall / 3.0
    return np.asarray(np.sqrt(2.0 * fall + 4.0 * along * along) + along)


def sinc_quantiles(kernel: Kernel, weight: Array, a: Array, b: Array, levels: Array) -> Array:
    """Quantiles on the line, (R, Q), of R mixtures of K laws; NaN where the cdf has to find them.

    That is in rows where some component needs more points than there are (a shape far below 1, or
    components of very different width), and for extreme levels. A row's numbers do not depend on
    the other rows.

    Parameters
    ----------
    kernel
        The law's.
    weight
        (R, K), adding to one.
    a, b
        (R, K) parameters.
    levels
        (Q,).
    """
    found = np.full((len(weight), len(levels)), np.nan)
    ordinary = np.flatnonzero(np.minimum(levels, 1.0 - levels) >= _EXTREME)
    if not len(ordinary):
        return found
    rows = _Rows.of(kernel, weight, a, b)
    for points in np.unique(rows.points[rows.points > 0]).tolist():
        same = np.flatnonzero(rows.points == points)
        length = max(1, _LENGTH // (points + weight.shape[1]))
        for begin in range(0, len(same), length):
            block = same[begin : begin + length]
            found[block[:, None], ordinary] = _solve(
                kernel, rows.take(block), points, levels[ordinary]
            )
    return found


def _solve(kernel: Kernel, rows: _Rows, points: int, levels: Array) -> Array:
    """Quantiles of rows with grids of equal length, (R, Q), NaN where they are no good."""
    place, step = np.arange(points), rows.step[:, None]
    density, share = _density(kernel, rows, rows.low[:, None] + step * place)
    rough = step * (np.cumsum(density, axis=1) - 0.5 * density)
    near = np.stack([np.sum(rough < level, axis=1) for level in levels], axis=1)
    near = np.clip(near, 2, points - 3)
    missing = levels / step - _cumulative(density, near)
    taylor = _taylor(density, near)
    moved = _inverted(taylor, missing)
    open_ = np.ones(moved.shape, bool)
    for _ in range(_WALKS):
        # A level that is done no longer moves, so its bits do not depend on the other levels.
        going = np.flatnonzero(open_.any(axis=1))
        if not len(going):
            break
        some = (near[going], moved[going], missing[going], taylor[:, going])
        step_left = _walk(kernel, rows.take(going), share[going], *some)
        moved[going] += np.where(open_[going], step_left, 0.0)
        open_[going] &= np.abs(step_left) > _LAST_STEP
    uneven = np.abs(np.sum(density * np.where(place % 2, -1.0, 1.0), axis=1)) * rows.step
    good = ~open_ & (uneven <= _RESOLVED)[:, None]
    u = (rows.centre + rows.low)[:, None] + step * (near + moved)
    return np.where(good, u, np.nan)


def _walk(
    kernel: Kernel,
    rows: _Rows,
    share: Array,
    near: NDArray[np.int64],
    moved: Array,
    missing: Array,
    taylor: Array,
) -> Array:
    """Integrate the density from points of the grid on, and return the step that is left, (R, Q).

    All lengths are in steps of the grid; ``missing`` is the integral that is wanted.
    """
    path = near[:, :, None] + moved[:, :, None] * _NODES
    offset = rows.low[:, None] + rows.step[:, None] * path.reshape(len(path), -1)
    along = _density(kernel, rows, offset, share)[0].reshape(path.shape)
    missing = missing - moved * np.einsum("rqn,n->rq", along, _WEIGHTS)
    end = along[:, :, -1]
    _, f1, f2, f3, f4 = taylor
    slope = f1 + moved * (2.0 * f2 + moved * (3.0 * f3 + moved * 4.0 * f4))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        newton = missing / end
        step = newton * (1.0 - 0.5 * newton * slope / end)
    return np.where(np.isfinite(step), np.clip(step, -1.0, 1.0), 1.0)


def _cumulative(density: Array, near: NDArray[np.int64]) -> Array:
    """Integrals in steps up to points (R, Q) of the grid, by the sinc rule."""
    rule = _rule(density.shape[1])
    return np.stack([np.einsum("rn,rn->r", rule[at], density) for at in near.T], axis=1)


def _rule(points: int) -> Array:
    """Return the weight of each density, (N, N), in the integral up to each point of a grid."""
    table = 0.5 + special.sici(np.pi * np.arange(1 - points, points))[0] / np.pi
    return np.asarray(table[np.arange(points)[:, None] - np.arange(points) + points - 1])


def _taylor(density: Array, near: NDArray[np.int64]) -> Array:
    """Taylor coefficients of the density at points (R, Q) of the grid, (5, R, Q)."""
    around = [np.take_along_axis(density, near + k, axis=1) for k in range(-2, 3)]
    return np.stack([sum(c * f for c, f in zip(row, around, strict=True)) for row in _TAYLOR])


def _inverted(taylor: Array, missing: Array) -> Array:
    """How many steps from its point the integral of a Taylor series is what is missing, (R, Q)."""
    f, f1, f2, f3, f4 = taylor
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        moved = np.clip(missing / f, -1.0, 1.0)
        for _ in range(3):
            area = f + moved * (f1 / 2 + moved * (f2 / 3 + moved * (f3 / 4 + moved * f4 / 5)))
            slope = f + moved * (f1 + moved * (f2 + moved * (f3 + moved * f4)))
            moved = np.clip(moved - (moved * area - missing) / slope, -1.0, 1.0)
    return np.where(np.isfinite(moved), moved, 0.0)


def _density(
    kernel: Kernel, rows: _Rows, offset: Array, share: Array | None = None
) -> tuple[Array, Array]:
    """Density of each mixture at offsets (R, N) from its centre.

    ``share`` (R, K) are the components' weights over their constants. Where they are not given
    they are found: then the offsets are a whole grid, on which each component adds to one.
    """
    first, second = kernel.statistics(rows.centre[:, None], offset)
    density, found = np.empty(offset.shape), np.empty(rows.a.shape) if share is None else share
    length = max(1, _BLOCK // (offset.shape[1] * rows.a.shape[1]))
    for begin in range(0, len(offset), length):
        block = slice(begin, begin + length)
        parts = rows.a[block, :, None] * first[block, None, :]
        parts -= rows.b[block, :, None] * second[block, None, :]
        parts -= rows.top[block, :, None]
        np.exp(parts, out=parts)
        if share is None:
            found[block] = rows.weight[block] / (np.sum(parts, axis=2) * rows.step[block, None])
        np.einsum("rk,rkn->rn", found[block], parts, out=density[block])
    return density, found
