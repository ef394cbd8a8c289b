"""Counts summed from zero against scipy's laws and sums of every count."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hbpipe.model.distributions.discrete import _long_cdf, _long_quantiles
from hbpipe.model.distributions.walk import (
    beta_binomial_counts,
    beta_binomial_tails,
    negative_binomial_counts,
)

LEVELS = np.array([0.05, 0.5, 0.95])


def beta_binomials(seed: int, most: int, stores: int = 60) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    trials = rng.integers(0, most, stores).astype(float)
    mean, size = rng.uniform(0.01, 0.6, (stores, 3)), 10.0 ** rng.uniform(-1, 5, (stores, 3))
    return trials, mean * size, (1 - mean) * size, rng.dirichlet([1, 1, 1], stores)


@pytest.mark.parametrize("most", [30, 250, 900])
def test_mixtures_of_beta_binomials(most: int) -> None:
    trials, a, b, weight = beta_binomials(most, most)
    counts = beta_binomial_counts(trials, a, b, weight)
    found = counts.quantiles(LEVELS)
    known = ~np.isnan(found[:, 0])
    assert known.mean() > 0.7
    expected = _long_quantiles(LEVELS, trials, a, b, weight)
    assert np.array_equal(found[known], expected[known])
    at = np.floor(trials * 0.3)
    expected = _long_cdf(at, trials, a, b, weight)
    np.testing.assert_allclose(counts.cdf(at)[known], expected[known], rtol=1e-9)
    reference = np.sum(weight * stats.betabinom.cdf(at[:, None], trials[:, None], a, b), axis=1)
    np.testing.assert_allclose(counts.cdf(at)[known], reference[known], rtol=1e-7)


@pytest.mark.parametrize("most", [300, 5000, 60_000])
def test_tails_from_the_point_outwards(most: int) -> None:
    trials, a, b, weight = beta_binomials(most, most, 40)
    a, b = np.maximum(a, 0.1), np.maximum(b, 0.1)
    for share in (0.0, 0.05, 0.3, 0.9, 1.0, 1.1):
        at = np.floor(trials * share)
        found = beta_binomial_tails(at, trials, a, b, weight)
        known = ~np.isnan(found)
        assert known.mean() > (0.9 if most <= 300 else 0.04)
        expected = _long_cdf(at, trials, a, b, weight)
        np.testing.assert_allclose(found[known], expected[known], rtol=1e-7, atol=1e-11)


def test_a_prior_of_any_size_and_half_of_the_point() -> None:
    trials, at = np.full(3, 2000.0), np.array([80.0, 100.0, 130.0])
    one, size = np.ones((3, 1)), 10.0 ** np.array([[3.0], [9.0], [15.0]])
    laws = (trials, 0.05 * size, 0.95 * size, one)
    found = beta_binomial_tails(at, *laws)
    binomial = stats.binom(2000, 0.05)
    expected = [stats.betabinom.cdf(80, 2000, 50, 950), *binomial.cdf(at[1:])]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    half = beta_binomial_tails(at, *laws, half=True)
    np.testing.assert_allclose(half, 0.5 * (found + beta_binomial_tails(at - 1, *laws)), rtol=1e-9)


def test_a_point_between_two_components() -> None:
    size, weight = np.array([[1e4, 1e4]]), np.array([[0.7, 0.3]])
    mean = np.array([[0.1, 0.6]])
    for point in (100.0, 250.0, 400.0, 500.0, 700.0):
        found = beta_binomial_tails(
            np.array([point]), np.array([1000.0]), mean * size, (1 - mean) * size, weight
        )
        law = stats.betabinom(1000, (mean * size)[0], ((1 - mean) * size)[0])
        assert found[0] == pytest.approx(np.sum(weight[0] * law.cdf(point)), rel=1e-8)


def test_mixtures_of_negative_binomials() -> None:
    rng = np.random.default_rng(3)
    shape, rate = rng.gamma(3.0, 5.0, (80, 4)), rng.gamma(2.0, 10.0, (80, 4))
    exposure, weight = rng.uniform(0.0, 40.0, 80), rng.dirichlet([1.0] * 4, 80)
    counts = negative_binomial_counts(shape, rate, exposure, weight)
    law = stats.nbinom(shape, rate / (rate + exposure[:, None]))
    at = np.floor(exposure * 0.5)
    expected = np.sum(weight * law.cdf(at[:, None]), axis=1)
    np.testing.assert_allclose(counts.cdf(at), expected, rtol=1e-11)
    for level, found in zip(LEVELS, counts.quantiles(LEVELS).T, strict=True):
        below = np.sum(weight * law.cdf(found[:, None] - 1), axis=1)
        reached = np.sum(weight * law.cdf(found[:, None]), axis=1)
        assert np.all((below < level) & (reached >= level * (1 - 1e-12)))


def test_below_zero_and_beyond_all_trials() -> None:
    trials, a, b, weight = beta_binomials(5, 20)
    counts = beta_binomial_counts(trials, a, b, weight)
    assert np.all(counts.cdf(np.full(60, -1.0)) == 0)
    np.testing.assert_allclose(counts.cdf(trials + 5), 1.0, rtol=1e-13)


def test_what_is_too_long_is_left_open() -> None:
    one = np.ones((1, 1))
    assert np.isnan(negative_binomial_counts(1e6 * one, one, np.ones(1), one).cdf(np.ones(1)))
    many = beta_binomial_counts(np.array([1e6]), one, one, one)
    assert np.isnan(many.quantiles(np.array([0.5])))
