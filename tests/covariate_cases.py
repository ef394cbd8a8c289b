"""Data of each scalar family with covariates, and its likelihood written with scipy alone."""

from typing import Any

import numpy as np
from scipy import special, stats

from hbpipe.model.families import FAMILIES

#: The families whose prior mean may depend on covariates.
FAMILIES_WITH_COVARIATES = [n for n, family in FAMILIES.items() if family.regression is not None]


def covariates(rng: np.random.Generator, stores: int, width: int) -> np.ndarray:
    """An intercept, a category and continuous columns, the last in odd units."""
    columns = [np.ones(stores), rng.integers(0, 2, stores).astype(float)]
    columns += [10.0 * rng.normal(size=stores) + 2000.0 for _ in range(width - 2)]
    return np.column_stack(columns[:width])


def predictor(x: np.ndarray, level: float) -> np.ndarray:
    """A linear predictor of ordinary size."""
    slopes = np.array([0.6, 0.02, -0.03, 0.01])[: x.shape[1] - 1]
    return level + (x[:, 1:] - x[:, 1:].mean(axis=0)) @ slopes


def beta_binomial(seed: int, stores: int = 60, width: int = 3) -> tuple[dict[str, Any], np.ndarray]:
    rng = np.random.default_rng(seed)
    x = covariates(rng, stores, width)
    n = np.floor(np.exp(rng.uniform(0, 6, stores))).astype(int)
    mean = special.expit(predictor(x, -2.0))
    theta = rng.beta(20.0 * mean, 20.0 * (1.0 - mean))
    return {"successes": rng.binomial(n, theta), "trials": n}, x


def gamma_poisson(seed: int, stores: int = 60, width: int = 3) -> tuple[dict[str, Any], np.ndarray]:
    rng = np.random.default_rng(seed)
    x = covariates(rng, stores, width)
    exposure = np.exp(rng.uniform(-2, 4, stores))
    theta = rng.gamma(2.0, np.exp(predictor(x, 0.5)) / 2.0)
    return {"count": rng.poisson(theta * exposure), "exposure": exposure}, x


def normal(seed: int, stores: int = 60, width: int = 3) -> tuple[dict[str, Any], np.ndarray]:
    rng = np.random.default_rng(seed)
    x = covariates(rng, stores, width)
    n = rng.integers(1, 30, stores)
    theta = rng.normal(50.0 + 3.0 * predictor(x, 0.0), 2.0)
    mean = rng.normal(theta, 10.0 / np.sqrt(n))
    m2 = 100.0 * rng.chisquare(np.maximum(n - 1, 1)) * (n > 1)
    return {"n": n, "mean": mean, "m2": m2}, x


def normal_known_variance(
    seed: int, stores: int = 60, width: int = 3
) -> tuple[dict[str, Any], np.ndarray]:
    rng = np.random.default_rng(seed)
    x = covariates(rng, stores, width)
    variance = np.exp(rng.uniform(-2, 2, stores))
    estimate = rng.normal(predictor(x, 5.0), np.sqrt(0.5 + variance))
    return {"estimate": estimate, "variance": variance}, x


DATA = {
    "beta_binomial": beta_binomial,
    "gamma_poisson": gamma_poisson,
    "normal": normal,
    "normal_known_variance": normal_known_variance,
}


def log_likelihood(family: str, data: dict[str, Any], line: np.ndarray, *others: float) -> float:
    """Log density of the data, store by store; ``others`` are named hyperparameters."""
    if family == "beta_binomial":
        (concentration,) = others
        a, b = special.expit(line) * concentration, special.expit(-line) * concentration
        return float(np.sum(stats.betabinom.logpmf(data["successes"], data["trials"], a, b)))
    if family == "gamma_poisson":
        (shape,) = others
        share = shape / (shape + np.exp(line) * data["exposure"])
        return float(np.sum(stats.nbinom.logpmf(data["count"], shape, share)))
    if family == "normal_known_variance":
        (tau,) = others
        sd = np.sqrt(tau**2 + data["variance"])
        return float(np.sum(stats.norm.logpdf(data["estimate"], line, sd)))
    tau, sigma = others
    n = data["n"]
    between = stats.norm.logpdf(data["mean"], line, np.sqrt(tau**2 + sigma**2 / n))
    # The values given their mean: a normal sample of n − 1 contrasts.
    within = -0.5 * (n - 1) * np.log(2 * np.pi * sigma**2) - 0.5 * data["m2"] / sigma**2
    return float(np.sum(between + within - 0.5 * np.log(n)))
