"""Quantiles and distribution functions of posterior predictive counts.

A discrete quantile is the smallest count k whose cdf reaches the level. Levels are lowered by a
relative 1e-12 so that rounding in the cdf cannot push a quantile one count up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.errors import StatisticsError
from hbpipe.model.distributions.longsum import LongSum
from hbpipe.model.distributions.walk import (
    PRODUCT,
    beta_binomial_counts,
    beta_binomial_tails,
    negative_binomial_counts,
)
from hbpipe.model.family import Array, Description

_CELLS = 2**21
#: Probabilities of one store, counts times components, beyond which quadrature is faster.
_LONG = 2**18
_SLACK = 1.0 - 1e-12


def describe_beta_binomial(trials: Any, alpha: Any, beta: Any, quantiles: Any) -> Description:
    """Describe Beta-Binomial counts of any shape (J, ...), given levels (Q,).

    Raises
    ------
    StatisticsError
        If a number of trials is negative or not whole.
    """
    n, a, b = np.broadcast_arrays(np.asarray(trials, np.float64), alpha, beta)
    one = (n.size, 1)
    flat = describe_beta_binomial_mixture(
        n.ravel(), a.reshape(one), b.reshape(one), np.ones(one), quantiles
    )

    def cdf(points: Any) -> Array:
        shape = np.broadcast_shapes(np.shape(points), n.shape)
        if shape == n.shape:
            return flat.cdf(np.broadcast_to(points, shape).ravel()).reshape(shape)
        wide = [np.broadcast_to(part, shape) for part in (n, a, b)]
        return describe_beta_binomial(wide[0], wide[1], wide[2], np.empty(0)).cdf(points)

    return Description(
        mean=flat.mean.reshape(n.shape),
        sd=flat.sd.reshape(n.shape),
        quantiles=flat.quantiles.reshape(*n.shape, flat.quantiles.shape[1]),
        cdf=cdf,
    )


def describe_beta_binomial_mixture(
    trials: Array, alpha: Array, beta: Array, weight: Array, quantiles: Any
) -> Description:
    """Describe ``J`` mixtures of ``K`` Beta-Binomial counts.

    Parameters
    ----------
    trials
        (J,) whole.
    alpha, beta
        (J, K).
    weight
        (J, K) or (1, K), adding to one.
    quantiles
        Levels (Q,).

    Raises
    ------
    StatisticsError
        If a number of trials is negative or not whole.
    """
    _check_trials(trials)
    n, total, weight = trials[:, None], alpha + beta, np.broadcast_to(weight, alpha.shape)
    parts = n * alpha / total
    mean = np.sum(weight * parts, axis=1)
    within = parts * (beta / total) * ((total + n) / (total + 1.0))
    variance = np.sum(weight * (within + (parts - mean[:, None]) ** 2), axis=1)
    levels = np.atleast_1d(np.asarray(quantiles, np.float64))

    def cdf(points: Any) -> Array:
        last = np.broadcast_to(np.asarray(points, np.float64), trials.shape)
        return beta_binomial_cdf(last, trials, alpha, beta, weight)

    limits = beta_binomial_quantiles(levels, trials, alpha, beta, weight)
    return Description(mean, np.sqrt(variance), limits, cdf)


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


def describe_negative_binomial_mixture(
    shape: Array, rate: Array, exposure: Array, weight: Array, quantiles: Any
) -> Description:
    """Describe ``J`` mixtures of ``K`` Poisson counts in an exposure (J,), their rates Gamma.

    ``shape`` and ``rate`` are (J, K), ``weight`` (J, K) or (1, K), adding to one; levels (Q,).
    """
    weight, growth = np.broadcast_to(weight, shape.shape), exposure[:, None] / rate
    parts = shape * growth
    mean = np.sum(weight * parts, axis=1)
    within = parts * (1.0 + growth)
    sd = np.sqrt(np.sum(weight * (within + (parts - mean[:, None]) ** 2), axis=1))
    levels = np.atleast_1d(np.asarray(quantiles, np.float64))

    def cdf(points: Any) -> Array:
        at = np.broadcast_to(np.asarray(points, np.float64), mean.shape)
        return _cdf_of(np.arange(len(mean)), at)

    def _cdf_of(rows: NDArray[np.int64], at: Array) -> Array:
        probability = rate[rows] / (rate[rows] + exposure[rows, None])
        each = negative_binomial_cdf(at[:, None], shape[rows], probability)
        return np.asarray(np.sum(weight[rows] * each, axis=1))

    found = negative_binomial_counts(shape, rate, exposure, weight).quantiles(levels * _SLACK)
    left = np.flatnonzero(np.isnan(found).any(axis=1))
    if len(left):
        some = partial(_cdf_of, left)
        found[left] = count_quantiles(levels, some, mean[left], sd[left])
    return Description(mean, sd, found, cdf)


def beta_binomial_cdf(
    points: Array, trials: Array, alpha: Array, beta: Array, weight: Array
) -> Array:
    """P(Y ≤ point) for mixtures of Beta-Binomial counts, by summing probabilities.

    Parameters
    ----------
    points, trials : (J,); whole trials.
    alpha, beta, weight : (J, K).
    """
    last = np.floor(points)
    result, few = np.full(trials.shape, np.nan), trials <= PRODUCT
    for some, count in ((few, _cdf_of_few), (~few, beta_binomial_tails)):
        rows = np.flatnonzero(some)
        result[rows] = count(last[rows], *_rows(rows, trials, alpha, beta, weight))
    left = np.flatnonzero(np.isnan(result))
    result[left] = _long_cdf(last[left], *_rows(left, trials, alpha, beta, weight))
    return result


def _cdf_of_few(last: Array, trials: Array, alpha: Array, beta: Array, weight: Array) -> Array:
    return beta_binomial_counts(trials, alpha, beta, weight).cdf(last)


def _long_cdf(last: Array, trials: Array, alpha: Array, beta: Array, weight: Array) -> Array:
    result = np.empty(trials.shape)
    for members, cumulative in _cumulative(trials, alpha, beta, weight):
        column = np.clip(last[members], 0, cumulative.shape[1] - 1).astype(np.int64)
        found = cumulative[np.arange(len(members)), column]
        result[members] = np.where(last[members] < 0, 0.0, found)
    for store, long_sum in _long_sums(trials, alpha, beta, weight):
        result[store] = long_sum.cdf(float(last[store]))
    return result


def beta_binomial_quantiles(
    levels: Array, trials: Array, alpha: Array, beta: Array, weight: Array
) -> Array:
    """Smallest k with P(Y ≤ k) ≥ level, (J, Q) for levels (Q,)."""
    if not len(levels):
        return np.empty((len(trials), 0))
    result = beta_binomial_counts(trials, alpha, beta, weight).quantiles(levels * _SLACK)
    left = np.flatnonzero(np.isnan(result).any(axis=1))
    result[left] = _long_quantiles(levels, *_rows(left, trials, alpha, beta, weight))
    return np.minimum(result, trials[:, None])


def _long_quantiles(
    levels: Array, trials: Array, alpha: Array, beta: Array, weight: Array
) -> Array:
    result = np.empty((len(trials), len(levels)))
    for members, cumulative in _cumulative(trials, alpha, beta, weight):
        for q, level in enumerate(levels):
            result[members, q] = np.sum(cumulative < level * _SLACK, axis=1)
    for store, long_sum in _long_sums(trials, alpha, beta, weight):
        result[store] = [long_sum.quantile(level * _SLACK) for level in levels.tolist()]
    return result


def _rows(rows: NDArray[np.int64], *arrays: Array) -> tuple[Array, ...]:
    return tuple(values[rows] for values in arrays)


def _check_trials(trials: Array) -> None:
    wrong = ~((trials >= 0) & (trials == np.floor(trials)) & np.isfinite(trials))
    if np.any(wrong):
        raise StatisticsError(
            "a number of future trials is negative or not whole",
            where={"value": float(trials[wrong][0])},
            expected="0, 1, 2, ...",
            remedy="pass whole trials as exposure",
        )


def _is_long(trials: Array, alpha: Array) -> NDArray[np.bool_]:
    return np.asarray(trials * alpha.shape[1] > _LONG)


def _long_sums(
    trials: Array, alpha: Array, beta: Array, weight: Array
) -> Iterator[tuple[int, LongSum]]:
    """Yield the stores that ``_cumulative`` leaves out."""
    for j in np.flatnonzero(_is_long(trials, alpha)).tolist():
        yield j, LongSum(float(trials[j]), alpha[j], beta[j], weight[j])


def _cumulative(
    trials: Array, alpha: Array, beta: Array, weight: Array
) -> Iterator[tuple[NDArray[np.int64], Array]]:
    """Yield blocks of stores and their cdf at 0, 1, …, max trials, in bounded memory.

    Stores with many trials are left to ``_long_sums``.
    """
    order = np.argsort(trials, kind="stable")
    order = order[~_is_long(trials, alpha)[order]]
    start = 0
    while start < len(order):
        size = max(1, _CELLS // ((int(trials[order[-1]]) + 1) * alpha.shape[1]))
        members = order[start : start + size]
        mass = _masses(trials[members, None, None], alpha[members], beta[members])
        cumulative = np.cumsum(np.einsum("jk,jkn->jn", weight[members], mass), axis=1)
        yield members, cumulative / cumulative[:, -1:]
        start += size


def _masses(n: Array, alpha: Array, beta: Array) -> Array:
    """Beta-Binomial probabilities of 0, 1, …, max n, (J, K, max n + 1).

    They follow from the ratio of neighbours, P(k+1)/P(k) =
    (n − k)(α + k) / ((k + 1)(β + n − k − 1)), and add up to one; no log-gamma loses digits.
    """
    k = np.arange(int(np.max(n, initial=0)))
    a, b = alpha[..., None], beta[..., None]
    below = k < n
    # In this order a tiny β is not lost beside n.
    ratio = np.where(below, (n - k) * (a + k), 0.0) / (
        (k + 1.0) * np.where(below, (n - k - 1.0) + b, 1.0)
    )
    with np.errstate(divide="ignore"):
        log_mass = np.cumsum(np.log(ratio), axis=-1)
    log_mass = np.concatenate([np.zeros((*alpha.shape, 1)), log_mass], axis=-1)
    mass = np.exp(log_mass - log_mass.max(axis=-1, keepdims=True))
    return np.asarray(mass / mass.sum(axis=-1, keepdims=True))


def negative_binomial_cdf(points: Any, shape: Array, probability: Array) -> Array:
    """P(Y ≤ point) of a negative binomial: the incomplete beta ratio I_p(shape, k + 1)."""
    k = np.floor(np.asarray(points, np.float64))
    return np.where(k < 0, 0.0, special.betainc(shape, np.maximum(k, 0.0) + 1.0, probability))


def count_quantiles(levels: Array, cdf: Callable[[Array], Array], mean: Array, sd: Array) -> Array:
    """Smallest k with cdf(k) ≥ level, by bracketing and bisection; (J, ..., Q)."""
    found = np.empty((*np.shape(mean), len(levels)))
    for column, level in enumerate(levels):
        found[..., column] = _smallest_count(level * _SLACK, cdf, mean, sd)
    return found


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
