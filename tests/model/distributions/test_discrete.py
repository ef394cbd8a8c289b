"""Posterior predictive counts against scipy's distributions."""

import numpy as np
import pytest
from scipy import stats

from hbpipe.errors import StatisticsError
from hbpipe.model.distributions import discrete
from hbpipe.model.distributions.discrete import describe_beta_binomial_mixture
from hbpipe.model.distributions.longsum import gauss_sum
from hbpipe.model.families import get_family

LEVELS = np.array([0.001, 0.025, 0.5, 0.9, 0.999])


def test_beta_binomial_prediction():
    alpha, beta = np.array([7.0, 2.0, 0.01, 400.0]), np.array([113.0, 3.0, 0.5, 1e5])
    trials = np.array([20, 0, 1000, 5000])
    ahead = get_family("beta_binomial").predict({"alpha": alpha, "beta": beta}, trials, {}, LEVELS)
    law = stats.betabinom(trials, alpha, beta)
    np.testing.assert_allclose(ahead.mean, law.mean(), rtol=1e-12)
    np.testing.assert_allclose(ahead.sd, law.std(), rtol=1e-9)
    for q, level in enumerate(LEVELS):
        np.testing.assert_array_equal(ahead.quantiles[:, q], law.ppf(level))
    for point in (-1.0, 0.0, 3.7, 900.0, 1e6):
        np.testing.assert_allclose(ahead.cdf(point), law.cdf(point), rtol=1e-9, atol=1e-12)


def test_negative_binomial_prediction():
    shape, rate = np.array([0.3, 5.0, 1e4, 12.0]), np.array([2.0, 0.01, 1e3, 4.0])
    exposure = np.array([1.0, 30.0, 1e4, 0.0])
    ahead = get_family("gamma_poisson").predict(
        {"shape": shape, "rate": rate}, exposure, {}, LEVELS
    )
    law = stats.nbinom(shape, rate / (rate + exposure))
    np.testing.assert_allclose(ahead.mean, law.mean(), rtol=1e-12)
    np.testing.assert_allclose(ahead.sd, law.std(), rtol=1e-9)
    for q, level in enumerate(LEVELS):
        np.testing.assert_array_equal(ahead.quantiles[:, q], law.ppf(level))
    np.testing.assert_allclose(ahead.cdf(2.0), law.cdf(2.0), rtol=1e-12)


def test_without_spread_a_prediction_is_binomial():
    family = get_family("beta_binomial")
    hyperparameters = family.from_coordinates(np.array([-3.0, 0.0]))
    prior = {name: np.atleast_1d(v) for name, v in family.prior(hyperparameters).items()}
    ahead = family.predict(prior, 500, hyperparameters, LEVELS)
    law = stats.binom(500, hyperparameters["mean"])
    np.testing.assert_array_equal(ahead.quantiles[0], law.ppf(LEVELS))


def test_trials_ahead_must_be_whole():
    with pytest.raises(StatisticsError, match="not whole"):
        get_family("beta_binomial").predict(
            {"alpha": np.ones(1), "beta": np.ones(1)}, 2.5, {}, [0.5]
        )


def random_mixture(stores=4, components=6):
    rng = np.random.default_rng(3)
    mean = rng.beta(2, 20, (stores, components))
    size = np.exp(rng.uniform(0.0, 9.0, mean.shape))
    return mean * size, (1.0 - mean) * size, rng.dirichlet(np.ones(components), stores)


def test_a_mixture_of_predictions_is_the_average_of_its_parts():
    alpha, beta, weight = random_mixture()
    trials = np.array([0.0, 1.0, 40.0, 3000.0])
    ahead = describe_beta_binomial_mixture(trials, alpha, beta, weight, LEVELS)
    parts = stats.betabinom(trials[:, None], alpha, beta)
    mean = np.sum(weight * parts.mean(), axis=1)
    second = np.sum(weight * (parts.var() + parts.mean() ** 2), axis=1)
    np.testing.assert_allclose(ahead.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(ahead.sd**2, second - mean**2, rtol=1e-9, atol=1e-15)
    for q, level in enumerate(LEVELS):
        k = ahead.quantiles[:, q]
        assert np.all(np.sum(weight * parts.cdf(k[:, None]), axis=1) >= level - 1e-9)
        assert np.all(np.sum(weight * parts.cdf(k[:, None] - 1.0), axis=1) < level)
    for point in (-1.0, 2.5, 700.0):
        expected = np.sum(weight * parts.cdf(point), axis=1)
        np.testing.assert_allclose(ahead.cdf(point), expected, rtol=1e-9, atol=1e-12)


def test_predictions_of_any_shape():
    alpha, beta, _ = random_mixture()
    family = get_family("beta_binomial")
    prior = {"alpha": alpha, "beta": beta}
    ahead = family.predict(prior, 25, {}, LEVELS)
    assert ahead.quantiles.shape == (4, 6, 5)
    points = np.arange(3.0)[:, None, None]
    found = ahead.cdf(points)
    assert found.shape == (3, 4, 6)
    np.testing.assert_allclose(found, stats.betabinom(25, alpha, beta).cdf(points), rtol=1e-9)
    empty = family.predict({"alpha": alpha[:0], "beta": beta[:0]}, 25, {}, LEVELS)
    assert empty.quantiles.shape == (0, 6, 5)


def test_block_sums_are_exact_for_polynomials():
    length = np.array([1.0, 3.0, 8.0, 9.0, 40.0, 2000.0])
    at, mass = gauss_sum(length)
    for power in range(16):
        found = np.sum(mass * (at / 2000.0) ** power, axis=1)
        expected = [np.sum((np.arange(n) / 2000.0) ** power) for n in length]
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-300)


@pytest.mark.parametrize("largest", [1.0, 1e3, 1e9])
def test_sums_by_quadrature_agree_with_sums_over_every_count(largest, monkeypatch):
    rng = np.random.default_rng(5)
    size = largest * 10.0 ** rng.uniform(-3.0, 0.0, (3, 8))
    mean = rng.beta(1, 5, size.shape)
    weight = rng.dirichlet(np.ones(8), 3)
    trials = np.array([90.0, 4000.0, 60000.0])
    given = (trials, mean * size, (1.0 - mean) * size, weight, LEVELS)
    monkeypatch.setattr(discrete, "_LONG", 2**62)
    every = describe_beta_binomial_mixture(*given)
    points = [every.cdf(share * trials) for share in (0.0, 0.01, 0.2, 0.9, 1.0)]
    monkeypatch.setattr(discrete, "_LONG", 0)
    quick = describe_beta_binomial_mixture(*given)
    np.testing.assert_array_equal(quick.quantiles, every.quantiles)
    for share, expected in zip((0.0, 0.01, 0.2, 0.9, 1.0), points, strict=True):
        np.testing.assert_allclose(quick.cdf(share * trials), expected, atol=1e-9)
    np.testing.assert_array_equal(quick.cdf(-0.5), np.zeros(3))


def test_a_billion_trials_follow_the_rate():
    alpha, beta = np.array([[7.0, 9.0]]), np.array([[113.0, 40.0]])
    ahead = describe_beta_binomial_mixture(
        np.array([1e9]), alpha, beta, np.array([[0.0, 1.0]]), LEVELS
    )
    np.testing.assert_allclose(ahead.quantiles[0] / 1e9, stats.beta(9, 40).ppf(LEVELS), rtol=1e-6)
