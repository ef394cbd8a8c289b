"""Next observations and their p-values against draws of hyperparameters and stores."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hbpipe
from hbpipe.model.families import get_family
from hbpipe.model.update.predict_pools import Pools, predict_stores, two_sided_p_values

DRAWS = 200_000
CLOSE = 3 * 0.5 / np.sqrt(DRAWS)
LEVELS = np.array([0.05, 0.95])


def pools_of(family: str, statistics: dict[str, Any], uncertainty: str = "integrated") -> Any:
    fit = hbpipe.fit(family, statistics)
    found = hbpipe.posterior(fit, statistics, uncertainty=uncertainty)
    return Pools(get_family(family), found.nodes, fit.pools.hyperparameters)


def nodes_drawn(pools: Pools, seed: int) -> tuple[Any, Any, Any]:
    rng, nodes = np.random.default_rng(seed), pools.nodes
    at = rng.choice(nodes.weight.size, DRAWS, p=nodes.weight.ravel())
    names = ("spread", "location", "location_variance", "noise")
    spread, location, left, noise = (getattr(nodes, name).ravel()[at] for name in names)
    return spread, location + np.sqrt(left) * rng.standard_normal(DRAWS), noise


def two_sided(drawn: Any, value: float) -> float:
    below = float(np.mean(drawn < value) + 0.5 * np.mean(drawn == value))
    return 2 * min(below, 1 - below)


def compare(pools: Pools, statistics: Any, exposure: Any, observed: Any, draw: Any) -> None:
    arrays = {name: np.asarray(values) for name, values in statistics.items()}
    codes = np.zeros(len(exposure), int)
    found = predict_stores(pools, arrays, codes, exposure, LEVELS)
    p = two_sided_p_values(pools, arrays, codes, exposure, observed)
    for j in range(len(exposure)):
        drawn = draw(j)
        error = np.std(drawn) / np.sqrt(DRAWS)
        assert found.mean[j] == pytest.approx(np.mean(drawn), abs=4 * error), j
        assert found.sd[j] == pytest.approx(np.std(drawn), rel=0.02), j
        low, high = found.quantiles[j]
        assert np.mean(drawn <= low) >= 0.05 - CLOSE
        assert np.mean(drawn < low) <= 0.05 + CLOSE
        assert np.mean(drawn <= high) >= 0.95 - CLOSE
        assert np.mean(drawn < high) <= 0.95 + CLOSE
        assert p[j] == pytest.approx(two_sided(drawn, observed[j]), abs=3 * CLOSE), j


def test_successes_of_the_next_day() -> None:
    trials, successes = np.array([40, 60, 25, 90, 0]), np.array([4, 15, 2, 30, 0])
    statistics = {"successes": successes, "trials": trials}
    pools = pools_of("beta_binomial", statistics)
    spread, mu, _ = nodes_drawn(pools, 1)
    exposure = np.array([12.0, 7.0, 1.0, 30.0, 5.0])
    rng = np.random.default_rng(2)

    def draw(j: int) -> Any:
        a, b = mu / spread + successes[j], (1 - mu) / spread + trials[j] - successes[j]
        return rng.binomial(int(exposure[j]), rng.beta(a, b))

    compare(pools, statistics, exposure, np.array([0.0, 2.0, 1.0, 3.0, 4.0]), draw)


def test_counts_of_the_next_day() -> None:
    count, exposure = np.array([3, 20, 8, 15, 9]), np.array([4.0, 10.5, 9.0, 6.0, 7.0])
    statistics = {"count": count, "exposure": exposure}
    pools = pools_of("gamma_poisson", statistics)
    spread, mu, _ = nodes_drawn(pools, 3)
    future, rng = np.array([1.0, 2.5, 0.5, 1.0, 300.0]), np.random.default_rng(4)

    def draw(j: int) -> Any:
        theta = rng.gamma(mu / spread + count[j]) / (1 / spread + exposure[j])
        return rng.poisson(theta * future[j])

    compare(pools, statistics, future, np.array([5.0, 0.0, 1.0, 2.0, 700.0]), draw)


def test_the_mean_of_the_next_values() -> None:
    n, mean = np.array([5, 9, 2, 30, 0]), np.array([1.0, 1.9, -0.4, 0.7, 0.0])
    statistics = {"n": n, "mean": mean, "m2": np.array([4.0, 8.0, 1.5, 28.0, 0.0])}
    pools = pools_of("normal", statistics)
    spread, mu, noise = nodes_drawn(pools, 5)
    exposure, rng = np.array([1.0, 4.0, 2.0, 9.0, 3.0]), np.random.default_rng(6)

    def draw(j: int) -> Any:
        own = n[j] * spread / (1 + n[j] * spread)
        sd = np.sqrt(noise * (spread / (1 + n[j] * spread) + 1 / exposure[j]))
        return mu + own * (mean[j] - mu) + sd * rng.standard_normal(DRAWS)

    compare(pools, statistics, exposure, np.array([2.0, 1.0, 1.0, 1.5, -1.0]), draw)


@pytest.mark.parametrize("uncertainty", ["plug_in", "first_order", "integrated"])
def test_a_store_is_predicted_alike_by_the_library(uncertainty: str) -> None:
    rng = np.random.default_rng(7)
    trials = rng.integers(5, 300, 50)
    statistics = {"trials": trials, "successes": rng.binomial(trials, rng.beta(3, 20, 50))}
    fit = hbpipe.fit("beta_binomial", statistics)
    posterior = hbpipe.posterior(fit, statistics, uncertainty=uncertainty)
    pools = Pools(get_family("beta_binomial"), posterior.nodes, fit.pools.hyperparameters)
    exposure = rng.integers(1, 40, 50).astype(float)
    found = predict_stores(pools, statistics, np.zeros(50, int), exposure, LEVELS)
    expected = posterior.predict(exposure, (0.05, 0.95))
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(found.sd, expected.sd, rtol=1e-4)
    assert np.mean(found.quantiles == expected.quantiles) > 0.97


def test_a_variance_for_each_store_and_a_pool_that_is_known() -> None:
    rng = np.random.default_rng(8)
    n = rng.integers(3, 12, 12)
    statistics = {"n": n, "mean": rng.normal(5, 1, 12), "m2": (n - 1) * rng.gamma(4, 0.25, 12)}
    fit = hbpipe.fit("normal_inverse_gamma", statistics)
    exposure = np.full(12, 3.0)
    for uncertainty in ("plug_in", "integrated"):
        posterior = hbpipe.posterior(fit, statistics, uncertainty=uncertainty)
        pools = Pools(get_family(fit.family), posterior.nodes, fit.pools.hyperparameters)
        found = predict_stores(pools, statistics, np.zeros(12, int), exposure, LEVELS)
        expected = posterior.predict(3.0, (0.05, 0.95))
        np.testing.assert_allclose(found.quantiles, expected.quantiles, rtol=1e-12)
        p = two_sided_p_values(
            pools, statistics, np.zeros(12, int), exposure, expected.quantiles[:, 0]
        )
        np.testing.assert_allclose(p, 0.1, rtol=1e-6)
