"""Cdfs by a normal score against exact ones."""

from __future__ import annotations

import numpy as np
from scipy import special

from hbpipe.model.distributions.laws import BETA, GAMMA, STUDENT_T
from hbpipe.model.distributions.normal_score import quick_cdf


def test_round_laws_of_all_sizes() -> None:
    rng = np.random.default_rng(1)
    small = np.exp(rng.uniform(np.log(10.0), np.log(1e6), 50_000))
    large = small * np.exp(rng.uniform(0.0, 8.0, len(small)))
    swapped = rng.random(len(small)) < 0.5
    a, b = np.where(swapped, (small, large), (large, small))
    x = special.betaincinv(a, b, special.ndtr(rng.uniform(-4.5, 4.5, len(a))))
    exact, found = special.betainc(a, b, x), quick_cdf(BETA, (a, b), x)
    np.testing.assert_allclose(found, exact, atol=4e-5)
    some = exact > 1e-6
    np.testing.assert_allclose(found[some], exact[some], rtol=0.03)


def test_the_centre_the_ends_and_small_shapes() -> None:
    a, b = np.array([40.0, 1e8]), np.array([60.0, 3e8])
    centre = (a - 0.5) / (a + b - 1.0)
    np.testing.assert_allclose(quick_cdf(BETA, (a, b), centre), special.betainc(a, b, centre), 1e-5)
    ends = np.array([[0.0], [1.0]])
    assert quick_cdf(BETA, (a, b), ends).tolist() == [[0.0, 0.0], [1.0, 1.0]]
    a = np.array([0.01, 3.0, 500.0])
    found = quick_cdf(BETA, (a, np.full(3, 9.0)), np.full(3, 0.2))
    np.testing.assert_array_equal(found, special.betainc(a, 9.0, 0.2))


def test_students_laws_and_others() -> None:
    t, zero, one = np.linspace(-30.0, 30.0, 2001), np.zeros(1), np.ones(1)
    for freedom in (0.5, 3.0, 10.0, 40.0, np.inf):
        found = quick_cdf(STUDENT_T, (np.array([freedom]), zero + 2.0, one * 3.0), 2.0 + 3.0 * t)
        exact = special.stdtr(freedom, t) if freedom < np.inf else special.ndtr(t)
        np.testing.assert_allclose(found, exact, atol=1.1e-4 if freedom >= 10.0 else 1e-14)
        some = exact > 1e-6
        np.testing.assert_allclose(found[some], exact[some], rtol=0.12)
    found = quick_cdf(GAMMA, (one * 3.0, one * 2.0), one)
    np.testing.assert_array_equal(found, special.gammainc(3.0, 2.0 * one))
