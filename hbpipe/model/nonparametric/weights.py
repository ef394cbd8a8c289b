"""Weights of fixed components that maximise the likelihood of stores: a convex problem.

Stores of count c_i, with the likelihood L_ik under component k, have the log likelihood

    Σ_i c_i log Σ_k w_k L_ik,   w ≥ 0, Σ w = 1,

which is concave in w (Lindsay 1983; Koenker and Mizera 2014). With N = Σ c and the directional
derivatives g_k = Σ_i c_i L_ik/(Lw)_i / N, w is a maximum where all g_k ≤ 1, and N log max g_k is at
least what is missing to the maximum: the *gap* max g_k − 1 is published.

Solved by Mehrotra's predictor and corrector (1992, *SIAM Journal on Optimization* 2), for several
counts at once, over the columns that matter: those left out come in while their derivative is
above one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array

#: A maximum is found where no directional derivative is above one by more than this.
GAP = 1e-6
#: Steps of the EM algorithm that tell which columns matter, and the share of the largest weight
#: above which one does.
_EM_STEPS, _MATTERS = 10, 1e-2
#: A row is likely enough under a column that has this share of its largest likelihood.
_LIKELY = 1e-3
#: Of the interior point: most rounds, the share of the gap asked for at which it ends, and the part
#: of the way to the edge that it goes at most.
_ROUNDS, _ACCURACY, _STEP = 100, 1e-2, 0.995
#: Shares of the largest weight below which weights may be none.
_NEXT_TO_NOTHING = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class Maximum:
    """Weights (B, K), the gap of each problem (B,), and the rounds that it took."""

    weight: Array
    gap: Array
    rounds: int


def maximise_weights(likelihood: Array, counts: Array, *, gap: float = GAP) -> Maximum:
    """Maximise the likelihood of ``B`` counts of the same rows over weights of ``K`` columns.

    Parameters
    ----------
    likelihood
        (R, K), each row in any unit of its own, with a number above zero in it.
    counts
        (B, R), not negative.
    gap
        The gap at which a column that was left out comes in.

    Returns
    -------
    Maximum
        Whether its gaps are small is for the caller to look at.
    """
    chosen = _columns_that_matter(likelihood, counts.sum(axis=0))
    rounds, weight = 0, np.zeros((len(counts), likelihood.shape[1]))
    while True:
        found, steps = _maximum(likelihood[:, chosen], counts, _ACCURACY * gap)
        rounds += steps
        weight[:, chosen] = found
        slope = _slopes(likelihood, counts, weight)
        further = np.setdiff1d(np.flatnonzero((slope > 1.0 + gap).any(axis=0)), chosen)
        if not len(further):
            break
        chosen = np.union1d(chosen, further)
    return Maximum(weight, slope.max(axis=1) - 1.0, rounds)


def _slopes(likelihood: Array, counts: Array, weight: Array) -> Array:
    """Directional derivatives g, (B, K)."""
    mixed = weight @ likelihood.T
    return np.asarray((counts / mixed) @ likelihood / counts.sum(axis=1, keepdims=True))


def _columns_that_matter(likelihood: Array, counts: Array) -> NDArray[np.int64]:
    """Guess the columns that have weight, from a few steps of the EM algorithm.

    Each row has a column among them under which it is likely enough.
    """
    weight = np.full((1, likelihood.shape[1]), 1.0 / likelihood.shape[1])
    for _ in range(_EM_STEPS):
        weight = weight * _slopes(likelihood, counts[None], weight)
    chosen = np.flatnonzero(weight[0] >= _MATTERS * weight.max())
    largest = likelihood.max(axis=1)
    alone = likelihood[:, chosen].max(axis=1) < _LIKELY * largest
    return np.union1d(chosen, np.argmax(likelihood[alone], axis=1))


def sparse_weights(likelihood: Array, counts: Array, *, gap: float = GAP) -> Maximum:
    """Maximise for one of the counts, (R,), and leave out the columns that it does not take.

    An interior point has no weight of 0. Columns of the smallest weights are left out, as many
    as the gap allows, and the others maximised again.
    """
    best = maximise_weights(likelihood, counts[None], gap=gap)
    weight = best.weight[0]
    for share in _NEXT_TO_NOTHING:
        kept = np.flatnonzero(weight >= share * weight.max())
        if not likelihood[:, kept].any(axis=1).all():
            continue
        found = np.zeros((1, len(weight)))
        found[:, kept], steps = _maximum(likelihood[:, kept], counts[None], _ACCURACY * gap)
        now = _slopes(likelihood, counts[None], found).max(axis=1) - 1.0
        if now[0] <= max(gap, best.gap[0]):
            return Maximum(found, now, best.rounds + steps)
    return best


def one_step(likelihood: Array, weight: Array, counts: Array, near: Array) -> Array:
    """Weights (B, K) for counts ``near`` (B, R) those (R,) that ``weight`` (K,) is the maximum of.

    The likelihood of each of them has its own slopes at ``weight``, and the curvature of that at
    the maximum: one step of Newton's method, exact to the first order in the counts (Moulton and
    Zeger 1991, *Computational Statistics and Data Analysis* 11). It costs no more than a product
    of the table with each of the counts.
    """
    share = near / near.sum(axis=1, keepdims=True)
    mixed = likelihood @ weight
    first = (share / mixed) @ likelihood
    half = likelihood * (np.sqrt(counts / counts.sum()) / mixed)[:, None]
    hessian = half.T @ half

    def at(now: Array) -> tuple[Array, Array]:
        return first - (now - weight) @ hessian, np.repeat(hessian[None], len(now), axis=0)

    return _interior_point(at, len(near), len(weight), _ACCURACY * GAP)[0]


def _maximum(likelihood: Array, counts: Array, accuracy: float) -> tuple[Array, int]:
    """Weights (B, K) within ``accuracy`` of the maximum over all columns given, and the rounds."""
    share = counts / counts.sum(axis=1, keepdims=True)

    def at(now: Array) -> tuple[Array, Array]:
        mixed = now @ likelihood.T
        root = np.sqrt(share) / mixed
        halves = (likelihood * row[:, None] for row in root)
        return (share / mixed) @ likelihood, np.stack([half.T @ half for half in halves])

    return _interior_point(at, len(counts), likelihood.shape[1], accuracy)


#: Weights (B, K) -> slopes (B, K) and Hessian (B, K, K) of the negative of what is maximised.
_Slopes: TypeAlias = "Callable[[Array], tuple[Array, Array]]"


def _interior_point(at: _Slopes, problems: int, width: int, accuracy: float) -> tuple[Array, int]:
    """Minimise Σ w − the function of ``B`` problems with these slopes, and count the rounds.

    The minimum has Σ w = 1; multipliers of w ≥ 0 are 1 − slope.
    """
    point = _Point(np.full((problems, width), 1.0 / width), np.ones((problems, width)))
    rounds = 0
    while rounds < _ROUNDS:
        slope, hessian = at(point.weight)
        rounds += 1
        if point.is_near(slope, accuracy):
            break
        point = point.moved(hessian, slope)
    return point.weight / point.weight.sum(axis=1, keepdims=True), rounds


@dataclass(frozen=True)
class _Point:
    """Weights and their multipliers, (B, K) each, all above zero."""

    weight: Array
    dual: Array

    def is_near(self, slope: Array, accuracy: float) -> bool:
        """Whether all problems are as good as solved."""
        complementary = np.all(np.sum(self.weight * self.dual, axis=1) <= accuracy)
        return bool(complementary and np.all(np.abs(1.0 - slope - self.dual) <= accuracy))

    def moved(self, hessian: Array, slope: Array) -> _Point:
        """Go a step: where the straight way to the optimum leads says how far from the edge."""
        barrier = np.mean(self.weight * self.dual, axis=1, keepdims=True)
        place = np.arange(self.weight.shape[1])
        hessian[:, place, place] += self.dual / self.weight
        ahead = self._step(hessian, slope, 0.0, 1.0)
        left = np.mean(ahead.weight * ahead.dual, axis=1, keepdims=True)
        return self._step(hessian, slope, np.asarray((left / barrier) ** 3 * barrier), _STEP)

    def _step(self, matrix: Array, slope: Array, barrier: Array | float, part: float) -> _Point:
        """Newton's step to where w z is ``barrier``, but only ``part`` of the way to the edge."""
        force = slope - 1.0 + barrier / self.weight
        weight: Array = np.asarray(np.linalg.solve(matrix, force[:, :, None])[:, :, 0], np.float64)
        dual = (barrier - self.dual * weight) / self.weight - self.dual
        ahead = _towards(self.dual, np.asarray(dual, np.float64), part)
        return _Point(_towards(self.weight, weight, part), ahead)


def _towards(now: Array, step: Array, part: float) -> Array:
    """Go the whole step, or ``part`` of the way to where a number would be 0."""
    with np.errstate(divide="ignore"):
        room = np.where(step < 0, -now / np.where(step < 0, step, -1.0), np.inf)
    length = np.minimum(1.0, part * room.min(axis=1, keepdims=True))
    return np.asarray(now + length * step)
