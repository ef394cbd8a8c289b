"""Stores drawn from a model that holds, or that fails in one way."""

from __future__ import annotations

from typing import Any

import numpy as np

from hbpipe.model.diagnostics.diagnosis import Diagnosis, PoolPriors, diagnose_stores
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools

Statistics = dict[str, np.ndarray]


def _z(rng: np.random.Generator, stores: int, kind: str) -> np.ndarray:
    """What makes stores differ, of mean 0 and sd 1."""
    if kind == "heavy":
        return rng.standard_t(3, stores) / np.sqrt(3.0)
    if kind == "two":
        return rng.choice([-0.95, 0.95], stores) + rng.normal(0.0, 0.3, stores)
    return rng.normal(0.0, 1.0, stores)


def draw(rng: np.random.Generator, name: str, stores: int, kind: str = "clean") -> Statistics:
    """Draw a pool: clean, heavy (tails), two (kinds of stores), or over(dispersed)."""
    z, over = _z(rng, stores, kind), kind == "over"
    if name == "beta_binomial":
        trials = np.exp(rng.uniform(3.0, 7.0, stores)).astype(int)
        theta = rng.beta(5.0, 45.0, stores)
        if kind in ("heavy", "two"):
            theta = np.clip(0.3 + 0.05 * z, 0.01, 0.99)
        if over:
            theta = np.clip(rng.beta(theta * trials / 6, (1 - theta) * trials / 6), 1e-6, 1.0)
        return {"successes": rng.binomial(trials, theta), "trials": trials}
    if name == "gamma_poisson":
        exposure, theta = np.exp(rng.uniform(1.0, 5.0, stores)), rng.gamma(4.0, 0.5, stores)
        if kind in ("heavy", "two"):
            theta = np.maximum(5.0 + z, 0.1)
        if over:
            theta = rng.gamma(theta * exposure / 4.0, 4.0 / exposure)
        return {"count": rng.poisson(exposure * theta), "exposure": exposure}
    noise = 3.0 if over else 1.0
    if name == "normal":
        n = np.exp(rng.uniform(1.0, 5.0, stores)).astype(int)
        mean = 0.3 * z + rng.normal(0.0, 1.0, stores) * np.sqrt(noise / n)
        return {"n": n, "mean": mean, "m2": rng.chisquare(np.maximum(n - 1, 1)) * (n > 1)}
    variance = np.exp(rng.uniform(-5.0, 0.0, stores))
    return {
        "estimate": 0.5 * z + rng.normal(0.0, 1.0, stores) * np.sqrt(noise * variance),
        "variance": variance,
    }


def priors_of(
    name: str, statistics: Statistics, pools: np.ndarray, count: int, **options: Any
) -> PoolPriors:
    """Fit the pools."""
    family = get_family(name)
    fits = fit_pools(family, family.compress(statistics, pools, count), **options)
    return PoolPriors(
        family, integrate_pools(fits), fits.hyperparameters, fits.coordinates, fits.held
    )


def diagnose(name: str, statistics: Statistics, pools: np.ndarray, count: int) -> Diagnosis:
    """Fit the pools, and check them."""
    priors = priors_of(name, statistics, pools, count)
    assert priors.family.geometry is not None
    sizes, _ = priors.family.geometry.sizes(statistics)
    sums, _ = diagnose_stores(priors, statistics, sizes, pools)
    return Diagnosis(sums, np.ones(count, bool))
