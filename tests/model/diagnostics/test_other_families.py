"""Covariates on the prior mean, and a variance per store: hyperparameters of all stores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from hbpipe.model.diagnostics.diagnosis import Diagnosis, PoolPriors, diagnose_stores
from hbpipe.model.diagnostics.predictive import leave_one_out
from hbpipe.model.families import get_family
from hbpipe.model.family import Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools


def checked(
    family: Family, statistics: dict[str, np.ndarray], sizes: np.ndarray, pools: np.ndarray
) -> tuple[Diagnosis, np.ndarray]:
    """Fit and check; also return the probabilities below each store."""
    count = int(pools.max()) + 1
    fits = fit_pools(family, family.compress(statistics, pools, count))
    nodes = integrate_pools(fits, uncertainty="plug_in")
    priors = PoolPriors(family, nodes, fits.hyperparameters, fits.coordinates, fits.held)
    sums, _ = diagnose_stores(priors, statistics, sizes, pools)
    return Diagnosis(sums, np.ones(count, bool)), leave_one_out(
        priors.family, priors.nodes, priors.hyperparameters, statistics, pools
    ).below


@pytest.mark.parametrize("told", [True, False])
def test_a_covariate_that_is_left_out_is_missed(told: bool) -> None:
    rng = np.random.default_rng(31)
    stores, pools = 1200, np.repeat([0, 1], 600)
    x = np.column_stack([np.ones(stores), rng.random(stores) < 0.5]).astype(float)
    mean = special.expit(-1.5 + 2.0 * x[:, 1])
    trials = rng.integers(50, 400, stores)
    statistics = {
        "successes": rng.binomial(trials, rng.beta(60 * mean, 60 * (1 - mean))),
        "trials": trials,
    }
    family = get_family("beta_binomial")
    if told:
        family = get_family("beta_binomial", None, 2)
        statistics["covariates"] = x
    found, _ = checked(family, statistics, trials.astype(float), pools)
    beyond = found.shape.whole.statistic[0] > found.shape.whole_critical
    assert beyond == (not told)


def test_a_variance_per_store() -> None:
    rng = np.random.default_rng(32)
    stores, pools = 2000, np.repeat([0, 1], 1000)
    n, sigma = rng.integers(2, 40, stores), np.sqrt(6.0 / rng.chisquare(6.0, stores))
    theta = rng.normal(1.0, sigma / np.sqrt(4.0))
    statistics = {
        "n": n,
        "mean": rng.normal(theta, sigma / np.sqrt(n)),
        "m2": sigma**2 * rng.chisquare(n - 1),
    }
    found, below = checked(get_family("normal_inverse_gamma"), statistics, n.astype(float), pools)
    assert stats.kstest(below, "uniform").pvalue > 0.01
    for tested in (found.pit, found.shape, found.calibration):
        assert tested.whole.statistic[0] < tested.whole_critical
