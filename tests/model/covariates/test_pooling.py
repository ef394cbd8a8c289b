"""Complete pooling with covariates against generalised linear models fitted by scipy."""

import numpy as np
import pytest
from scipy import special, stats
from scipy.optimize import minimize

import hbpipe
from hbpipe.model.pooling import complete_pooling

STORES = 40


def case(name):
    """Covariates, statistics, minus the log likelihood of coefficients, and the inverse link."""
    rng = np.random.default_rng(8)
    x = np.column_stack([np.ones(STORES), rng.random(STORES) < 0.4, rng.normal(50.0, 9.0, STORES)])
    line = x @ [-2.0, 0.6, 0.02]
    n = rng.integers(5, 80, STORES)
    if name == "beta_binomial":
        y = rng.binomial(n, special.expit(line + rng.normal(0, 0.3, STORES)))
        statistics = {"successes": y, "trials": n}
        return (
            x,
            statistics,
            lambda b: -stats.binom.logpmf(y, n, special.expit(x @ b)).sum(),
            special.expit,
        )
    if name == "gamma_poisson":
        y = rng.poisson(n * np.exp(line + rng.normal(0, 0.3, STORES)))
        statistics = {"count": y, "exposure": n.astype(float)}
        return x, statistics, lambda b: -stats.poisson.logpmf(y, n * np.exp(x @ b)).sum(), np.exp
    estimate = rng.normal(line, np.sqrt(0.1 + 1 / n))
    return (
        x,
        {"estimate": estimate, "variance": 1 / n},
        lambda b: -stats.norm.logpdf(estimate, x @ b, 1 / np.sqrt(n)).sum(),
        lambda eta: eta,
    )


@pytest.mark.parametrize("name", ["beta_binomial", "gamma_poisson", "normal_known_variance"])
def test_complete_pooling_is_the_regression_without_spread(name):
    x, statistics, loss, inverse = case(name)
    fit = hbpipe.fit(name, statistics, covariates=x)
    # Centred, so that the general optimiser finds its way.
    turn = np.eye(3)
    turn[0, 2] = -50.0
    found = minimize(lambda c: loss(turn @ c), np.zeros(3), method="BFGS", options={"gtol": 1e-7})
    best = turn @ found.x
    pooled = complete_pooling(fit.pools)
    assert np.allclose(pooled.estimate[0], best, rtol=1e-4, atol=1e-5)
    assert np.isclose(pooled.log_likelihood[0], -loss(best), rtol=1e-10)
    assert pooled.parameters[0] == 3
    assert fit.pooling.none.parameters == STORES
    step = 1e-4
    shifts = np.eye(3) * step * np.array([1.0, 1.0, 0.02])

    def curvature(i, j):
        a, b = shifts[i], shifts[j]
        around = [loss(best + s * a + t * b) * s * t for s in (-1, 1) for t in (-1, 1)]
        return sum(around) / (4 * a[i] * b[j])

    covariance = np.linalg.inv([[curvature(i, j) for j in range(3)] for i in range(3)])
    assert np.allclose(pooled.sd[0], np.sqrt(np.diag(covariance)), rtol=1e-3)
    posterior = hbpipe.posterior(fit, statistics, covariates=x)
    assert np.allclose(posterior["complete_pooling"], inverse(x @ pooled.estimate[0]))
    eta = x @ best
    slope = (inverse(eta + 1e-6) - inverse(eta - 1e-6)) / 2e-6
    expected = slope * np.sqrt(np.einsum("jp,pq,jq->j", x, covariance, x))
    assert np.allclose(posterior["complete_pooling_sd"], expected, rtol=1e-3)


def test_the_likelihood_of_own_means_does_not_know_of_covariates():
    x, statistics, _, _ = case("gamma_poisson")
    with_them = hbpipe.fit("gamma_poisson", statistics, covariates=x)
    without = hbpipe.fit("gamma_poisson", statistics)
    assert with_them.pooling.none.log_likelihood == without.pooling.none.log_likelihood
    assert with_them.pooling.complete.log_likelihood > without.pooling.complete.log_likelihood
