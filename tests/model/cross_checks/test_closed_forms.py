"""Closed forms as the uncertainty of a posterior."""

import numpy as np
import pytest
from scipy import stats

import hbpipe
from hbpipe.errors import FitError
from hbpipe.model.cross_checks.critical import cva
from hbpipe.model.cross_checks.fay_herriot import area_model, morris, prasad_rao
from hbpipe.model.cross_checks.robust import prior_moments

CLOSED = ("prasad_rao", "morris", "ebci", "ebci(4)")


def stores_of(stores, seed=1, tau=0.8):
    rng = np.random.default_rng(seed)
    variance = np.exp(rng.normal(0.0, 0.6, stores))
    theta = rng.normal(5.0, tau, stores)
    return {"estimate": rng.normal(theta, np.sqrt(variance)), "variance": variance}


def fitted(stores, **arguments):
    return hbpipe.fit("normal_known_variance", stores, **{"estimator": "reml", **arguments})


@pytest.mark.parametrize("uncertainty", CLOSED)
def test_columns_are_those_of_any_posterior(uncertainty):
    stores = stores_of(25)
    fit = fitted(stores)
    found = hbpipe.posterior(fit, stores, uncertainty=uncertainty)
    plain = hbpipe.posterior(fit, stores, uncertainty="plug_in")
    assert list(found) == list(plain)
    assert found.method == uncertainty.partition("(")[0]
    assert found.method in repr(found)
    for column in found.values():
        assert column.shape == (25,)
        assert np.isfinite(column).all()
    np.testing.assert_allclose(found["sd_plug_in"], plain["sd_plug_in"], rtol=1e-12)
    np.testing.assert_allclose(found["q0.975"] - found["mean"], found["mean"] - found["q0.025"])
    np.testing.assert_allclose(found["q0.5"], found["mean"])
    several = found.quantile((0.01, 0.1, 0.4, 0.6, 0.9, 0.99))
    assert np.all(np.diff(several, axis=1) > 0)
    np.testing.assert_array_equal(found.quantile(0.1), several[:, 1])
    assert found.nodes.method.tolist() == [found.method]
    if uncertainty != "morris":
        np.testing.assert_allclose(found["mean"], plain["mean"], rtol=1e-9)
        np.testing.assert_allclose(found["weight"], plain["weight"], rtol=1e-9)


@pytest.mark.parametrize("uncertainty", ["prasad_rao", "morris"])
def test_they_are_the_library_functions_at_the_fit(uncertainty):
    stores = stores_of(25, 2)
    fit = fitted(stores)
    found = hbpipe.posterior(fit, stores, uncertainty=uncertainty)
    y, s2 = stores["estimate"], stores["variance"]
    model = area_model(y, s2, None, fit.hyperparameters["tau"] ** 2)
    expected = {"prasad_rao": prasad_rao, "morris": morris}[uncertainty](model, y, s2)
    np.testing.assert_allclose(found["mean"], expected.mean, rtol=1e-10)
    np.testing.assert_allclose(found["sd"], expected.sd, rtol=1e-10)
    law = stats.norm(expected.mean, expected.sd)
    np.testing.assert_allclose(found["q0.025"], law.ppf(0.025), rtol=1e-9)
    np.testing.assert_allclose(found.cdf(5.0), law.cdf(5.0), rtol=1e-9)
    ahead = found.predict(2.0, (0.1, 0.9))
    np.testing.assert_allclose(ahead.sd, np.sqrt(expected.sd**2 + 2.0), rtol=1e-9)
    np.testing.assert_allclose(ahead.cdf(ahead.quantiles[:, 1]), 0.9)


def test_a_robust_posterior_says_how_often_a_normal_interval_may_miss():
    stores = stores_of(25, 3)
    fit = fitted(stores)
    new = {"estimate": np.append(stores["estimate"], 0.0)}
    new["variance"] = np.append(stores["variance"], np.inf)
    found = hbpipe.posterior(fit, new, uncertainty="ebci")
    missed = found.closed.normal_non_coverage()
    # The least favourable law by search: b is 0 or ±r with E b² = s²/τ² (κ = ∞), Z standard.
    ratio = stores["variance"] / fit.hyperparameters["tau"] ** 2
    chi = stats.norm.isf(0.025) * np.sqrt(1.0 + ratio)
    r = np.geomspace(1.0, 100.0, 20_001) * np.sqrt(ratio)[:, None]
    far = stats.norm.sf(chi[:, None] - r) + stats.norm.cdf(-chi[:, None] - r)
    share = ratio[:, None] / r**2
    expected = np.max(share * far + (1.0 - share) * 2.0 * stats.norm.sf(chi)[:, None], axis=1)
    np.testing.assert_allclose(missed[:-1], expected, rtol=1e-5)
    assert missed[-1] == pytest.approx(1.0 / stats.norm.isf(0.025) ** 2, rel=1e-3)
    assert np.all(found.closed.normal_non_coverage(0.1) > missed)
    other = hbpipe.posterior(fit, stores, uncertainty="morris")
    with pytest.raises(FitError, match="takes the prior for normal"):
        other.closed.normal_non_coverage()
    assert hbpipe.posterior(fit, stores, uncertainty="plug_in").closed is None


@pytest.mark.parametrize(("uncertainty", "kurtosis"), [("ebci", np.inf), ("ebci(4)", 4.0)])
def test_robust_limits_have_the_critical_value(uncertainty, kurtosis):
    stores = stores_of(25, 3)
    fit = fitted(stores)
    found = hbpipe.posterior(fit, stores, uncertainty=uncertainty, quantiles=(0.05, 0.95))
    tau2, s2 = fit.hyperparameters["tau"] ** 2, stores["variance"]
    weight = tau2 / (tau2 + s2)
    half = cva(s2 / tau2, kurtosis, 0.1) * weight * np.sqrt(s2)
    np.testing.assert_allclose(found["q0.95"] - found["mean"], half, rtol=1e-4)
    # The sd stays the model's: a normal interval is shorter.
    np.testing.assert_array_equal(found["sd"], found["sd_plug_in"])
    assert np.all(half > stats.norm.ppf(0.95) * found["sd"])
    with pytest.raises(FitError, match="no distribution"):
        found.cdf(5.0)
    with pytest.raises(FitError, match="no distribution"):
        found.predict(1.0)


def test_a_bound_on_the_kurtosis_shortens_the_interval():
    stores = stores_of(400, 4)
    fit = fitted(stores)
    estimated = prior_moments(stores["estimate"], stores["variance"]).kurtosis
    lengths = []
    for name in ("plug_in", f"ebci({estimated})", "ebci", "ebci(inf)"):
        found = hbpipe.posterior(fit, stores, uncertainty=name)
        lengths.append(np.mean(found["q0.975"] - found["q0.025"]))
    assert lengths[0] < lengths[1] < lengths[2] == lengths[3]


@pytest.mark.parametrize("estimator", ["reml", "ml", "moments"])
def test_integrated_and_prasad_rao_agree_with_many_stores(estimator):
    stores = stores_of(3000, 5)
    fit = fitted(stores, estimator=estimator)
    integrated, closed = (
        hbpipe.posterior(fit, stores, uncertainty=name) for name in ("integrated", "prasad_rao")
    )
    np.testing.assert_allclose(closed["sd"], integrated["sd"], rtol=0.02)
    assert np.max(np.abs(closed["mean"] - integrated["mean"]) / integrated["sd"]) < 0.05
    reach = (closed["q0.975"] - integrated["q0.975"]) / integrated["sd"]
    assert np.max(np.abs(reach)) < 0.08


def test_the_fit_s_stores_need_not_be_those_updated():
    stores = stores_of(40, 6)
    fit = fitted(stores)
    whole = hbpipe.posterior(fit, stores, uncertainty="prasad_rao")
    some = {name: values[7:9] for name, values in stores.items()}
    part = hbpipe.posterior(fit, some, uncertainty="prasad_rao")
    np.testing.assert_array_equal(part["sd"], whole["sd"][7:9])
    new = {"estimate": np.zeros(1), "variance": np.array([np.inf])}
    tau = fit.hyperparameters["tau"]
    for name in ("prasad_rao", "ebci"):
        found = hbpipe.posterior(fit, new, uncertainty=name)
        assert found["weight"][0] == 0.0
        assert found["mean"][0] == found["prior_mean"][0]
        assert found["sd"][0] >= tau
    np.testing.assert_allclose(found["q0.975"] - found["mean"], tau / np.sqrt(0.05), rtol=1e-6)


def test_what_is_held_is_known():
    stores = stores_of(25, 7)
    both = fitted(stores, estimator="ml", fixed={"mu": 5.0, "tau": 0.8})
    found = hbpipe.posterior(both, stores, uncertainty="prasad_rao")
    np.testing.assert_allclose(found["sd"], found["sd_plug_in"], rtol=1e-12)
    tau = fitted(stores, fixed={"tau": 0.8})
    found = hbpipe.posterior(tau, stores, uncertainty="prasad_rao")
    # Only the prior mean is uncertain, which integration treats exactly.
    exact = hbpipe.posterior(tau, stores, uncertainty="integrated")
    np.testing.assert_allclose(found["sd"], exact["sd"], rtol=1e-9)
    np.testing.assert_allclose(found["mean"], exact["mean"], rtol=1e-9)


def test_no_spread_leaves_prasad_raos_interval_a_width():
    stores = {"estimate": np.full(6, 3.0), "variance": np.full(6, 2.0)}
    fit = fitted(stores)
    assert fit.status == "no_spread"
    found = hbpipe.posterior(fit, stores, uncertainty="prasad_rao")
    # g₁ = 0, g₂ = 2/6, 2 g₃ = 4 · 2/6 at B = 1.
    np.testing.assert_allclose(found["sd"] ** 2, 2 / 6 + 8 / 6)
    np.testing.assert_array_equal(found["sd_plug_in"], 0.0)


@pytest.mark.parametrize(
    ("uncertainty", "arguments", "words"),
    [
        ("ebci", {"fixed": {"tau": 0.0}}, "no width where the fit has no spread"),
        ("prasad_rao", {"estimator": "moments:lesson"}, "no expansion"),
        ("prasad-rao", {}, "did you mean 'prasad_rao'"),
        ("ebci(0.5)", {}, "kurtosis K of at least 1"),
        ("ebci()", {}, "is no robust interval"),
        ("ebci(x)", {}, "is no robust interval"),
        ("ebci(nan)", {}, "is no robust interval"),
        ("morris(3)", {}, "is no robust interval"),
    ],
)
def test_what_cannot_be_is_explained(uncertainty, arguments, words):
    stores = stores_of(12, 8)
    with pytest.raises(FitError, match=words):
        hbpipe.posterior(fitted(stores, **arguments), stores, uncertainty=uncertainty)


def test_other_families_have_no_closed_form():
    stores = {"successes": [3, 20, 11], "trials": [30, 200, 80]}
    with pytest.raises(FitError, match="for estimates with known variances, not for beta_binomial"):
        hbpipe.posterior(hbpipe.fit("beta_binomial", stores), stores, uncertainty="prasad_rao")
