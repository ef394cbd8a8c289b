"""Simulated stores of one chain, as the library's fits and posteriors take them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Statistics = dict[str, NDArray[np.int64] | NDArray[np.float64]]

SEED = 1


def conversions(stores: int, median: float = 200.0) -> Statistics:
    """Simulate successes of heavy-tailed trials: rates from Beta(4, 36)."""
    rng = np.random.default_rng(SEED)
    trials = np.maximum(1, rng.lognormal(np.log(median), 1.5, stores)).astype(np.int64)
    return {"successes": rng.binomial(trials, rng.beta(4.0, 36.0, stores)), "trials": trials}


def orders(stores: int) -> Statistics:
    """Simulate counts in heavy-tailed exposures: rates from Gamma(3, 0.5)."""
    rng = np.random.default_rng(SEED)
    exposure = np.maximum(1, rng.lognormal(np.log(28.0), 1.0, stores)).round()
    return {"count": rng.poisson(exposure * rng.gamma(3.0, 2.0, stores)), "exposure": exposure}


def baskets(stores: int) -> Statistics:
    """Simulate logs of baskets: means from N(3, 0.3), one sigma of 0.6."""
    rng = np.random.default_rng(SEED)
    n = np.maximum(2, rng.lognormal(np.log(50.0), 1.0, stores)).astype(np.int64)
    mean = 3.0 + 0.3 * rng.standard_normal(stores) + 0.6 * rng.standard_normal(stores) / np.sqrt(n)
    return {"n": n, "mean": mean, "m2": 0.36 * rng.chisquare(n - 1)}


SIMULATED: dict[str, Callable[[int], Statistics]] = {
    "beta_binomial": conversions,
    "gamma_poisson": orders,
    "normal": baskets,
}
