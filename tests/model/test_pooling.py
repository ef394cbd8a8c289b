"""No, complete and partial pooling side by side, against scipy's own likelihoods."""

import numpy as np
import pytest
from scipy import optimize, stats

import hbpipe
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.geometry import geometry_of
from hbpipe.model.pooling import (
    complete_pooling,
    log_likelihood_no_pooling,
    no_pooling,
)

#: Stores of unequal size; the last one has no data.
STORES = {
    "beta_binomial": {"successes": [3, 20, 11, 0, 7, 0], "trials": [30, 200, 80, 9, 7, 0]},
    "gamma_poisson": {"count": [3, 20, 0, 9, 0], "exposure": [2.0, 30.0, 1.5, 4.0, 0.0]},
    "normal": {
        "n": [4, 9, 1, 6, 0],
        "mean": [1.0, 2.5, 4.0, 1.2, 0.0],
        "m2": [3.0, 9.0, 0.0, 4.0, 0.0],
    },
    "normal_known_variance": {
        "estimate": [1.0, 3.0, 4.0, 0.5, 0.0],
        "variance": [1.0, 2.0, 0.5, 4.0, np.inf],
    },
}
every = pytest.mark.parametrize("name", STORES)


def arrays(name):
    return {key: np.asarray(values) for key, values in STORES[name].items()}


def log_density(name, data, theta, sigma=1.0):
    """Log likelihood of all stores at θ, a number or one for each store."""
    if name == "beta_binomial":
        return stats.binom.logpmf(data["successes"], data["trials"], theta).sum()
    if name == "gamma_poisson":
        return stats.poisson.logpmf(data["count"], theta * data["exposure"]).sum()
    if name == "normal_known_variance":
        known = np.isfinite(data["variance"])
        sd = np.sqrt(data["variance"][known])
        theta = np.broadcast_to(theta, len(known))[known]
        return stats.norm.logpdf(data["estimate"][known], theta, sd).sum()
    squares = data["m2"] + data["n"] * (data["mean"] - theta) ** 2
    return np.sum(-0.5 * data["n"] * np.log(2 * np.pi * sigma**2) - 0.5 * squares / sigma**2)


@every
def test_complete_pooling_is_the_pool_as_one_store(name):
    family, data = get_family(name), arrays(name)
    found = complete_pooling(hbpipe.fit(name, STORES[name]).pools)
    one = family.fold(data, np.zeros(len(next(iter(data.values()))), int), 1)
    size, raw = geometry_of(name).sizes(one)
    np.testing.assert_allclose(found.estimate, raw, rtol=1e-9)
    sigma = np.sqrt(one["m2"][0] / one["n"][0]) if name == "normal" else 1.0
    expected = log_density(name, data, raw[0], sigma)
    np.testing.assert_allclose(found.log_likelihood, expected, rtol=1e-10)
    v0, v1, v2 = geometry_of(name).variance
    variance = v0 * sigma**2 + v1 * raw + v2 * raw**2
    np.testing.assert_allclose(found.sd, np.sqrt(variance / size), rtol=1e-9)
    assert found.parameters[0] == (2 if name == "normal" else 1)


@every
def test_no_pooling_gives_every_store_its_own(name):
    data = arrays(name)
    fit = hbpipe.fit(name, STORES[name])
    _, raw = geometry_of(name).sizes(data)
    sigma = 1.0
    if name == "normal":
        sigma = np.sqrt(data["m2"].sum() / data["n"].sum())
    expected = log_density(name, data, raw, sigma)
    assert log_likelihood_no_pooling(fit.pools)[0] == pytest.approx(expected, abs=1e-10)
    pooling, stores = fit.pooling, len(raw) - 1
    assert pooling.none == (pytest.approx(expected), stores + (name == "normal"))
    assert pooling.partial == (fit.log_marginal_likelihood, 3 if name == "normal" else 2)
    gained = 2 * (expected - pooling.complete.log_likelihood)
    assert pooling.homogeneity == pytest.approx(gained)
    assert pooling.homogeneity_p_value == pytest.approx(stats.chi2.sf(gained, stores - 1))
    spread = 2 * (fit.log_marginal_likelihood - pooling.complete.log_likelihood)
    assert pooling.likelihood_ratio == pytest.approx(max(0, spread), abs=1e-9)
    if spread > 1e-6:
        assert pooling.p_value == pytest.approx(stats.chi2.sf(spread, 1) / 2)


def test_homogeneity_of_estimates_is_cochrans_q():
    data = arrays("normal_known_variance")
    weight = 1 / data["variance"]
    mean = np.sum(weight * data["estimate"]) / weight.sum()
    q = np.sum(weight * (data["estimate"] - mean) ** 2)
    fit = hbpipe.fit("normal_known_variance", data)
    assert fit.pooling.homogeneity == pytest.approx(q, rel=1e-10)


@every
def test_columns_stand_side_by_side(name):
    data = arrays(name)
    fit = hbpipe.fit(name, STORES[name])
    found = hbpipe.posterior(fit, STORES[name])
    size, raw = geometry_of(name).sizes(data)
    np.testing.assert_array_equal(found["no_pooling"][:-1], raw[:-1])
    assert np.isnan(found["no_pooling"][-1])
    assert np.isinf(found["no_pooling_sd"][-1])
    assert np.all(found["no_pooling_sd"] > 0)
    assert np.ptp(found["complete_pooling"]) == 0
    # Partial pooling at known hyperparameters lies between the two.
    plain = hbpipe.posterior(fit, STORES[name], uncertainty="plug_in")
    low, high = np.minimum(raw, plain["prior_mean"]), np.maximum(raw, plain["prior_mean"])
    inside = (plain["mean"] >= low - 1e-9) & (plain["mean"] <= high + 1e-9)
    assert inside[:-1].all()
    if name == "normal":
        sigma = fit.hyperparameters["sigma"]
        np.testing.assert_allclose(found["no_pooling_sd"][:-1], sigma / np.sqrt(size[:-1]))
    if name == "normal_known_variance":
        np.testing.assert_allclose(found["no_pooling_sd"], np.sqrt(data["variance"]))
    if name == "beta_binomial":
        inner = (raw > 0) & (raw < 1)
        wald = np.sqrt(raw * (1 - raw) / np.maximum(size, 1))
        np.testing.assert_allclose(found["no_pooling_sd"][inner], wald[inner])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("beta_binomial", {"successes": [0, 0], "trials": [5, 15]}),
        ("beta_binomial", {"successes": [5, 15], "trials": [5, 15]}),
        ("gamma_poisson", {"count": [0, 0], "exposure": [5.0, 15.0]}),
    ],
)
def test_on_the_edge_the_sampling_sd_is_half_an_event_inside(name, data):
    fit = hbpipe.fit(name, data)
    complete = complete_pooling(fit.pools)
    rate = 0.5 / 20
    variance = rate * (1 - rate) if name == "beta_binomial" else rate
    assert complete.sd[0] == pytest.approx(np.sqrt(variance / 20), rel=1e-6)
    _, sd = no_pooling(
        get_family(name), {k: np.asarray(v) for k, v in data.items()}, {"sigma": 1.0}
    )
    rates = 0.5 / np.array([5.0, 15.0])
    variances = rates * (1 - rates) if name == "beta_binomial" else rates
    np.testing.assert_allclose(sd, np.sqrt(variances / [5, 15]))
    assert fit.pooling.p_value == 1.0


def test_values_that_do_not_vary_within_stores_have_no_bound_without_pooling():
    data = {"n": [3, 3], "mean": [1.0, 2.0], "m2": [0.0, 0.0]}
    family = get_family("normal")
    sketch = family.compress({k: np.asarray(v) for k, v in data.items()}, np.zeros(2, int), 1)
    fits = fit_pools(family, sketch)
    assert np.isposinf(log_likelihood_no_pooling(fits)[0])
    held = hbpipe.fit("normal", data, fixed={"sigma": 1.0}).pooling
    assert held.none == (pytest.approx(-3 * np.log(2 * np.pi)), 2)


def test_what_is_held_stays_held():
    data = arrays("normal_known_variance")
    fit = hbpipe.fit("normal_known_variance", data, fixed={"mu": 5.0})
    complete = complete_pooling(fit.pools)
    assert (complete.estimate[0], complete.sd[0], complete.parameters[0]) == (5.0, 0.0, 0)
    assert complete.log_likelihood[0] == pytest.approx(
        log_density("normal_known_variance", data, 5.0)
    )
    tau = hbpipe.fit("normal_known_variance", data, fixed={"tau": 1.0}).pooling
    assert (tau.complete.parameters, tau.partial.parameters) == (1, 1)
    assert tau.p_value == 1.0


@pytest.mark.parametrize("estimator", ["reml", "moments", "ml:li_lahiri"])
def test_partial_pooling_is_maximum_likelihood_whatever_the_estimator(estimator):
    data = arrays("normal_known_variance")
    plain = hbpipe.fit("normal_known_variance", data)
    other = hbpipe.fit("normal_known_variance", data, estimator=estimator)
    assert other.pooling == plain.pooling


def test_a_batch_gives_the_bits_of_single_pools():
    family, rng = get_family("normal"), np.random.default_rng(4)
    pools = np.repeat(np.arange(4), [1, 3, 8, 20])
    n = rng.integers(2, 9, 32)
    data = {"n": n, "mean": rng.normal(size=32), "m2": rng.chisquare(n - 1)}
    together = complete_pooling(fit_pools(family, family.compress(data, pools, 5)))
    for g in range(4):
        part = {key: values[pools == g] for key, values in data.items()}
        alone = complete_pooling(hbpipe.fit(family, part).pools)
        for name in ("estimate", "sd", "log_likelihood"):
            assert getattr(alone, name)[0] == getattr(together, name)[g]
    assert np.isnan(together.estimate[4])
    assert np.isposinf(together.sd[4])


def test_a_shared_sigma_is_found_anew_without_spread():
    data = arrays("normal")
    fit = hbpipe.fit("normal", data)

    def loss(x):
        return -log_density("normal", data, x[0], np.exp(x[1]))

    best = optimize.minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-9})
    assert fit.pooling.complete.log_likelihood == pytest.approx(-best.fun, abs=1e-8)


def test_a_regression_as_one_store_is_least_squares_of_all_rows():
    rng = np.random.default_rng(4)
    codes = np.repeat(np.arange(9), rng.integers(1, 30, 9))
    x = np.column_stack([np.ones(len(codes)), rng.normal(2000.0, 1.0, len(codes))])
    y = x @ [3.0, -0.5] + rng.normal(0.0, 2.0, len(codes)) + rng.normal(0.0, 1.0, 9)[codes]
    family = get_family("normal_regression", 2)
    data = family.summarise({"predictors": x, "response": y}, codes, 9)
    fit = hbpipe.fit("normal_regression", data)
    found = complete_pooling(fit.pools)
    coefficients, squares, *_ = np.linalg.lstsq(x, y)
    sigma = np.sqrt(squares[0] / len(y))
    assert found.log_likelihood[0] == pytest.approx(
        stats.norm.logpdf(y, x @ coefficients, sigma).sum(), abs=1e-8
    )
    np.testing.assert_allclose(found.estimate[0], coefficients, rtol=1e-7)
    centred = x - [0.0, x[:, 1].mean()]
    slope_sd = sigma / np.sqrt(np.sum(centred[:, 1] ** 2))
    assert found.sd[0, 1] == pytest.approx(slope_sd, rel=1e-6)
    # A store by itself: its own line, with the fit's sigma for the noise.
    posterior = hbpipe.posterior(fit, data, uncertainty="plug_in")
    for store in np.flatnonzero(data["n"] > 2)[:3]:
        own = codes == store
        line, *_ = np.linalg.lstsq(x[own] - [0.0, 2000.0], y[own])
        assert posterior["no_pooling"][store, 1] == pytest.approx(line[1], rel=1e-8)
        spread = np.sum((x[own, 1] - x[own, 1].mean()) ** 2)
        expected = fit.hyperparameters["sigma"] / np.sqrt(spread)
        assert posterior["no_pooling_sd"][store, 1] == pytest.approx(expected, rel=1e-8)
        # The intercept, at x = 0, is 2000 sds away from the data.
        far = expected * np.sqrt(spread / own.sum() + x[own, 1].mean() ** 2)
        assert posterior["no_pooling_sd"][store, 0] == pytest.approx(far, rel=1e-8)
    single = np.flatnonzero(data["n"] == 1)
    assert np.isnan(posterior["no_pooling"][single]).all()
    assert np.isposinf(posterior["no_pooling_sd"][single]).all()


def test_a_family_without_a_saturated_likelihood_has_none():
    rng = np.random.default_rng(5)
    codes = np.repeat(np.arange(12), 6)
    values = rng.normal(rng.normal(0.0, 1.0, 12)[codes], rng.uniform(0.5, 2.0, 12)[codes])
    family = get_family("normal_inverse_gamma")
    data = family.summarise({"value": values}, codes, 12)
    fit = hbpipe.fit("normal_inverse_gamma", data)
    assert np.isnan(log_likelihood_no_pooling(fit.pools)[0])
    pooling = fit.pooling
    assert (pooling.none, pooling.homogeneity, pooling.homogeneity_p_value) == (None, None, None)
    found = complete_pooling(fit.pools)
    own = values.reshape(12, 6)
    weights = 6 / own.var(axis=1, ddof=1)
    assert abs(found.estimate[0] - np.average(own.mean(axis=1), weights=weights)) < 0.5
    assert 0.3 / np.sqrt(weights.sum()) < found.sd[0] < 4 / np.sqrt(weights.sum())
    raw, sd = no_pooling(family, data, {})
    np.testing.assert_allclose(raw, own.mean(axis=1))
    np.testing.assert_allclose(sd, own.std(axis=1, ddof=1) / np.sqrt(6))
