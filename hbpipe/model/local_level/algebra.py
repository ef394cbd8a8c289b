"""The law of a path of levels θ_0, …, θ_{D−1}, before and after data: the conjugate algebra.

A law is a local level started from N(mu, tau²), with n_d values of mean m_d seen on day d. The
prior has seen none; values that are seen join those that were. Its normaliser is the integral of
exp(Σ n_d (θ_d m_d − ½ θ_d²)/σ²) over the prior, so without values it is 1. θ without an index is
the level of the last day.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.family import Array, Description, Hyperparameters, Prior, Statistics
from hbpipe.model.local_level.filtering import Level, evidence, filtered
from hbpipe.model.marginal.means import LOG_2PI

NAMES = ("mu", "tau", "signal_ratio", "sigma")
#: A step of a day is at most a hundred times as large as the noise of a value.
RATIO_BOUND = 1e4
#: σ between 1e-33 and 1e33: derivatives, with σ⁻⁶ in them, are still numbers.
LOG_SIGMA_BOUND = 75.0


def prior(hyperparameters: Hyperparameters, *, size: int) -> Prior:
    """Return the law of a path of ``size`` days of which nothing was seen."""
    found = {name: np.asarray(hyperparameters[name], np.float64) for name in NAMES}
    shape = (*np.broadcast_shapes(*(np.shape(values) for values in found.values())), size)
    return {**found, "n": np.zeros(shape), "mean": np.zeros(shape)}


def update(statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
    """Posterior law of the path of each store; ``hyperparameters`` may be such a law."""
    n = np.asarray(statistics["n"], np.float64)
    before = hyperparameters.get("n", 0.0)
    total, mean = before + n, hyperparameters.get("mean", 0.0)
    share = np.divide(n, total, out=np.zeros_like(n), where=n > 0)
    known = {
        name: np.broadcast_to(np.asarray(hyperparameters[name], np.float64), n.shape[:1])
        for name in NAMES
    }
    return {**known, "n": total, "mean": mean + share * (statistics["mean"] - mean)}


def log_normaliser(law: Prior) -> Array:
    """Log of the integral, with days gathered on the first one."""
    shape = np.broadcast_shapes(law["n"].shape[:-1], *(law[name].shape for name in NAMES))
    n, mean = (np.broadcast_to(law[name], (*shape, law["n"].shape[-1])) for name in ("n", "mean"))
    ratio = np.broadcast_to(law["signal_ratio"], shape).ravel()
    flat = (len(ratio), n.shape[-1])
    days = evidence(n.reshape(flat), mean.reshape(flat), ratio)
    size, centre, squares, fading = (
        part.reshape(shape) for part in (days.size, days.mean, days.squares, days.fading)
    )
    precision = 1.0 / np.square(law["sigma"])
    signal = size * np.square(law["tau"]) * precision
    squares = squares + size * np.square(centre - law["mu"]) / (1.0 + signal)
    raw = np.sum(n * np.square(mean), axis=-1)
    return np.asarray(0.5 * ((raw - squares) * precision - np.log1p(signal) - fading))


def log_base_measure(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Σ log N(x; 0, σ²) of the values of a store, which is 0 for an absent one."""
    sigma = np.asarray(hyperparameters["sigma"], np.float64)
    n = np.asarray(statistics["n"], np.float64)
    squares = np.sum(statistics["m2"] + n * np.square(statistics["mean"]), axis=1)
    return np.asarray(
        -n.sum(axis=1) * (0.5 * LOG_2PI + np.log(sigma)) - 0.5 * squares / np.square(sigma)
    )


def describe(posterior: Prior, quantiles: Any) -> Description:
    """Mean, sd, quantiles and cdf of the level of the last day."""
    level = _last(posterior)
    return NORMAL.describe(level.mean, posterior["sigma"] * np.sqrt(level.variance), quantiles)


def predict(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict the mean of ``exposure`` further values of the last day."""
    level = _last(posterior)
    variance = level.variance + 1.0 / np.asarray(exposure, np.float64)
    return NORMAL.describe(level.mean, posterior["sigma"] * np.sqrt(variance), quantiles)


def _last(law: Prior) -> Level:
    spread = np.square(law["tau"] / law["sigma"])
    return filtered(law["n"], law["mean"], law["mu"], spread, law["signal_ratio"])


def from_coordinates(coordinates: Array) -> dict[str, Array]:
    """(μ, τ², q, log σ) → mu, tau, signal_ratio, sigma."""
    return {
        "mu": coordinates[..., 0],
        "tau": np.sqrt(coordinates[..., 1]),
        "signal_ratio": coordinates[..., 2],
        "sigma": np.exp(coordinates[..., 3]),
    }


def to_coordinates(hyperparameters: Hyperparameters) -> Array:
    """Mu, tau, signal_ratio, sigma → (μ, τ², q, log σ), NaN for those that are missing."""
    mu, tau, ratio, sigma = (
        np.asarray(hyperparameters.get(name, np.nan), np.float64) for name in NAMES
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.broadcast_arrays(mu, np.square(tau), ratio, np.log(sigma))
    return np.stack(parts, axis=-1)
