"""Counts summed up from zero: what small counts need, a few steps for whole arrays of stores.

Each probability follows from the one before, P(k + 1) = P(k) r(k), so that a count costs some
multiplications and no logarithm. Rows whose sum would be long, or whose P(0) is too small for a
float, are left open for other methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.family import Array

#: So many counts are summed.
_MOST = 1024
#: A first probability below this may have lost digits.
_LEAST = 1e-290
#: Up to so many trials their product is taken: exact to the last digits. Beyond, differences of
#: log Γ are within 1e-8 as long as prior size and trials add to less.
PRODUCT, _GAMMA = 256, 1e7
#: Outwards up to so many trials and prior size, where log Γ is within 1e-9, and until a count adds
#: less than this share.
_OUTWARD, _NOTHING = 1e6, 1e-16

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """Mixtures of ``K`` laws of a count.

    Parameters
    ----------
    zero
        (J, K) the probability of no count.
    ratio
        (count k, rows) -> P(k + 1)/P(k), (R, K).
    weight
        (J, K), adding to one.
    """

    zero: Array
    ratio: Callable[[int, Rows], Array]
    weight: Array

    def quantiles(self, levels: Array) -> Array:
        """Return the smallest counts whose cdf reaches the levels (Q,): (J, Q), NaN where open."""
        found = np.zeros((len(self.zero), len(levels)))
        top = float(np.max(levels, initial=0.0))
        total = np.zeros(len(self.zero))

        def add(rows: Rows, mass: Array, count: int) -> NDArray[np.bool_]:
            total[rows] += mass
            found[rows] += total[rows, None] < levels
            return np.asarray(total[rows] < top)

        found[self._walk(add)] = np.nan
        return found

    def cdf(self, points: Array) -> Array:
        """Return P(Y ≤ point), points and result (J,); NaN where it is left open."""
        last, total = np.floor(points), np.zeros(len(points))

        def add(rows: Rows, mass: Array, count: int) -> NDArray[np.bool_]:
            total[rows] += np.where(last[rows] >= count, mass, 0.0)
            return np.asarray(last[rows] > count)

        total[self._walk(add)] = np.nan
        return np.minimum(total, 1.0)

    def _walk(self, add: Callable[[Rows, Array, int], NDArray[np.bool_]]) -> Rows:
        """Give the probabilities of 0, 1, … to ``add``, which says who needs the next one.

        Returns
        -------
        The rows that are left open.
        """
        possible = np.min(self.zero, axis=1, initial=1.0) >= _LEAST
        rows, mass = np.flatnonzero(possible), self.zero[possible]
        for count in range(_MOST):
            if not len(rows):
                break
            wanting = add(rows, np.sum(self.weight[rows] * mass, axis=1), count)
            rows, mass = rows[wanting], mass[wanting]
            mass = mass * self.ratio(count, rows)
        return np.concatenate([np.flatnonzero(~possible), rows])


def beta_binomial_counts(trials: Array, alpha: Array, beta: Array, weight: Array) -> Counts:
    """Return mixtures of Beta-Binomial counts: trials (J,), the others (J, K)."""
    n = trials[:, None]

    def ratio(k: int, rows: Rows) -> Array:
        left, a, b = n[rows] - k, alpha[rows], beta[rows]
        # Beyond the last count there is nothing. In this order a tiny β is not lost beside n.
        below = (k + 1.0) * np.where(left > 0, (left - 1.0) + b, 1.0)
        return np.asarray(np.where(left > 0, left * (a + k), 0.0) / below)

    return Counts(_none_of(trials, alpha, beta), ratio, np.broadcast_to(weight, alpha.shape))


def beta_binomial_tails(
    points: Array, trials: Array, alpha: Array, beta: Array, weight: Array
) -> Array:
    """P(Y ≤ point) of mixtures of Beta-Binomial counts of many trials, (J,), NaN where left open.

    Summed from the point outwards, away from the mean, until nothing is added: some sds of steps,
    however many trials there are.
    """
    n, size = trials[:, None], alpha + beta
    last = np.floor(points)
    weight = np.broadcast_to(weight, alpha.shape)
    down = last < np.sum(weight * n * (alpha / size), axis=1)
    inside = (last >= 0) & (last < trials)
    found = np.where(inside, np.nan, np.where(last < 0, 0.0, 1.0))
    rows = np.flatnonzero(inside & (np.max(size, axis=1) + trials < _OUTWARD))
    k = np.where(down, last, last + 1.0)[rows, None]
    total = np.zeros(len(points))
    mass = _mass(k, n[rows], alpha[rows], beta[rows])
    for _ in range(_MOST):
        each = np.sum(weight[rows] * mass, axis=1)
        total[rows] += each
        going = each > _NOTHING * total[rows]
        ended = rows[~going]
        found[ended] = np.where(down[ended], total[ended], 1.0 - total[ended])
        rows, k, mass = rows[going], k[going], mass[going]
        if not len(rows):
            break
        a, b, left, lower = alpha[rows], beta[rows], n[rows] - k, down[rows, None]
        above = np.where(lower, k, left) * (np.where(lower, b, a) + np.where(lower, left, k))
        below = (np.where(lower, left, k) + 1.0) * (
            np.where(lower, a, b) + np.where(lower, k, left) - 1.0
        )
        # Beyond the ends there is nothing, and the numerator is 0.
        mass = mass * np.where(above > 0, above / np.where(above > 0, below, 1.0), 0.0)
        k = k + np.where(lower, -1.0, 1.0)
    return found


def _mass(k: Array, n: Array, alpha: Array, beta: Array) -> Array:
    """Return P(Y = k) by log Γ."""
    choose = special.gammaln(n + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0)
    updated = special.gammaln(k + alpha) + special.gammaln(n - k + beta)
    before = special.gammaln(alpha) + special.gammaln(beta)
    sizes = special.gammaln(alpha + beta) - special.gammaln(n + alpha + beta)
    return np.asarray(np.exp(choose + updated - before + sizes))


def negative_binomial_counts(shape: Array, rate: Array, exposure: Array, weight: Array) -> Counts:
    """Return mixtures of Poisson counts whose rates are Gamma: exposure (J,), the others (J, K)."""
    future = exposure[:, None]
    share = future / (rate + future)

    def ratio(k: int, rows: Rows) -> Array:
        return np.asarray((shape[rows] + k) / (k + 1.0) * share[rows])

    zero = np.exp(-shape * np.log1p(future / rate))
    return Counts(zero, ratio, np.broadcast_to(weight, shape.shape))


def _none_of(trials: Array, alpha: Array, beta: Array) -> Array:
    """Return P(0) = Γ(β + n) Γ(α + β) / (Γ(β) Γ(α + β + n)), (J, K); 0 where it is left open."""
    size, out = alpha + beta, np.ones(alpha.shape)
    short = trials <= PRODUCT
    for rows, i in _trials(np.flatnonzero(short), trials):
        out[rows] *= (beta[rows] + i) / (size[rows] + i)
    rows = np.flatnonzero(~short)
    b, s, n = beta[rows], size[rows], trials[rows, None]
    logarithm = special.gammaln(b + n) - special.gammaln(b)
    logarithm -= special.gammaln(s + n) - special.gammaln(s)
    out[rows] = np.where(s + n < _GAMMA, np.exp(np.minimum(logarithm, 0.0)), 0.0)
    return out


def _trials(rows: Rows, trials: Array) -> Iterator[tuple[Rows, int]]:
    """Yield the number of each trial, from 0, with the rows that have it."""
    rows = rows[np.argsort(-trials[rows], kind="stable")]
    have = np.searchsorted(-trials[rows], -np.arange(PRODUCT), side="left")
    for i, count in enumerate(have.tolist()):
        if not count:
            break
        yield rows[:count], i
