"""The law of p eʷ: against quadrature over w, closed forms, simulation, and itself."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, special, stats

from hbpipe.model.distributions.beta_lognormal import BETA_LOGNORMAL, QUICK_BETA_LOGNORMAL
from hbpipe.model.distributions.product import FINE, QUICK, Products

LEVELS = np.array([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])
#: a, b, mean and sd of w, and how exact the cdf is: sds far below that of log p are the hard case.
CASES = [
    (5.0, 95.0, 3.0, 0.3, 1e-7),
    (5.0, 95.0, 3.0, 0.01, 2e-6),
    (300.0, 700.0, 1.0, 0.5, 1e-8),
    (2e4, 8e4, 1.0, 0.01, 1e-7),
    (0.5, 3.0, 2.0, 1.0, 1e-7),
    (0.05, 5.0, 0.0, 0.3, 2e-6),
    (50.0, 0.5, 1.0, 0.02, 1e-5),
]


def one(*parameters, step=FINE):
    a, b, location, scale = (np.array([[value]]) for value in parameters)
    return Products(np.ones((1, 1)), a, b, np.ones((1, 1)), location, scale, step)


def exact(a, b, location, scale, x):
    """∫ I(x e^{−w}) φ(w) dw in pieces: where the ratio is 1, and along log p below."""
    y = np.log(x) - location

    def integrand(u):  # log p = −e^u, so that both ends of (0, 1) have room
        p = np.exp(-np.exp(u))
        return special.betainc(a, b, p) * stats.norm.pdf(y + np.exp(u), scale=scale) * np.exp(u)

    far = max(np.log(max(-y, 1e-12) + 12.0 * scale), -20.0)
    middle = np.log(max(-y, 1e-8))
    width = 10.0 * scale / max(-y, scale)
    points = sorted({-40.0, *np.clip(middle + width * np.linspace(-1, 1, 41), -40.0, far), far})
    parts = [
        integrate.quad(integrand, *ends, epsabs=1e-13, limit=200)[0] for ends in pairwise(points)
    ]
    return stats.norm.cdf(y, scale=scale) + sum(parts)


@pytest.mark.parametrize(("a", "b", "location", "scale", "allowed"), CASES)
def test_the_cdf_is_the_integral_over_the_basket(a, b, location, scale, allowed):
    law = one(a, b, location, scale)
    at = law.quantiles(LEVELS)[0]
    wanted = [exact(a, b, location, scale, x) for x in at]
    np.testing.assert_allclose(np.concatenate([law.cdf(at[[k]]) for k in range(7)]), wanted,
                               atol=allowed, rtol=0)  # fmt: skip
    quick = one(a, b, location, scale, step=QUICK)
    found = np.concatenate([quick.cdf(at[[k]]) for k in range(7)])
    np.testing.assert_allclose(found, wanted, atol=3e-4, rtol=0)


@pytest.mark.parametrize(("a", "b"), [(2.0, 8.0), (40.0, 3.0), (0.4, 2.0)])
def test_without_spread_of_the_basket_it_is_the_beta_law(a, b):
    law = one(a, b, 1.5, 0.0)
    beta = stats.beta(a, b, scale=np.exp(1.5))
    np.testing.assert_allclose(beta.cdf(law.quantiles(LEVELS)[0]), LEVELS, atol=5e-6)
    assert law.cdf(np.array([0.0])) == 0.0
    np.testing.assert_allclose(law.cdf(np.array([4.5])), 1.0, atol=5e-6)


def test_with_a_certain_purchase_it_is_the_log_normal_law():
    amounts = stats.lognorm(0.7, scale=np.exp(2.0))
    found = one(1e15, 1.0, 2.0, 0.7).quantiles(LEVELS)[0]
    np.testing.assert_allclose(found, amounts.ppf(LEVELS), rtol=1e-9)


def mixture(rng, stores=6):
    weight = rng.dirichlet(np.ones(5), 1)
    share = rng.dirichlet(np.ones(4), 1)
    return Products(
        np.repeat(share, stores, axis=0),
        rng.gamma(4.0, 2.0, (stores, 4)),
        rng.gamma(30.0, 2.0, (stores, 4)),
        np.repeat(weight, stores, axis=0),
        rng.normal(2.0, 0.2, (stores, 5)),
        np.exp(rng.normal(-2.0, 1.5, (stores, 5))),
    )


def test_a_mixture_has_the_quantiles_of_a_simulation():
    rng, size = np.random.default_rng(3), 400_000
    laws = mixture(rng)
    for row in range(len(laws.a)):
        k, m = (rng.choice(len(w), size, p=w) for w in (laws.share[row], laws.weight[row]))
        theta = rng.beta(laws.a[row, k], laws.b[row, k])
        theta = theta * np.exp(rng.normal(laws.location[row, m], laws.scale[row, m]))
        one_of_them = laws.take(np.array([row]))
        reached = np.mean(theta[:, None] <= one_of_them.quantiles(LEVELS)[0], axis=0)
        errors = np.sqrt(LEVELS * (1.0 - LEVELS) / size)
        assert np.all(np.abs(reached - LEVELS) < 4.5 * errors)


def test_quantiles_invert_the_cdf_and_rise_and_belong_to_their_row():
    laws = mixture(np.random.default_rng(4))
    levels = np.linspace(0.001, 0.999, 41)
    found = laws.quantiles(levels)
    assert np.all(np.diff(found, axis=1) > 0)
    for column, level in enumerate(levels):
        np.testing.assert_allclose(laws.cdf(found[:, column]), level, atol=1e-11)
    some = np.array([4, 1])
    np.testing.assert_array_equal(laws.take(some).quantiles(levels), found[some])
    np.testing.assert_array_equal(laws.quantiles(levels[::-1]), found[:, ::-1])
    np.testing.assert_array_equal(laws.quantile(np.full(6, 0.5)), laws.quantiles([0.5])[:, 0])


def test_components_without_weight_change_nothing_however_odd_they_are():
    laws = mixture(np.random.default_rng(5))
    zero = np.zeros((6, 1))
    padded = Products(
        np.hstack([laws.share, zero]),
        np.hstack([laws.a, zero + 1e-4]),
        np.hstack([laws.b, zero + 1e9]),
        laws.weight,
        laws.location,
        laws.scale,
    )
    np.testing.assert_allclose(padded.quantiles(LEVELS), laws.quantiles(LEVELS), rtol=1e-12)


def test_moments_are_those_of_a_simulation_and_the_laws_agree():
    rng = np.random.default_rng(6)
    p, w = rng.beta(3.0, 20.0, 10**6), rng.normal(1.0, 0.4, 10**6)
    theta = p * np.exp(w)
    mean, sd = BETA_LOGNORMAL.mean_sd(3.0, 20.0, 1.0, 0.4)
    np.testing.assert_allclose([mean, sd], [theta.mean(), theta.std()], rtol=5e-3)
    moments = one(3.0, 20.0, 1.0, 0.4).log_moments()
    expected = [np.log(theta).mean(), np.log(theta).var()]
    np.testing.assert_allclose(np.concatenate(moments), expected, rtol=1e-2)
    at = (3.0, 20.0, 1.0, 0.4, 0.3)
    np.testing.assert_allclose(QUICK_BETA_LOGNORMAL.cdf(*at), BETA_LOGNORMAL.cdf(*at), atol=1e-4)
    like = BETA_LOGNORMAL.from_moments(np.array(mean), np.array(sd**2))
    np.testing.assert_allclose(BETA_LOGNORMAL.mean_sd(*like), [mean, sd], rtol=1e-9)
    step = 1e-4
    slope = BETA_LOGNORMAL.cdf(3.0, 20.0, 1.0, 0.4, 0.3 * np.exp([-step, step]))
    density = BETA_LOGNORMAL.density(3.0, 20.0, 1.0, 0.4, np.log(0.3))
    np.testing.assert_allclose(np.diff(slope)[0] / (2 * step), density, rtol=1e-5)


def test_shapes_next_to_nothing_have_a_law():
    """What is below every float is put at its end, and what is above is as it should be."""
    for a, b in ((1e-4, 50.0), (1e-3, 1e-3), (1e-9, 1e-2), (1e4, 1e-4)):
        law, beta = one(a, b, 0.0, 0.2), stats.beta(a, b)
        at = np.array([0.01])
        narrow = one(a, b, 0.0, 0.0)
        np.testing.assert_allclose(narrow.cdf(at), beta.cdf(0.01), atol=1e-4)
        assert np.isfinite(law.quantiles(LEVELS)).all()
        assert np.all(np.diff(law.quantiles(LEVELS)[0]) >= 0)
