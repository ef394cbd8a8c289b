"""Safeguarded Newton maximisation inside bounds, for many small problems at once.

Every pool walks on its own: its steps, its bits and its number of iterations do not depend on the
other pools. One round evaluates all unfinished pools in one call. A pool whose trial point is
accepted takes a new Newton step, the others halve theirs.

Bounds by projection with an active set (Bertsekas 1982, *SIAM J. Control and Optimization* 20):
a coordinate on a bound whose gradient points outward is left out of the step. Elsewhere the
Hessian is made positive definite by the absolute values of its eigenvalues, after scaling its
diagonal to 1, so the walk is the same in any units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes, Derivatives

#: (coordinates (A, D), pools (A,)) -> value, gradient and Hessian of these pools.
Objective = Callable[[Array, Codes], Derivatives]

#: Distance to the maximum, in standard errors, at which a pool has converged.
TOLERANCE = 1e-6
#: Distance at which it stops. Between the two it goes on while steps still help: the last
#: digits cost one step where the gradient has them, and nothing where rounding has eaten them.
_PRECISE = 1e-9
#: Distance that is enough where rounding leaves no better point along the whole step, or a long
#: way of tiny ones: counts of 1e12 have a likelihood that is a difference of sums that large.
_ROUNDED = 1e-3
MAX_ROUNDS = 200
_SUFFICIENT = 1e-4
_SMALLEST_FRACTION = 2.0**-40
_LONGEST_STEP = 4.0
_HAIR = 1e-14
#: Eigenvalues of the scaled Hessian below this are flat directions.
_FLAT = 1e-10


@dataclass(frozen=True)
class Optimum:
    """Where the walks of ``G`` pools ended.

    Parameters
    ----------
    coordinates, value, gradient, hessian
        (G, D), (G,), (G, D), (G, D, D).
    active
        (G, D) int: −1 on the lower bound with the gradient pointing outward, 1 on the upper, else
        0.
    gradient_norm
        (G,) √(g' H⁻¹ g) over the other free coordinates: the distance to the maximum in standard
        errors. It has no unit.
    rounds
        (G,) evaluations of the objective after the first.
    converged
        (G,) the norm is below :data:`TOLERANCE`, or as small as rounding allows and below a
        thousandth, and the Hessian there is negative definite.
    """

    coordinates: Array
    value: Array
    gradient: Array
    hessian: Array
    active: NDArray[np.int8]
    gradient_norm: Array
    rounds: NDArray[np.int64]
    converged: NDArray[np.bool_]


@dataclass(frozen=True)
class Curvature:
    """The negative Hessian of some coordinates, as scaled eigenvalues and eigenvectors.

    With S = diag(``unit``), −H = S⁻¹ U Λ U' S⁻¹. Coordinates left out have zero eigenvalues, and
    the unit 0: rounding in the eigenvectors must not give them a step or a variance.
    """

    unit: Array
    eigenvalues: Array
    vectors: Array
    used: NDArray[np.bool_]

    @classmethod
    def of(
        cls, hessian: Array, gradient: Array, scale: Array, used: NDArray[np.bool_]
    ) -> Curvature:
        """Decompose −H on the used coordinates (G, D).

        Where a diagonal element vanishes, the gradient over ``scale`` takes its place as the
        unit, so that a point of inflection stops nothing.
        """
        diagonal = np.abs(np.einsum("gii->gi", hessian)) + np.abs(gradient) / scale
        unit = np.where(used, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
        both = used[:, :, None] & used[:, None, :]
        scaled = np.where(both, -hessian * unit[:, :, None] * unit[:, None, :], 0.0)
        eigenvalues, vectors = np.linalg.eigh(scaled)
        return cls(unit, eigenvalues, vectors, used)

    def solve(self, gradient: Array) -> Array:
        """|−H|⁻¹ g, with eigenvalues made positive and kept off zero."""
        size = np.abs(self.eigenvalues)
        floor = np.maximum(_FLAT * size.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        along = np.einsum("gij,gi->gj", self.vectors, gradient * self.unit)
        step = np.einsum("gij,gj->gi", self.vectors, along / np.maximum(size, floor))
        return np.asarray(step * self.unit)

    def covariance(self) -> Array:
        """|−H|⁻¹ (G, D, D), with zero rows for the coordinates left out."""
        size = np.abs(self.eigenvalues)
        above = size > _FLAT
        inverse = np.where(above, 1.0 / np.where(above, size, 1.0), 0.0)
        scaled = np.einsum("gij,gj,gkj->gik", self.vectors, inverse, self.vectors)
        return np.asarray(scaled * self.unit[:, :, None] * self.unit[:, None, :])

    def level(self) -> NDArray[np.bool_]:
        """Whether −H has no negative eigenvalue, (G,): no way leads up from a resting point."""
        return np.asarray(np.all(self.eigenvalues >= -_FLAT, axis=1))

    def definite(self) -> NDArray[np.bool_]:
        """Whether −H is positive definite on the used coordinates, (G,)."""
        # Zero eigenvalues of the coordinates left out are as many as those coordinates.
        left_out = np.sum(~self.used, axis=1)
        above = np.sum(self.eigenvalues > _FLAT, axis=1)
        return np.asarray(above == self.eigenvalues.shape[1] - left_out)


def active_bounds(x: Array, gradient: Array, lower: Array, upper: Array) -> NDArray[np.int8]:
    """Karush-Kuhn-Tucker: which coordinates (G, D) rest on a bound with the gradient outward."""
    at_lower = (x <= lower) & (gradient <= 0)
    at_upper = (x >= upper) & (gradient >= 0)
    return at_upper.astype(np.int8) - at_lower.astype(np.int8)


@dataclass
class _Walk:
    """The state of all pools; arrays are updated in place, pool by pool."""

    lower: Array
    upper: Array
    scale: Array
    free: NDArray[np.bool_]
    x: Array
    value: Array
    gradient: Array
    hessian: Array
    step: Array
    promised: Array
    fraction: Array
    active: NDArray[np.int8]
    norm: Array
    definite: NDArray[np.bool_]
    level: NDArray[np.bool_]

    def aim(self, pools: Codes) -> None:
        """Compute the next Newton step of these pools from their present derivatives."""
        x, gradient, hessian = self.x[pools], self.gradient[pools], self.hessian[pools]
        active = active_bounds(x, gradient, self.lower, self.upper)
        used = self.free[pools] & (active == 0)
        kept = np.where(used, gradient, 0.0)
        curvature = Curvature.of(hessian, gradient, self.scale[pools], used)
        step = curvature.solve(kept)
        promised = np.sum(step * kept, axis=1)
        longest = np.max(np.abs(step) / self.scale[pools], axis=1)
        self.step[pools] = step / np.maximum(longest / _LONGEST_STEP, 1.0)[:, None]
        self.promised[pools] = promised
        self.norm[pools] = np.sqrt(np.maximum(promised, 0.0))
        self.definite[pools] = curvature.definite()
        self.level[pools] = curvature.level()
        self.active[pools] = np.where(self.free[pools], active, 0)
        self.fraction[pools] = 1.0

    def trial(self, pools: Codes) -> Array:
        """Points to try, inside the bounds.

        A hair above the lower bound is on it: there the value cannot tell the two apart, and a
        walk that ends beside the bound would be taken for one that has not arrived.
        """
        moved = self.x[pools] + self.fraction[pools, None] * self.step[pools]
        hair = np.where(self.free[pools], _HAIR * self.scale[pools], 0.0)
        moved = np.where(moved - self.lower < hair, self.lower, moved)
        return np.clip(moved, self.lower, self.upper)

    def accepts(self, pools: Codes, x: Array, value: Array, gradient: Array) -> NDArray[np.bool_]:
        """Whether trial points are better by enough.

        Near the maximum the gain drowns in the rounding of the value; there a step counts as
        good when it halves the distance that the gradient still promises.
        """
        gain = np.sum(self.gradient[pools] * (x - self.x[pools]), axis=1)
        better = value >= self.value[pools] + _SUFFICIENT * np.maximum(gain, 0.0)
        better &= value > self.value[pools]
        used = self.free[pools] & (self.active[pools] == 0)
        curvature = Curvature.of(self.hessian[pools], self.gradient[pools], self.scale[pools], used)
        left = np.where(used, gradient, 0.0)
        remaining = np.sum(left * curvature.solve(left), axis=1)
        near = self.definite[pools] & (self.promised[pools] < 1e-1)
        nearer = near & (remaining < 0.25 * self.promised[pools])
        finite = np.isfinite(value) & np.isfinite(gradient).all(axis=1)
        return np.asarray(finite & (better | nearer))

    def done(self, pools: Codes) -> NDArray[np.bool_]:
        """Whether pools have arrived, or cannot move on."""
        refused = self.fraction[pools] < 1.0
        enough = np.where(refused, TOLERANCE, _PRECISE)
        arrived = (self.norm[pools] <= enough) & self.definite[pools]
        # On a plain the last digits of the gradient lead nowhere.
        arrived |= (self.norm[pools] <= TOLERANCE) & ~self.definite[pools] & self.level[pools]
        stuck = (self.promised[pools] <= 0) | (self.fraction[pools] < _SMALLEST_FRACTION)
        return np.asarray(arrived | stuck)


def maximise(
    objective: Objective,
    start: Array,
    lower: Array,
    upper: Array,
    scale: Array,
    free: NDArray[np.bool_],
) -> Optimum:
    """Climb from ``start`` to a local maximum of each pool's objective within the bounds.

    The value never falls on the way, up to rounding.

    Parameters
    ----------
    objective : value, gradient and Hessian of some of the pools.
    start : (G, D) inside the bounds; held coordinates stay where they are.
    lower, upper : (D,).
    scale : (G, D) the size of a sensible step; steps are cut at a few of these.
    free : (G, D) coordinates that may move.
    """
    walk = _begin(objective, start, lower, upper, scale, free)
    rounds = np.zeros(len(start), np.int64)
    moving = np.flatnonzero(~walk.done(np.arange(len(start))))
    for _ in range(MAX_ROUNDS):
        if len(moving) == 0:
            break
        x = walk.trial(moving)
        value, gradient, hessian = objective(x, moving)
        rounds[moving] += 1
        good = walk.accepts(moving, x, value, gradient)
        taken = moving[good]
        walk.x[taken], walk.value[taken] = x[good], value[good]
        walk.gradient[taken], walk.hessian[taken] = gradient[good], hessian[good]
        walk.aim(taken)
        walk.fraction[moving[~good]] *= 0.5
        moving = moving[~walk.done(moving)]
    return Optimum(
        walk.x,
        walk.value,
        walk.gradient,
        walk.hessian,
        walk.active,
        walk.norm,
        rounds,
        # Beyond TOLERANCE a walk ends only where it cannot go on.
        converged=(walk.norm <= _ROUNDED) & walk.definite,
    )


def _begin(
    objective: Objective,
    start: Array,
    lower: Array,
    upper: Array,
    scale: Array,
    free: NDArray[np.bool_],
) -> _Walk:
    pools = np.arange(len(start))
    x = np.clip(start, lower, upper)
    value, gradient, hessian = objective(x, pools)
    blank = np.zeros(len(start))
    walk = _Walk(
        lower,
        upper,
        scale,
        free,
        x,
        value.copy(),
        gradient.copy(),
        hessian.copy(),
        step=np.zeros_like(x),
        promised=blank.copy(),
        fraction=blank.copy(),
        active=np.zeros(x.shape, np.int8),
        norm=blank.copy(),
        definite=np.zeros(len(start), bool),
        level=np.zeros(len(start), bool),
    )
    walk.aim(pools)
    return walk
