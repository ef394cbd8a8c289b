"""Likelihoods of full Bayes: θ integrated out by brute force is the marginal likelihood."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from hbpipe.full_bayes.families import LIKELIHOODS, Likelihood
from hbpipe.full_bayes.library import SCIPY
from hbpipe.full_bayes.problem import pose
from hbpipe.full_bayes.regression import pose_regression
from hbpipe.full_bayes.target import OneTheta
from tests.full_bayes.cases import CASES, STORES, regression_stores

HYPERPARAMETERS: dict[str, dict[str, float]] = {
    "beta_binomial": {"mean": 0.2, "concentration": 30.0},
    "gamma_poisson": {"shape": 1.7, "rate": 0.6},
    "normal": {"mu": 1.0, "tau": 0.5, "sigma": 2.0},
    "normal_known_variance": {"mu": 1.0, "tau": 0.5},
    "normal_inverse_gamma": {"mu": 1.0, "kappa": 3.0, "d0": 5.0, "s0": 1.4},
}


@pytest.mark.parametrize("family", LIKELIHOODS)
def test_the_marginal_is_the_integral_of_the_joint(family: str) -> None:
    """Constants of the data cancel between hyperparameters."""
    likelihood, rows = LIKELIHOODS[family], CASES[family]
    first = likelihood.complete(dict(HYPERPARAMETERS[family]))
    second = likelihood.complete({k: v * 1.3 for k, v in HYPERPARAMETERS[family].items()})
    for store in range(len(next(iter(rows.values())))):
        one = {name: values[store : store + 1] for name, values in rows.items()}
        changes = [_integral(likelihood, h, one) for h in (first, second)]
        marginal = [likelihood.log_marginal(SCIPY, h, one)[0] for h in (first, second)]
        assert np.diff(changes)[0] == pytest.approx(np.diff(marginal)[0], abs=1e-7)


def _integral(likelihood: Likelihood, h: dict[str, Any], one: dict[str, Any]) -> float:
    """Log of the integral of the joint density over η."""
    location, scale = likelihood.line(SCIPY, h)
    grid = location + scale * np.linspace(-40.0, 40.0, 4001)
    values = np.array([likelihood.log_joint(SCIPY, h, eta, one)[0] for eta in grid])
    peak, at = values.max(), grid[np.argmax(values)]

    def density(eta: float) -> float:
        return float(np.exp(likelihood.log_joint(SCIPY, h, eta, one)[0] - peak))

    ends = [at - 60.0 * scale, at + 60.0 * scale]
    return peak + np.log(quad(density, *ends, points=[at], limit=500, epsabs=0.0)[0])


def test_a_rising_factorial_is_exact_at_any_shape() -> None:
    """A store with one count in exposure E is Poisson in the limit: log likelihood −mE + log m."""
    rows = {"count": np.array([1.0]), "exposure": np.array([2.0])}
    h = {"shape": 3.0e15, "rate": 1.0e15}
    found = LIKELIHOODS["gamma_poisson"].log_marginal(SCIPY, h, rows)
    assert found == pytest.approx(np.log(3.0) - 6.0, abs=1e-12)


@pytest.mark.parametrize("family", LIKELIHOODS)
def test_both_parametrisations_are_one_density(family: str) -> None:
    target = OneTheta(pose(family, STORES[family], np.arange(2)))
    h, places = np.full(len(target.problem.axes), 0.1), np.array([0.3, -0.2])
    theta = target.theta({"h": h, "stores": places}, centred=False)
    near = {"h": h, "stores": places + np.array([0.01, 0.0])}
    moved = target.theta(near, centred=False)
    plain = [
        target.log_density({"h": h, "stores": p}, centred=False) for p in (places, near["stores"])
    ]
    centre = [_places(target, one) for one in (theta, moved)]
    other = [target.log_density({"h": h, "stores": p}, centred=True) for p in centre]
    assert float(plain[1] - plain[0]) == pytest.approx(float(other[1] - other[0]), abs=1e-4)


def _places(target: OneTheta, theta: Any) -> Any:
    """Invert the centred parametrisation."""
    line = {"beta_binomial": lambda u: np.log(u / (1.0 - u)), "gamma_poisson": np.log}
    eta = line.get(target.problem.family, np.asarray)(np.asarray(theta)[:, 0])
    return (eta - target._guess) / target.problem.step


def test_the_marginal_of_a_regression_is_a_dense_normal_law() -> None:
    """No store is chosen: the density is that of all rows, coefficients integrated out."""
    statistics, design, response, codes = regression_stores()
    prior = {"tau": "half_normal(1)", "correlation": "lkj(2)", "sigma": "half_normal(1)"}
    target = pose_regression(statistics, np.arange(0), hyperprior=prior)
    places, found, expected = {"stores": np.zeros((0, 2))}, [], []
    for h in ([0.2, -0.1, 0.3, 0.1, 0.2, 0.4], [-0.3, 0.2, -0.2, 0.5, -0.1, -0.6]):
        mu, factor, sigma, log_prior = target._hyperparameters(np.array(h))
        found.append(
            float(target.log_density({**places, "h": np.array(h)}, centred=True) - log_prior)
        )
        same = codes[:, None] == codes
        covariance = design @ np.asarray(factor @ factor.T) @ design.T * same
        covariance += float(sigma) ** 2 * np.eye(len(response))
        law = multivariate_normal(design @ np.asarray(mu), covariance)
        expected.append(law.logpdf(response))
    assert found[1] - found[0] == pytest.approx(expected[1] - expected[0], rel=2e-5)
