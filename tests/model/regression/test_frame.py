"""Predictors far from zero: the same stores whatever the origin and the unit of a predictor."""

import numpy as np
import pytest

from hbpipe.model.families import get_family
from hbpipe.model.fit import fit, fit_pools
from hbpipe.model.posterior import posterior
from hbpipe.model.regression.frame import frame_of
from hbpipe.model.regression.target import regression_target

FAMILY = "normal_regression"
STATED = {"tau": ["half_normal(400)", "half_cauchy(0.3)"], "correlation": "lkj(1.5)"}


def seasons(shift=0.0, unit=1.0, stores=25):
    """Eight years, a price list each: x is the year."""
    rng = np.random.default_rng(31)
    codes = np.repeat(np.arange(stores), rng.integers(3, 20, stores))
    year = rng.integers(-3, 5, len(codes)).astype(float)
    own = np.array([5.0, 0.3]) + rng.normal(size=(stores, 2)) * [1.0, 0.2]
    y = own[codes, 0] + own[codes, 1] * year + rng.normal(size=len(codes))
    x = np.column_stack([np.ones(len(codes)), unit * year + shift])
    return get_family(FAMILY).summarise({"response": y, "predictors": x}, codes, stores)


@pytest.mark.parametrize(("shift", "unit"), [(2022.0, 1.0), (0.0, 1000.0), (1e4, 1.0)])
def test_posteriors_do_not_depend_on_origin_and_unit(shift, unit):
    here, there = seasons(), seasons(shift, unit)
    fits = fit(FAMILY, here), fit(FAMILY, there)
    likelihoods = [each.log_marginal_likelihood for each in fits]
    assert likelihoods[1] == pytest.approx(likelihoods[0], abs=1e-7)
    a = posterior(fits[0], here, uncertainty="integrated")
    b = posterior(fits[1], there, uncertainty="integrated")
    for found in (a, b):
        assert found.nodes.pools[0].sampler == "sobol"  # no chains
    for name in ("mean", "sd", "q0.025", "q0.975"):
        off = np.abs(unit * b[name][:, 1] - a[name][:, 1]) / a["sd"][:, 1]
        assert off.max() < 1e-4
    levels = (0.025, 0.975)
    ahead = a.predict([1.0, 2.0], levels), b.predict([1.0, 2.0 * unit + shift], levels)
    for name in ("mean", "sd", "quantiles"):
        first, second = (getattr(each, name).T for each in ahead)
        assert np.max(np.abs(second - first) / ahead[0].sd) < 1e-4


def test_the_frame_is_the_identity_where_nothing_can_be_centred():
    family, statistics = get_family(FAMILY), seasons(2022.0)
    sketch = family.compress(statistics, np.zeros(25, int), 1)
    mean = statistics["n"] @ statistics["means"] / statistics["n"].sum()
    np.testing.assert_allclose(frame_of(sketch)[0], [[1.0, mean[1]], [0.0, 1.0]], rtol=1e-12)
    for fixed in ({"tau": [0.0, np.nan]}, {"tau": [np.nan, 0.0]}, {"tau": [0.5, np.nan]}):
        fits = fit_pools(family, sketch, fixed={**fixed, "sigma": 1.0})
        np.testing.assert_array_equal(frame_of(sketch, fits.held[0])[0], np.eye(2))
    # Without a constant there is no intercept to move.
    turned = {**statistics, "means": statistics["means"][:, [1, 1, 2]]}
    turned["cross"] = statistics["cross"][:, [1, 1, 2]][:, :, [1, 1, 2]]
    np.testing.assert_array_equal(
        frame_of(family.compress(turned, np.zeros(25, int), 1))[0], np.eye(2)
    )


def test_a_stated_hyperprior_keeps_the_users_own_coefficients():
    family, statistics = get_family(FAMILY), seasons(20.0)
    sketch = family.compress(statistics, np.zeros(25, int), 1)
    fits = fit_pools(family, sketch)
    stated = regression_target(sketch, STATED, fits.held[0], fits.coordinates[0])
    np.testing.assert_array_equal(stated.frame, np.eye(2))
    default = regression_target(sketch, None, fits.held[0], fits.coordinates[0])
    np.testing.assert_array_equal(default.frame, frame_of(sketch)[0])
