"""False sign rates against draws of hyperparameters and stores together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hbpipe
from hbpipe.model.families import get_family
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.update.signs import false_sign_rates

DRAWS = 400_000
#: Three standard errors of a probability from so many draws.
CLOSE = 3 * 0.5 / np.sqrt(DRAWS)


def rates_of(fit: Any, statistics: dict[str, Any], uncertainty: str = "integrated") -> Any:
    nodes = hbpipe.posterior(fit, statistics, uncertainty=uncertainty).nodes
    stores = len(next(iter(statistics.values())))
    arrays = {name: np.asarray(values) for name, values in statistics.items()}
    return nodes, false_sign_rates(get_family(fit.family), nodes, arrays, np.zeros(stores, int))


def drawn(nodes: Nodes, seed: int) -> tuple[Any, Any, Any]:
    """Draw A, the prior mean and the noise variance of the only pool."""
    rng = np.random.default_rng(seed)
    at = rng.choice(nodes.weight.size, DRAWS, p=nodes.weight.ravel())
    spread, location, left, noise = (
        getattr(nodes, name).ravel()[at]
        for name in ("spread", "location", "location_variance", "noise")
    )
    return spread, location + np.sqrt(left) * rng.standard_normal(DRAWS), noise


def rate(theta: Any, mean: Any) -> float:
    return min(float(np.mean(theta >= mean)), float(np.mean(theta <= mean)))


def test_normal_stores_share_an_uncertain_mean() -> None:
    n, mean = np.array([5, 9, 2, 30, 12, 0]), np.array([1.0, 1.9, -0.4, 0.7, 2.2, 0.0])
    m2 = np.array([4.0, 8.0, 1.5, 28.0, 10.0, 0.0])
    statistics = {"n": n, "mean": mean, "m2": m2}
    nodes, found = rates_of(hbpipe.fit("normal", statistics), statistics)
    spread, mu, noise = drawn(nodes, 1)
    z = np.random.default_rng(2).standard_normal(DRAWS)
    for j in range(len(n)):
        own = n[j] * spread / (1 + n[j] * spread)
        theta = mu + own * (mean[j] - mu) + np.sqrt(noise * spread / (1 + n[j] * spread)) * z
        assert found[j] == pytest.approx(rate(theta, mu), abs=CLOSE), j
    assert found[5] == pytest.approx(0.5, abs=1e-12), "nothing is known of its sign"
    marginal = hbpipe.posterior(hbpipe.fit("normal", statistics), statistics)
    alone = marginal.cdf(marginal["prior_mean"])
    assert np.max(np.abs(found - np.minimum(alone, 1 - alone))) > 0.01, "m is shared"


def test_rates_of_a_few_stores() -> None:
    trials, successes = np.array([40, 60, 25, 90, 10]), np.array([4, 15, 2, 30, 0])
    statistics = {"successes": successes, "trials": trials}
    nodes, found = rates_of(hbpipe.fit("beta_binomial", statistics), statistics)
    spread, mu, _ = drawn(nodes, 3)
    rng = np.random.default_rng(4)
    for j in range(len(trials)):
        a, b = mu / spread + successes[j], (1 - mu) / spread + trials[j] - successes[j]
        assert found[j] == pytest.approx(rate(rng.beta(a, b), mu), abs=CLOSE), j


def test_counts_of_a_pool_of_many_stores() -> None:
    """Its mean has no nodes of its own; here all of them are drawn from."""
    rng = np.random.default_rng(6)
    exposure = rng.uniform(5, 50, 300)
    counts = rng.poisson(exposure * rng.gamma(4.0, 0.1, 300))
    statistics = {"count": counts, "exposure": exposure}
    fit = hbpipe.fit("gamma_poisson", statistics)
    nodes, found = rates_of(fit, statistics)
    spread, mu, _ = drawn(nodes, 7)
    for j in (0, 17, 200):
        shape, size = mu / spread + counts[j], 1 / spread + exposure[j]
        assert found[j] == pytest.approx(rate(rng.gamma(shape) / size, mu), abs=2 * CLOSE), j
    _, quick = rates_of(fit, statistics, "first_order")
    np.testing.assert_allclose(quick, found, atol=0.01)


def test_a_variance_for_each_store() -> None:
    rng = np.random.default_rng(8)
    n = rng.integers(3, 12, 12)
    statistics = {"n": n, "mean": rng.normal(5, 1, 12), "m2": (n - 1) * rng.gamma(4, 0.25, 12)}
    nodes, found = rates_of(hbpipe.fit("normal_inverse_gamma", statistics), statistics)
    pool = nodes.pools[0]
    at = rng.choice(len(pool.weight), DRAWS, p=pool.weight)
    mu, kappa, d0, s0 = (pool.values[name][at] for name in ("mu", "kappa", "d0", "s0_squared"))
    for j in (0, 5, 11):
        total = kappa + n[j]
        apart = kappa * n[j] / total * (statistics["mean"][j] - mu) ** 2
        squares = d0 * s0 + statistics["m2"][j] + apart
        variance = squares / rng.chisquare(d0 + n[j])
        centre = mu + n[j] / total * (statistics["mean"][j] - mu)
        theta = centre + np.sqrt(variance / total) * rng.standard_normal(DRAWS)
        assert found[j] == pytest.approx(rate(theta, mu), abs=CLOSE), j


def test_each_coefficient_has_a_sign_of_its_own() -> None:
    rng = np.random.default_rng(9)
    x = np.stack([np.ones((15, 8)), rng.normal(size=(15, 8))], axis=2)
    coefficients = np.array([2.0, -0.3]) + rng.normal(size=(15, 2)) * [0.8, 0.3]
    y = np.einsum("jnp,jp->jn", x, coefficients) + rng.normal(size=(15, 8))
    statistics = {
        "n": np.full(15, 8),
        "xtx": np.einsum("jnp,jnq->jpq", x, x),
        "xty": np.einsum("jnp,jn->jp", x, y),
        "yty": np.sum(y**2, axis=1),
    }
    fit = hbpipe.fit("normal_regression", statistics)
    posterior = hbpipe.posterior(fit, statistics, uncertainty="integrated")
    pool = posterior.nodes.pools[0]
    model, admitted = posterior._family, posterior._statistics
    found = false_sign_rates(model, posterior.nodes, admitted, np.zeros(15, int))
    assert found.shape == (15, 2)
    expected = np.zeros((3, 2))
    some = rng.choice(len(pool.weight), 400, p=pool.weight)
    for k in some:
        loading, sigma = pool.values["loading"][k], pool.values["sigma"][k]
        mu = rng.multivariate_normal(pool.values["mu"][k], pool.values["mu_covariance"][k], 500)
        prior = loading @ loading.T * sigma**2
        for j in range(3):
            precision = np.linalg.inv(prior) + statistics["xtx"][j] / sigma**2
            covariance = np.linalg.inv(precision)
            own = statistics["xty"][j] / sigma**2
            centre = (np.linalg.solve(prior, mu.T).T + own) @ covariance
            theta = centre + rng.multivariate_normal(np.zeros(2), covariance, 500)
            expected[j] += np.mean(theta <= mu, axis=0) / len(some)
    np.testing.assert_allclose(found[:3], np.minimum(expected, 1 - expected), atol=0.012)


def test_covariates_move_the_mean_that_a_store_is_compared_with() -> None:
    rng = np.random.default_rng(10)
    x = np.column_stack([np.ones(30), rng.normal(size=30)])
    theta = x @ [1.0, 2.0] + rng.normal(size=30)
    statistics = {"n": np.full(30, 4), "mean": rng.normal(theta, 0.5), "m2": np.full(30, 3.0)}
    fit = hbpipe.fit("normal", statistics, covariates=x)
    posterior = hbpipe.posterior(fit, statistics, covariates=x, uncertainty="integrated")
    pool, values = posterior.nodes.pools[0], posterior.nodes.pools[0].values
    arrays = {**statistics, "covariates": x}
    found = false_sign_rates(posterior._family, posterior.nodes, arrays, np.zeros(30, int))
    at = rng.choice(len(pool.weight), DRAWS, p=pool.weight)
    left = np.linalg.cholesky(values["remaining"])[at]
    b = values["coefficients"][at] + np.einsum("spq,sq->sp", left, rng.normal(size=(DRAWS, 2)))
    spread, noise = values["spread"][at], values["noise"][at]
    for j in (0, 12):
        m = b @ x[j]
        own = 4 * spread / (1 + 4 * spread)
        centre = m + own * (statistics["mean"][j] - m)
        drawn_theta = centre + np.sqrt(noise * spread / (1 + 4 * spread)) * rng.normal(size=DRAWS)
        assert found[j] == pytest.approx(rate(drawn_theta, m), abs=CLOSE)


@pytest.mark.parametrize("uncertainty", ["plug_in", "first_order", "integrated"])
def test_without_spread_a_sign_is_a_coin(uncertainty: str) -> None:
    successes = np.array([10, 10, 11, 10, 9, 10])
    statistics = {"successes": successes, "trials": np.full(6, 100)}
    fit = hbpipe.fit("beta_binomial", statistics)
    assert fit.boundary
    _, found = rates_of(fit, statistics, uncertainty)
    if uncertainty == "plug_in":
        np.testing.assert_allclose(found, 0.5, atol=1e-3)
    assert np.all((found > 0.2) & (found <= 0.5))
