"""Simulated pools with known hyperparameters: what the coverage study draws from.

The signal ratio r is τ² over the sampling variance of the median store; for counts the median
size over the concentration or the rate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Family


@dataclass(frozen=True)
class Truth:
    """Data of ``G`` replicates of ``J`` stores, and the hyperparameters they come from.

    ``statistics`` name -> (G J, ...); ``hyperparameters`` name -> (G, ...).
    """

    statistics: Mapping[str, NDArray[Any]]
    hyperparameters: dict[str, Array]


@dataclass(frozen=True)
class Design:
    """How the pools of a family are drawn, and which of its terms are looked at.

    ``draw`` takes (rng, replicates G, stores J, signal ratio). ``terms`` are numbers of
    coefficients where a store has several; none where θ is one number. ``size`` is the family's,
    ``family`` its name where the design has one of its own, ``prior`` its prior.
    """

    draw: Callable[[np.random.Generator, int, int, float], Truth]
    terms: tuple[int, ...] = ()
    size: int | None = None
    family: str | None = None
    prior: str = "single"


def draw_sizes(rng: np.random.Generator, shape: tuple[int, int], low: float, high: float) -> Array:
    """Draw sizes of stores, log-uniform from ``low`` to ``high``."""
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), shape)))


def _normal(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Values with σ = 1 unknown, 2 to 100 a store."""
    n = np.ceil(draw_sizes(rng, (replicates, groups), 1.0, 100.0)).astype(np.int64) + 1
    tau = np.sqrt(ratio / np.median(n, axis=1))
    theta = rng.normal(size=n.shape) * tau[:, None]
    statistics = {
        "n": n.ravel(),
        "mean": (theta + rng.normal(size=n.shape) / np.sqrt(n)).ravel(),
        "m2": rng.chisquare(n - 1).ravel(),
    }
    return Truth(statistics, {"mu": 0.0 * tau, "tau": tau, "sigma": 0.0 * tau + 1.0})


def _normal_weighted(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Values with σ = 1 unknown, 2 to 100 a store, whose precisions are from 1/4 to 4."""
    n = np.ceil(draw_sizes(rng, (replicates, groups), 1.0, 100.0)).astype(np.int64) + 1
    precision = draw_sizes(rng, n.shape, 0.25, 4.0)
    total = n * precision
    tau = np.sqrt(ratio / np.median(total, axis=1))
    theta = rng.normal(size=n.shape) * tau[:, None]
    statistics = {
        "n": n.ravel(),
        "precision": total.ravel(),
        "log_precision": (n * np.log(precision)).ravel(),
        "mean": (theta + rng.normal(size=n.shape) / np.sqrt(total)).ravel(),
        "m2": rng.chisquare(n - 1).ravel(),
    }
    return Truth(statistics, {"mu": 0.0 * tau, "tau": tau, "sigma": 0.0 * tau + 1.0})


def _known_variance(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Variances log-normal with log-sd 0.3 or 1, or 1/n, in turn."""
    shape = (replicates, groups)
    turn = np.arange(replicates)[:, None] % 3
    log_normal = np.exp(np.where(turn == 0, 0.3, 1.0) * rng.normal(size=shape))
    variance = np.where(turn == 2, 1.0 / draw_sizes(rng, shape, 5.0, 400.0), log_normal)
    tau = np.sqrt(ratio * np.median(variance, axis=1))
    theta = rng.normal(size=shape) * tau[:, None]
    estimate = theta + rng.normal(size=shape) * np.sqrt(variance)
    statistics = {"estimate": estimate.ravel(), "variance": variance.ravel()}
    return Truth(statistics, {"mu": 0.0 * tau, "tau": tau})


def _beta_binomial(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Rates around 0.02, 0.1 and 0.3 in turn, 5 to 400 trials."""
    n = np.ceil(draw_sizes(rng, (replicates, groups), 4.0, 400.0)).astype(np.int64)
    mean = np.array([0.02, 0.1, 0.3])[np.arange(replicates) % 3]
    size = np.median(n, axis=1) / ratio
    theta = rng.beta((mean * size)[:, None], ((1.0 - mean) * size)[:, None], n.shape)
    statistics = {"successes": rng.binomial(n, theta).ravel(), "trials": n.ravel()}
    return Truth(statistics, {"alpha": mean * size, "beta": (1.0 - mean) * size})


def _gamma_poisson(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Rates around 0.02, 0.2 and 2 in turn, exposures 5 to 400."""
    exposure = draw_sizes(rng, (replicates, groups), 5.0, 400.0)
    mean = np.array([0.02, 0.2, 2.0])[np.arange(replicates) % 3]
    rate = np.median(exposure, axis=1) / ratio
    theta = rng.gamma((mean * rate)[:, None], 1.0, exposure.shape) / rate[:, None]
    statistics = {"count": rng.poisson(theta * exposure).ravel(), "exposure": exposure.ravel()}
    return Truth(statistics, {"shape": mean * rate, "rate": rate})


def _inverse_gamma(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Values with a variance per store, d0 = 4, 10 or 40 in turn, 2 to 100 a store."""
    n = np.ceil(draw_sizes(rng, (replicates, groups), 1.0, 100.0)).astype(np.int64) + 1
    d0 = np.array([4.0, 10.0, 40.0])[np.arange(replicates) % 3]
    kappa = np.median(n, axis=1) / ratio
    variance = d0[:, None] / rng.chisquare(np.broadcast_to(d0[:, None], n.shape))
    theta = rng.normal(size=n.shape) * np.sqrt(variance / kappa[:, None])
    statistics = {
        "n": n.ravel(),
        "mean": (theta + rng.normal(size=n.shape) * np.sqrt(variance / n)).ravel(),
        "m2": (variance * rng.chisquare(n - 1)).ravel(),
    }
    return Truth(
        statistics, {"mu": 0.0 * d0, "kappa": kappa, "d0": d0, "s0_squared": 0.0 * d0 + 1.0}
    )


#: Days of a window in which levels drift.
_DAYS = 14


def _local_level(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Values with σ = 1, 2 to 100 a store; drift over the window of 0.2, 1 or 4 τ² in turn."""
    family = get_family("local_level", _DAYS)
    n = np.ceil(draw_sizes(rng, (replicates, groups), 1.0, 100.0)).astype(np.int64) + 1
    tau = np.sqrt(ratio / np.median(n, axis=1))
    turn = np.array([0.2, 1.0, 4.0])[np.arange(replicates) % 3]
    found = {"mu": 0.0 * tau, "tau": tau, "signal_ratio": turn * tau**2 / (_DAYS - 1)}
    pools = [
        family.simulate(
            rng, {**{name: v[g] for name, v in found.items()}, "sigma": 1.0}, groups, n[g]
        )
        for g in range(replicates)
    ]
    parts = [family.summarise(events, codes, groups) for events, codes, _ in pools]
    statistics = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Truth(statistics, {**found, "sigma": 0.0 * tau + 1.0})


def _regression(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Rows with σ = 1 unknown, 5 to 100 a store; intercept and slope correlate by 0 or ±½."""
    family = get_family("normal_regression", 2)
    pools = [_one_regression(rng, family, groups, ratio, turn) for turn in range(replicates)]
    statistics = [pool.statistics for pool in pools]
    hyperparameters = [pool.hyperparameters for pool in pools]
    return Truth(
        {name: np.concatenate([part[name] for part in statistics]) for name in statistics[0]},
        {name: np.stack([part[name] for part in hyperparameters]) for name in hyperparameters[0]},
    )


def _one_regression(
    rng: np.random.Generator, family: Family, groups: int, ratio: float, turn: int
) -> Truth:
    n = np.ceil(draw_sizes(rng, (1, groups), 4.0, 100.0)[0]).astype(np.int64)
    codes = np.repeat(np.arange(groups), n)
    x = rng.normal(size=len(codes))
    centred = x - (np.bincount(codes, x) / n)[codes]
    noise = np.array([np.median(1.0 / n), np.median(1.0 / np.bincount(codes, centred**2))])
    tau = np.sqrt(ratio * noise)
    correlation = (0.0, 0.5, -0.5)[turn % 3]
    sigma = np.outer(tau, tau) * np.array([[1.0, correlation], [correlation, 1.0]])
    theta = rng.multivariate_normal([0.0, 0.0], sigma, groups)
    predictors = np.column_stack([np.ones(len(x)), x])
    response = np.sum(predictors * theta[codes], axis=1) + rng.normal(size=len(x))
    statistics = family.summarise({"predictors": predictors, "response": response}, codes, groups)
    return Truth(statistics, {"mu": np.zeros(2), "Sigma": sigma, "sigma": np.ones(())})


def _hurdle(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Conversion around 0.05, 0.1 and 0.3 in turn, 20 to 2000 visits; log amounts with σ = 0.8."""
    n = np.ceil(draw_sizes(rng, (replicates, groups), 20.0, 2000.0)).astype(np.int64)
    mean = np.array([0.05, 0.1, 0.3])[np.arange(replicates) % 3]
    size = np.median(n, axis=1) / ratio
    p = rng.beta((mean * size)[:, None], ((1.0 - mean) * size)[:, None], n.shape)
    y, sigma = rng.binomial(n, p), 0.0 * mean + 0.8
    tau = sigma * np.sqrt(ratio / (mean * np.median(n, axis=1)))
    m = rng.normal(size=n.shape) * tau[:, None]
    paid, noise = np.maximum(y, 1), sigma[:, None] * rng.normal(size=n.shape)
    squares = np.square(sigma[:, None]) * rng.chisquare(np.maximum(y - 1, 1))
    statistics = {
        "successes": y.ravel(),
        "trials": n.ravel(),
        "mean": np.where(y > 0, m + noise / np.sqrt(paid), 0.0).ravel(),
        "m2": np.where(y > 1, squares, 0.0).ravel(),
    }
    conversion = {"alpha": mean * size, "beta": (1.0 - mean) * size}
    return Truth(statistics, conversion | {"mu": 0.0 * tau, "tau": tau, "sigma": sigma})


DESIGNS: dict[str, Design] = {
    "normal": Design(_normal),
    "normal_weighted": Design(_normal_weighted),
    "normal_known_variance": Design(_known_variance),
    "beta_binomial": Design(_beta_binomial),
    "gamma_poisson": Design(_gamma_poisson),
    "normal_inverse_gamma": Design(_inverse_gamma),
    "normal_regression": Design(_regression, terms=(1,), size=2),
    "local_level": Design(_local_level, size=_DAYS),
    "hurdle_lognormal": Design(_hurdle),
}
