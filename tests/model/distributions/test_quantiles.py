"""Quantiles of stores' posteriors over all shapes that counts can give."""

import numpy as np
import pytest
from scipy import special, stats

from hbpipe.model.distributions.quantiles import beta_quantiles
from hbpipe.model.families import get_family

LEVELS = np.array([1e-4, 0.025, 0.5, 0.975, 0.9999])


def assert_reached(a, b, p, q):
    """The cdf is within 1e-9 of the level, or the level lies between neighbouring floats."""
    eps = np.finfo(float).eps
    below = special.betainc(a, b, q * (1 - 4 * eps)) - 1e-9
    above = special.betainc(a, b, np.minimum(q * (1 + 4 * eps), 1.0)) + 1e-9
    assert np.all((below <= p) & (p <= above))


@pytest.mark.parametrize("concentration", 10.0 ** np.arange(-3, 10))
def test_beta_quantiles_reach_their_level(concentration):
    for mean in (1e-6, 1e-3, 0.05, 0.5, 0.999):
        a, b = mean * concentration, (1 - mean) * concentration
        found = beta_quantiles(a, b, LEVELS)
        assert np.all(np.isfinite(found))
        assert np.all(np.diff(found) >= 0)
        # Shapes far below 1 have quantiles smaller than any float.
        held = found > 1e-300
        assert_reached(a, b, LEVELS[held], found[held])


@pytest.mark.parametrize("concentration", [1e12, 1e13, 1e15])
def test_nearly_no_spread_is_nearly_normal(concentration):
    # There betainc itself is only right to 2e-6, so it cannot be the judge.
    for mean in (1e-3, 0.05, 0.5):
        found = beta_quantiles(mean * concentration, (1 - mean) * concentration, LEVELS)
        sd = np.sqrt(mean * (1 - mean) / concentration)
        np.testing.assert_allclose((found - mean) / sd, special.ndtri(LEVELS), atol=2e-4)


def test_a_shape_that_scipy_gets_wrong():
    found = beta_quantiles(1000.0, 1e9, LEVELS)
    # So many failures make θ times their number a Gamma, up to 1e-6.
    np.testing.assert_allclose(found, special.gammaincinv(1000.0, LEVELS) / 1e9, rtol=3e-6)


def test_random_shapes():
    rng = np.random.default_rng(0)
    a, b = 10.0 ** rng.uniform(-1, 10, (2, 4000))
    p = rng.uniform(0.001, 0.999, 4000)
    found = beta_quantiles(a, b, p)
    assert np.all(found > 1e-300)
    assert_reached(a, b, p, found)


def test_ordinary_shapes_are_scipys():
    np.testing.assert_array_equal(
        beta_quantiles(7.0, 113.0, LEVELS), stats.beta(7, 113).ppf(LEVELS)
    )


@pytest.mark.parametrize("shape", 10.0 ** np.arange(-1, 16))
def test_gamma_quantiles_reach_their_level(shape):
    described = get_family("gamma_poisson").describe(
        {"shape": np.array([shape]), "rate": np.array([3.0])}, LEVELS
    )
    for q, level in enumerate(LEVELS):
        np.testing.assert_allclose(described.cdf(described.quantiles[:, q]), level, atol=1e-9)
