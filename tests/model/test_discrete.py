"""Posterior predictive counts against scipy's distributions."""

import numpy as np
import pytest
from scipy import stats

from hbpipe.errors import StatisticsError
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
