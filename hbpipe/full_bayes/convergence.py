"""Whether Markov chains agree, and what their draws are worth: R-hat, effective sizes, errors.

Rank-normalised split R-hat and bulk and tail effective sizes are those of Vehtari, Gelman, Simpson,
Carpenter and Bürkner (2021, *Bayesian Analysis* 16). Draws are (C chains, N draws, K quantities).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

Array = NDArray[np.floating[Any]]

#: The levels of the tails.
_TAILS = (0.05, 0.95)


def r_hat(draws: Array) -> Array:
    """Return the rank-normalised split R-hat of location and of scale, the larger one, (K,)."""
    folded = np.abs(draws - np.median(draws, axis=(0, 1)))
    return np.maximum(_split_r_hat(_ranked(draws)), _split_r_hat(_ranked(folded)))


def bulk(draws: Array) -> Array:
    """Return the effective size in the middle of the law, (K,)."""
    return effective(_ranked(draws))


def tail(draws: Array) -> Array:
    """Return the effective size of the tails, the worse one, (K,)."""
    sizes = [effective(1.0 * (draws <= np.quantile(draws, level, axis=(0, 1)))) for level in _TAILS]
    return np.asarray(np.minimum(*sizes))


def errors(draws: Array, levels: tuple[float, float]) -> dict[str, Array]:
    """Return Monte Carlo standard errors of mean, sd and two quantiles, by name, (K,)."""
    mean, sd = draws.mean(axis=(0, 1)), draws.std(axis=(0, 1))
    squares = (draws - mean) ** 2
    of_squares = squares.std(axis=(0, 1)) / np.sqrt(effective(squares))
    low, high = (_error_of_quantile(draws, level) for level in levels)
    return {
        "mean": sd / np.sqrt(effective(draws)),
        "sd": of_squares / (2.0 * sd),
        "low": low,
        "high": high,
    }


def _error_of_quantile(draws: Array, level: float) -> Array:
    """Half the distance of the order statistics one error of the level below and above."""
    size = effective(1.0 * (draws <= np.quantile(draws, level, axis=(0, 1))))
    away = np.sqrt(level * (1.0 - level) / size)
    below, above = np.maximum(level - away, 0.0), np.minimum(level + away, 1.0)
    ordered = np.sort(draws.reshape(-1, draws.shape[2]), axis=0)
    last = len(ordered) - 1
    place = [np.rint(part * last).astype(np.int64) for part in (below, above)]
    columns = np.arange(draws.shape[2])
    return np.asarray(0.5 * (ordered[place[1], columns] - ordered[place[0], columns]))


def effective(draws: Array) -> Array:
    """Return the effective size of each quantity, (K,), by Geyer's initial monotone sequence.

    Chains are halved, so one that drifts counts as two that disagree. At most C N log10(C N), as
    antithetic draws may seem worth far more than they are.
    """
    halves = _halved(draws)
    chains, count, _ = halves.shape
    covariance = _autocovariance(halves)
    within = covariance[:, 0].mean(axis=0) * count / (count - 1.0)
    total = within * (count - 1.0) / count
    total = total + np.var(halves.mean(axis=1), axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlation = 1.0 - (within - covariance.mean(axis=0)) / total
    correlation[0] = 1.0
    even = correlation[: count - count % 2].reshape(-1, 2, correlation.shape[1]).sum(axis=1)
    positive = np.minimum.accumulate(np.maximum(even, 0.0), axis=0)
    time = np.maximum(2.0 * positive.sum(axis=0) - 1.0, 1.0 / np.log10(chains * count))
    sizes = chains * count / time
    return np.where(total > 0, sizes, 1.0)  # draws that do not move are one draw


def _autocovariance(draws: Array) -> Array:
    """Autocovariances of each chain, (C, N, K), by the fast Fourier transform."""
    count = draws.shape[1]
    centred = draws - draws.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * count, axis=1)
    found = np.fft.irfft(np.abs(spectrum) ** 2, 2 * count, axis=1)
    return np.asarray(found[:, :count] / count)


def _split_r_hat(draws: Array) -> Array:
    halves = _halved(draws)
    count = halves.shape[1]
    within = np.var(halves, axis=1, ddof=1).mean(axis=0)
    between = np.var(halves.mean(axis=1), axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.sqrt((count - 1.0) / count + between / within)
    return np.where(within > 0, ratio, np.inf)  # a chain that does not move has not converged


def _halved(draws: Array) -> Array:
    half = draws.shape[1] // 2
    return np.concatenate([draws[:, :half], draws[:, -half:]])


def _ranked(draws: Array) -> Array:
    """Put normal scores in the place of draws."""
    ranks = rankdata(draws.reshape(-1, draws.shape[2]), axis=0).reshape(draws.shape)
    return np.asarray(ndtri((ranks - 0.375) / (draws.shape[0] * draws.shape[1] + 0.25)))
