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
#: Outwards until a count adds less than this share.
_NOTHING = 1e-16
#: From here on three terms of Stirling's series are exact.
_STIRLING_FROM = 1e3

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
    points: Array, trials: Array, alpha: Array, beta: Array, weight: Array, *, half: bool = False
) -> Array:
    """P(Y ≤ point) of mixtures of Beta-Binomial counts of many trials, (J,), NaN where left open.

    Summed from the point outwards, away from the mean, until nothing is added beyond the means of
    all components: some sds of steps, however many trials there are. With ``half`` the probability
    of the point counts by half.
    """
    n, last = trials[:, None], np.floor(points)
    weight = np.broadcast_to(weight, alpha.shape)
    up = last >= np.sum(weight * n * (alpha / (alpha + beta)), axis=1)
    # Of the upper tail failures are counted.
    a, b = (np.where(up[:, None], *pair) for pair in ((beta, alpha), (alpha, beta)))
    first = np.where(up, trials - last - (0.0 if half else 1.0), last)
    inside = (first >= 0) & (first <= trials)
    lowest = np.min(n * (a / (a + b)), axis=1)
    total, done = np.zeros(len(points)), ~inside
    rows = np.flatnonzero(inside)
    k, mass = first[rows, None], beta_binomial_mass(first[rows, None], n[rows], a[rows], b[rows])
    if half:
        total[rows] = -0.5 * np.sum(weight[rows] * mass, axis=1)
    for _ in range(_MOST):
        each = np.sum(weight[rows] * mass, axis=1)
        total[rows] += each
        going = (k[:, 0] > lowest[rows]) | (each > _NOTHING * total[rows])
        done[rows[~going]] = True
        rows, k, mass = rows[going], k[going], mass[going]
        if not len(rows):
            break
        left = n[rows] - k
        # Below zero there is nothing; the denominator then need only be positive.
        below = (left + 1.0) * np.where(k > 0, (k - 1.0) + a[rows], 1.0)
        mass, k = mass * (k * (b[rows] + left) / below), k - 1.0
    whole = np.where(first < 0, 0.0, 1.0)
    found = np.where(inside, total, whole)
    return np.where(done, np.where(up, 1.0 - found, found), np.nan)


def beta_binomial_mass(k: Array, n: Array, alpha: Array, beta: Array) -> Array:
    """Return P(Y = k) = C(n, k) (α)_k (β)_(n−k) / (α + β)_n, whatever the prior size."""
    choose = special.gammaln(n + 1.0) - special.gammaln(k + 1.0) - special.gammaln(n - k + 1.0)
    rising = _log_rising(alpha, k) + _log_rising(beta, n - k) - _log_rising(alpha + beta, n)
    return np.asarray(np.exp(choose + rising))


def _log_rising(x: Array, k: Array) -> Array:
    """Log of (x)_k = Γ(x + k)/Γ(x) by Stirling's formula: large logarithms do not cancel."""
    return np.asarray(x * np.log1p(k / x) + k * (np.log(x + k) - 1.0) + _rest(x + k) - _rest(x))


def _rest(x: Array) -> Array:
    """Log Γ(x) − x log x + x, which is −½ log(x/2π) + 1/(12 x) − … for large x."""
    large, small = np.maximum(x, _STIRLING_FROM), np.minimum(x, _STIRLING_FROM)
    series = -0.5 * np.log(large / (2.0 * np.pi)) + (1 / 12 - 1 / (360 * large**2)) / large
    direct = special.gammaln(small) - special.xlogy(small, small) + small
    return np.where(x < _STIRLING_FROM, direct, series)


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
