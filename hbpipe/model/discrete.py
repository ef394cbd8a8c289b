"""Quantiles and distribution functions of posterior predictive counts.

A discrete quantile is the smallest count k whose cdf reaches the level. Levels are lowered by a
relative 1e-12 so that rounding in the cdf cannot push a quantile one count up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.errors import StatisticsError
from hbpipe.model.family import Array, Description

_CELLS = 2**21
_SLACK = 1.0 - 1e-12


def describe_beta_binomial(trials: Any, alpha: Any, beta: Any, quantiles: Any) -> Description:
    """Describe Beta-Binomial counts of any shape (J, ...), given levels (Q,).

    The cost grows with the number of trials, since the cdf has no closed form.
    """
    n, a, b = np.broadcast_arrays(np.asarray(trials, np.float64), alpha, beta)
    total = a + b
    mean = n * a / total
    levels = np.atleast_1d(np.asarray(quantiles, np.float64))
    return Description(
        mean=mean,
        sd=np.sqrt(mean * (b / total) * ((total + n) / (total + 1.0))),
        quantiles=beta_binomial_quantiles(levels, n, a, b),
        cdf=lambda points: beta_binomial_cdf(points, n, a, b),
    )


def describe_negative_binomial(shape: Any, rate: Any, exposure: Any, quantiles: Any) -> Description:
    """Describe Poisson counts in an exposure, their rates Gamma, of any shape (J, ...)."""
    shape, rate, future = np.broadcast_arrays(shape, rate, np.asarray(exposure, np.float64))
    mean = shape * (future / rate)
    sd = np.sqrt(mean * (1.0 + future / rate))
    probability = rate / (rate + future)

    def cdf(points: Any) -> Array:
        return negative_binomial_cdf(points, shape, probability)

    levels = np.atleast_1d(np.asarray(quantiles, np.float64))
    return Description(mean, sd, count_quantiles(levels, cdf, mean, sd), cdf)


def beta_binomial_cdf(points: Any, trials: Array, alpha: Array, beta: Array) -> Array:
    """P(Y ≤ point) for Y ~ Beta-Binomial(trials, alpha, beta), by summing probabilities.

    Parameters
    ----------
    points : broadcasts against the others' common shape (J, ...).
    trials, alpha, beta : (J, ...); whole trials.
    """
    shape = np.broadcast_shapes(np.shape(points), trials.shape)
    last = np.broadcast_to(np.floor(np.asarray(points, np.float64)), shape).ravel()
    flat = (np.broadcast_to(part, shape).ravel() for part in (trials, alpha, beta))
    result = np.empty(last.shape)
    for members, cumulative in _cumulative(*flat):
        column = np.clip(last[members], 0, cumulative.shape[1] - 1).astype(np.int64)
        found = cumulative[np.arange(len(members)), column]
        result[members] = np.where(last[members] < 0, 0.0, found)
    return result.reshape(shape)


def beta_binomial_quantiles(levels: Array, trials: Array, alpha: Array, beta: Array) -> Array:
    """Smallest k with P(Y ≤ k) ≥ level, (J, ..., Q) for levels (Q,)."""
    flat = [part.ravel() for part in (trials, alpha, beta)]
    result = np.empty((flat[0].size, len(levels)))
    for members, cumulative in _cumulative(*flat):
        for q, level in enumerate(levels):
            result[members, q] = np.sum(cumulative < level * _SLACK, axis=1)
    result = np.minimum(result, flat[0][:, None])
    return result.reshape(*trials.shape, len(levels))


def _cumulative(
    trials: Array, alpha: Array, beta: Array
) -> Iterator[tuple[NDArray[np.int64], Array]]:
    """Yield blocks of stores and their cdf at 0, 1, …, max trials, in bounded memory.

    The probabilities follow from the ratio of neighbours, P(k+1)/P(k) =
    (n − k)(α + k) / ((k + 1)(β + n − k − 1)), and add up to one; no log-gamma loses digits.
    """
    if np.any((trials < 0) | (trials != np.floor(trials))):
        raise StatisticsError(
            "a number of future trials is negative or not whole",
            where={"value": float(trials[(trials < 0) | (trials != np.floor(trials))][0])},
            expected="0, 1, 2, ...",
            remedy="pass whole trials as exposure",
        )
    order = np.argsort(trials, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, _CELLS // (int(trials[order[-1]]) + 1))
        members = order[start : start + size]
        k = np.arange(int(trials[members].max(initial=0)))
        n, a, b = (part[members, None] for part in (trials, alpha, beta))
        below = k < n
        ratio = np.where(below, (n - k) * (a + k), 0.0) / (
            (k + 1.0) * np.where(below, b + n - k - 1.0, 1.0)
        )
        with np.errstate(divide="ignore"):
            log_mass = np.cumsum(np.log(ratio), axis=1)
        log_mass = np.concatenate([np.zeros((len(members), 1)), log_mass], axis=1)
        mass = np.exp(log_mass - log_mass.max(axis=1, keepdims=True))
        cumulative = np.cumsum(mass, axis=1)
        yield members, cumulative / cumulative[:, -1:]
        start += size


def negative_binomial_cdf(points: Any, shape: Array, probability: Array) -> Array:
    """P(Y ≤ point) of a negative binomial: the incomplete beta ratio I_p(shape, k + 1)."""
    k = np.floor(np.asarray(points, np.float64))
    return np.where(k < 0, 0.0, special.betainc(shape, np.maximum(k, 0.0) + 1.0, probability))


def count_quantiles(levels: Array, cdf: Callable[[Array], Array], mean: Array, sd: Array) -> Array:
    """Smallest k with cdf(k) ≥ level, by bracketing and bisection; (J, ..., Q)."""
    columns = [_smallest_count(level * _SLACK, cdf, mean, sd) for level in levels]
    return np.stack(columns, axis=-1)


def _smallest_count(level: float, cdf: Callable[[Array], Array], mean: Array, sd: Array) -> Array:
    low = np.full(np.shape(mean), -1.0)
    high = np.ceil(mean + 4.0 * sd)
    while np.any(short := cdf(high) < level):
        low = np.where(short, high, low)
        high = np.where(short, 2.0 * high + 1.0, high)
    # Above 2^53 counts are not whole floats any more; the middle then meets an end.
    while np.any(open_ := (high - low > 1.0) & (np.floor((low + high) / 2.0) > low)):
        middle = np.where(open_, np.floor((low + high) / 2.0), high)
        reached = cdf(middle) >= level
        high = np.where(open_ & reached, middle, high)
        low = np.where(open_ & ~reached, middle, low)
    return high
