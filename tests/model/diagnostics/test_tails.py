"""Tails of predictive distributions against scipy's, to the last digits that matter."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hbpipe.model.diagnostics.tails import (
    Tails,
    beta_binomial_tails,
    negative_binomial_tails,
    normal_tails,
    student_tails,
)


def shapes(rng: np.random.Generator, rows: int, least: float = -1.0) -> np.ndarray:
    return 10.0 ** rng.uniform(least, 4.0, rows)


def check(found: Tails, law: object, y: np.ndarray, tolerance: float) -> None:
    np.testing.assert_allclose(found.below, law.cdf(y - 1), atol=tolerance)
    np.testing.assert_allclose(found.above, law.sf(y), atol=tolerance)
    np.testing.assert_allclose(found.below + found.equal + found.above, 1.0, atol=tolerance)


def test_few_successes_are_summed_exactly() -> None:
    rng = np.random.default_rng(1)
    n, a, b = rng.integers(1, 600, 300).astype(float), shapes(rng, 300), shapes(rng, 300)
    y = rng.binomial(n.astype(int), rng.beta(a, b)).astype(float)
    check(beta_binomial_tails(y, n, a, b), stats.betabinom(n, a, b), y, 1e-10)


def test_many_successes_are_integrated() -> None:
    rng = np.random.default_rng(2)
    n, a, b = np.full(40, 20_000.0), shapes(rng, 40, 0.0), shapes(rng, 40, 0.0)
    y = np.clip(np.floor(n * rng.beta(a, b)), 500, 19_500)
    # The cdfs that are averaged come from normal scores.
    check(beta_binomial_tails(y, n, a, b), stats.betabinom(n, a, b), y, 2e-5)


def test_both_ways_agree_where_one_takes_over() -> None:
    y = np.array([400.0, 401.0])
    found = beta_binomial_tails(y, np.full(2, 9000.0), np.full(2, 30.0), np.full(2, 700.0))
    np.testing.assert_allclose(found.below[1], found.below[0] + found.equal[0], atol=2e-6)


def test_all_or_nothing() -> None:
    y, n = np.array([0.0, 7.0, 0.0, 900.0]), np.array([7.0, 7.0, 900.0, 900.0])
    check(
        beta_binomial_tails(y, n, np.full(4, 2.0), np.full(4, 5.0)),
        stats.betabinom(n, 2.0, 5.0),
        y,
        1e-12,
    )


def test_a_rows_bits_do_not_depend_on_the_others() -> None:
    rng = np.random.default_rng(3)
    n = rng.integers(1, 5000, 200).astype(float)
    y = np.floor(n * rng.beta(2.0, 3.0, 200))
    a, b = shapes(rng, 200), shapes(rng, 200)
    whole = beta_binomial_tails(y, n, a, b)
    for row in range(0, 200, 17):
        one = beta_binomial_tails(*(part[row : row + 1] for part in (y, n, a, b)))
        assert one.below[0] == whole.below[row]
        assert one.above[0] == whole.above[row]


def test_counts_with_exposure() -> None:
    rng = np.random.default_rng(4)
    shape, rate, exposure = shapes(rng, 200), shapes(rng, 200), shapes(rng, 200)
    y = rng.poisson(np.minimum(exposure * shape / rate, 1e6)).astype(float)
    law = stats.nbinom(shape, rate / (rate + exposure))
    check(negative_binomial_tails(y, exposure, shape, rate), law, y, 1e-9)


def test_far_tails_keep_their_digits() -> None:
    z = np.array([-20.0, 20.0])
    assert normal_tails(z).two_sided == pytest.approx(2 * stats.norm.sf(20.0), rel=1e-10)
    found = student_tails(np.full(2, 5.0), z)
    assert found.two_sided == pytest.approx(2 * stats.t(5).sf(20.0), rel=1e-10)


def test_two_sided_p_values_count_half_of_what_is_equal() -> None:
    found = Tails(np.array([0.1, 0.4]), np.array([0.2, 0.3]), np.array([0.7, 0.3]))
    np.testing.assert_allclose(found.two_sided, [0.4, 0.9])
