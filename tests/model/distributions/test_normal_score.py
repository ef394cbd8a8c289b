"""Beta cdfs by a normal score against the incomplete beta ratio."""

from __future__ import annotations

import numpy as np
from scipy import special

from hbpipe.model.distributions.normal_score import quick_beta_cdf


def test_round_laws_of_all_sizes() -> None:
    rng = np.random.default_rng(1)
    small = np.exp(rng.uniform(np.log(10.0), np.log(1e6), 50_000))
    large = small * np.exp(rng.uniform(0.0, 8.0, len(small)))
    swapped = rng.random(len(small)) < 0.5
    a, b = np.where(swapped, (small, large), (large, small))
    x = special.betaincinv(a, b, special.ndtr(rng.uniform(-4.5, 4.5, len(a))))
    exact, found = special.betainc(a, b, x), quick_beta_cdf(a, b, x)
    np.testing.assert_allclose(found, exact, atol=4e-5)
    some = exact > 1e-6
    np.testing.assert_allclose(found[some], exact[some], rtol=0.03)


def test_the_centre_the_ends_and_small_shapes() -> None:
    a, b = np.array([40.0, 1e8]), np.array([60.0, 3e8])
    centre = (a - 0.5) / (a + b - 1.0)
    np.testing.assert_allclose(quick_beta_cdf(a, b, centre), special.betainc(a, b, centre), 1e-5)
    ends = np.array([[0.0], [1.0]])
    assert quick_beta_cdf(a, b, ends).tolist() == [[0.0, 0.0], [1.0, 1.0]]
    a = np.array([0.01, 3.0, 500.0])
    np.testing.assert_array_equal(quick_beta_cdf(a, 9.0, 0.2), special.betainc(a, 9.0, 0.2))
