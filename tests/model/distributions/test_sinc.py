"""Quantiles from the density: against the cdf over all shapes, and their independence."""

import numpy as np
import pytest
from scipy import special

from hbpipe.model.distributions import mixture
from hbpipe.model.distributions.laws import BETA, GAMMA
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.distributions.sinc import sinc_quantiles

LEVELS = np.array([0.005, 0.025, 0.05, 0.5, 0.95, 0.975, 0.995])
LAWS = {"beta": BETA, "gamma": GAMMA}


def by_density(law, weight, a, b, levels=LEVELS):
    return np.asarray(law.from_line(sinc_quantiles(law.kernel, weight, a, b, levels)))


def misses_in_sd(law, weight, a, b, x, levels=LEVELS):
    """How far the cdf is from the level, over the density in units of the width on the line."""
    cdf = np.sum(weight[:, :, None] * law.cdf(a[:, :, None], b[:, :, None], x[:, None, :]), axis=1)
    u = law.to_line(x)[:, None, :]
    density = np.sum(weight[:, :, None] * law.density(a[:, :, None], b[:, :, None], u), axis=1)
    curvature = law.kernel.tails(a, b)[0]
    return np.abs(cdf - levels) / density * np.sqrt(np.max(curvature, axis=1, keepdims=True))


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("power", [0, 1, 2, 3, 5])
def test_single_laws_of_any_shape_reach_their_levels(name, power):
    law, rng = LAWS[name], np.random.default_rng(power)
    a, b = 10.0 ** rng.uniform(power, power + 1, (2, 400, 1)) * [[[1.0]], [[8.0]]]
    weight = np.ones_like(a)
    x = by_density(law, weight, a, b)
    assert np.isfinite(x).all()
    # Where scipy's own cdf is good to 1e-12 or so, nothing more can be asked for.
    assert misses_in_sd(law, weight, a, b, x).max() < 1e-9


@pytest.mark.parametrize("name", LAWS)
def test_mixtures_of_unlike_components_reach_their_levels(name):
    law, rng = LAWS[name], np.random.default_rng(3)
    weight = rng.dirichlet(np.full(9, 0.5), 200)
    mean = 0.1 * np.exp(rng.normal(0.0, 0.2, weight.shape))
    size = np.exp(rng.normal(4.0, 1.0, weight.shape))
    a, b = mean * size + 2.0, (1.0 - mean) * size if law is BETA else size
    x = by_density(law, weight, a, b)
    found = np.isfinite(x).all(axis=1)
    assert found.mean() > 0.9
    weight, a, b, x = (values[found] for values in (weight, a, b, x))
    assert misses_in_sd(law, weight, a, b, x).max() < 1e-8  # of the narrowest component
    assert np.all(np.diff(x, axis=1) > 0)


@pytest.mark.parametrize("name", LAWS)
def test_density_and_cdf_lead_to_the_same_quantiles(name, monkeypatch):
    law, rng = LAWS[name], np.random.default_rng(4)
    weight = rng.dirichlet(np.ones(5), 30)
    a, b = np.exp(rng.uniform(1.0, 5.0, (2, *weight.shape)))
    quick = Mixture(law, weight, (a, b)).quantiles(LEVELS)
    nothing = np.full(quick.shape, np.nan)
    monkeypatch.setattr(mixture, "sinc_quantiles", lambda *arguments: nothing)
    np.testing.assert_allclose(Mixture(law, weight, (a, b)).quantiles(LEVELS), quick, rtol=1e-8)


@pytest.mark.parametrize("name", LAWS)
def test_bits_depend_on_the_row_and_the_level_alone(name):
    law, rng = LAWS[name], np.random.default_rng(5)
    weight = rng.dirichlet(np.ones(4), 60)
    a, b = np.exp(rng.uniform(0.5, 7.0, (2, *weight.shape)))
    together = by_density(law, weight, a, b)
    alone = [by_density(law, *(v[[row]] for v in (weight, a, b)))[0] for row in range(60)]
    np.testing.assert_array_equal(together, alone)
    single = [by_density(law, weight, a, b, LEVELS[[column]])[:, 0] for column in range(7)]
    np.testing.assert_array_equal(together, np.stack(single, axis=1))
    # A component without weight is no component.
    padded = [np.concatenate([v, fill], axis=1) for v, fill in ((weight, 0.0 * a), (a, a), (b, b))]
    np.testing.assert_array_equal(together, by_density(law, *padded))


def test_what_the_density_cannot_reach_is_left_to_the_cdf():
    a, b = np.array([[0.01], [30.0]]), np.array([[5.0], [50.0]])
    x = by_density(BETA, np.ones_like(a), a, b, np.array([1e-6, 0.5]))
    np.testing.assert_array_equal(np.isnan(x), [[True, True], [True, False]])
    described = BETA.describe(a[:, 0], b[:, 0], np.array([1e-6, 0.5, 0.975]))
    assert np.isfinite(described.quantiles).all()
    np.testing.assert_allclose(
        special.betainc(a[1], b[1], described.quantiles[1]), [1e-6, 0.5, 0.975], rtol=1e-9
    )
