"""Beta-Binomial mixtures of many trials, summed by Gauss quadrature over blocks of counts.

Between neighbouring counts their probabilities hardly differ, so a few values stand for a block.
The cost grows with the square root of the trials or of the prior size, whichever is smaller. The
cdf agrees with summing every count to 1e-10 up to 1e5 trials.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import special

from hbpipe.model.family import Array

_NODES = 8
#: Length of a block in standard deviations of the narrowest component.
_WIDTH = 2.0
_CELLS = 2**21
_STIRLING_FROM = 1e3


@dataclass(frozen=True)
class LongSum:
    """One store's mixture of ``K`` Beta-Binomials: ``trials`` a number, the others (K,)."""

    trials: float
    alpha: Array
    beta: Array
    weight: Array

    def cdf(self, point: float) -> float:
        """P(Y ≤ point)."""
        last = np.floor(point)
        if last < 0 or last >= self.trials:
            return float(last >= 0)
        block = int(np.searchsorted(self._first, last, side="right")) - 1
        below = self._cumulative[block - 1] if block else 0.0
        return float(below + self._part(block, last))

    def quantile(self, level: float) -> float:
        """Smallest k with P(Y ≤ k) ≥ level: bisection within the block that reaches it."""
        block = min(int(np.searchsorted(self._cumulative, level)), len(self._first) - 1)
        low, high = self._first[block] - 1.0, self._first[block] + self._length[block] - 1.0
        while high - low > 1.0:
            middle = np.floor(0.5 * (low + high))
            low, high = (low, middle) if self.cdf(middle) >= level else (middle, high)
        return float(high)

    def _part(self, block: int, last: float) -> float:
        """P(first of block ≤ Y ≤ last)."""
        first = self._first[block]
        at, mass = gauss_sum(np.array([last - first + 1.0]))
        log_mass = _log_mass(first + at[0], self.trials, self.alpha, self.beta)
        return float(self.weight @ (np.exp(log_mass - self._log_total[:, None]) @ mass[0]))

    @cached_property
    def _first(self) -> Array:
        return block_starts(self.trials, float(np.max(self.alpha + self.beta)))

    @cached_property
    def _length(self) -> Array:
        return np.diff(self._first, append=self.trials + 1.0)

    @cached_property
    def _sums(self) -> tuple[Array, Array]:
        """Logarithm of each component's sum (K,), and probabilities of the blocks (B,)."""
        at, mass = gauss_sum(self._length)
        k = (self._first[:, None] + at).ravel()
        total, blocks = np.empty(len(self.weight)), np.zeros(len(at))
        for part in np.array_split(np.arange(len(total)), 1 + k.size * len(total) // _CELLS):
            log_mass = _log_mass(k, self.trials, self.alpha[part], self.beta[part])
            top = log_mass.max(axis=1, initial=-np.inf)
            sums = np.exp(log_mass - top[:, None]).reshape(len(part), *mass.shape) * mass
            sums = sums.sum(axis=2)
            whole = sums.sum(axis=1)
            total[part] = top + np.log(whole)
            blocks += (self.weight[part] / whole) @ sums
        return total, blocks

    @property
    def _log_total(self) -> Array:
        return self._sums[0]

    @cached_property
    def _cumulative(self) -> Array:
        return np.cumsum(self._sums[1])


def block_starts(trials: float, size: float) -> Array:
    """Cut 0, …, trials into blocks on which probabilities are smooth, (B,) first counts.

    A Beta-Binomial of prior size α + β = ``size`` has, where its mean is θ, the sd
    trials √(θ(1 − θ)(1/trials + 1/size)) or more. Near the ends α, β < 1 make a power of the
    distance to the end, so that blocks may only grow with it.
    """
    starts, first = [], 0.0
    while first <= trials:
        starts.append(first)
        share = (first + 0.5) / (trials + 1.0)
        sd = trials * np.sqrt(share * (1.0 - share) * (1.0 / trials + 1.0 / size))
        to_end = min(first, trials - first) / 2.0
        first += max(float(_NODES), np.floor(min(_WIDTH * sd, to_end)))
    return np.array(starts)


def gauss_sum(length: Array) -> tuple[Array, Array]:
    """Nodes and weights (B, 8) of Σ f(0), …, f(length − 1), exact for polynomials below 16.

    The nodes are zeros of the discrete Chebyshev polynomials, from their recurrence (Golub and
    Welsch 1969; Gautschi 2004, section 1.5). Up to eight counts are taken one by one.
    """
    order, count = np.arange(1.0, _NODES), length[:, None]
    below = np.maximum(count**2 - order**2, 0.0) * order**2 / (4.0 * (4.0 * order**2 - 1.0))
    jacobi = np.zeros((len(length), _NODES, _NODES))
    jacobi[:, np.arange(1, _NODES), np.arange(_NODES - 1)] = np.sqrt(below)
    nodes, vectors = np.linalg.eigh(jacobi)
    single = np.arange(float(_NODES))
    few = count <= _NODES
    return (
        np.where(few, np.minimum(single, count - 1.0), nodes + 0.5 * (count - 1.0)),
        np.where(few, single < count, count * vectors[:, 0, :] ** 2),
    )


def _log_mass(k: Array, n: float, alpha: Array, beta: Array) -> Array:
    """Log probability of counts k (P,) up to a constant of each component, (K, P).

    Γ(k + α)/Γ(k + 1) · Γ(n − k + β)/Γ(n − k + 1) by Stirling's formula, the large logarithms
    taken together: with S = α + β, T = n + S and d = k − n α/S what is left is of order S d/T.
    """
    a, b = alpha[:, None], beta[:, None]
    size = a + b
    total, d, rest = n + size, k - n * (a / size), n - k
    pull = size / total * d
    return np.asarray(
        special.xlog1py(k, -pull / np.where(k > 0, k, np.inf))
        + a * np.log1p(pull / a)
        + special.xlog1py(rest, pull / np.where(rest > 0, rest, np.inf))
        + b * np.log1p(-pull / b)
        + (_remainder(k + a) - np.log(k + a) - _remainder(k))
        + (_remainder(rest + b) - np.log(rest + b) - _remainder(rest))
    )


def _remainder(x: Array) -> Array:
    """Log Γ(x + 1) − x log x + x: ½ log 2πx + 1/(12 x) − … for large x."""
    large = np.maximum(x, _STIRLING_FROM)
    small = np.minimum(x, _STIRLING_FROM)
    series = 0.5 * np.log(2.0 * np.pi * large) + (1.0 / 12.0 - 1.0 / (360.0 * large**2)) / large
    direct = special.gammaln(small + 1.0) - special.xlogy(small, small) + small
    return np.where(x < _STIRLING_FROM, direct, series)
