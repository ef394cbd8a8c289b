"""Which means exist, what stores are compared by, degenerate data, hyperpriors, one more visit."""

import numpy as np
import pytest

import hbpipe
from hbpipe.errors import FitError
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.hurdle.hyperprior import split
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.update.pools import update_pools
from hbpipe.model.update.signs import false_sign_rates

FAMILY = get_family("hurdle_lognormal")
TRUE = {"alpha": 6.0, "beta": 54.0, "mu": 3.0, "tau": 0.3, "sigma": 0.7}


def simulated(seed=1, stores=20, most=300):
    """Statistics, the last of them of a store without a visit, and the true θ."""
    rng = np.random.default_rng(seed)
    sizes = np.append(rng.integers(10, most, stores - 1), 0)
    events, codes, theta = FAMILY.simulate(rng, TRUE, stores, sizes)
    return FAMILY.summarise(events, codes, stores), theta


@pytest.fixture(scope="module")
def fit():
    return hbpipe.fit("hurdle_lognormal", simulated()[0])


@pytest.mark.parametrize(
    ("fixed", "of_buyers", "of_others", "of_prior"),
    [
        ({}, False, False, False),
        ({"tau": 0.3}, False, False, False),
        ({"sigma": 0.7}, True, False, False),
        ({"sigma": 0.7, "tau": 0.3}, True, True, True),
        (TRUE, True, True, True),
    ],
)
@pytest.mark.parametrize("uncertainty", ["integrated", "first_order"])
def test_a_mean_is_given_where_it_exists(fixed, of_buyers, of_others, of_prior, uncertainty):
    statistics, _ = simulated()
    known = hbpipe.fit("hurdle_lognormal", statistics, fixed=fixed)
    found = hbpipe.posterior(known, statistics, uncertainty=uncertainty)
    bought = statistics["successes"] > 0
    for name in ("mean", "sd"):
        assert np.isfinite(found[name][bought]).all() == of_buyers
        assert np.isfinite(found[name][~bought]).all() == of_others
        assert not np.isnan(found[name]).any()
    assert np.isfinite(found["prior_mean"]).all() == of_prior
    assert np.isfinite(found["sd_plug_in"]).all()
    assert np.isfinite(found["q0.5"]).all()


def test_with_sigma_held_the_mean_is_that_of_the_quantiles():
    statistics, _ = simulated()
    known = hbpipe.fit("hurdle_lognormal", statistics, fixed={"sigma": 0.7})
    buyers = {name: values[:6] for name, values in statistics.items()}
    found = hbpipe.posterior(known, buyers, uncertainty="integrated")
    at, weight = np.polynomial.legendre.leggauss(200)
    quantiles = found.quantile(tuple(0.5 + 0.5 * at))
    mean = quantiles @ (0.5 * weight)
    np.testing.assert_allclose(found["mean"], mean, rtol=2e-3)
    sd = np.sqrt(np.square(quantiles - mean[:, None]) @ (0.5 * weight))
    np.testing.assert_allclose(found["sd"], sd, rtol=3e-2)


def test_plug_in_has_the_means_of_known_hyperparameters(fit):
    statistics, _ = simulated()
    found = hbpipe.posterior(fit, statistics, uncertainty="plug_in")
    law = FAMILY.describe(FAMILY.update(statistics, fit.hyperparameters), [0.5])
    np.testing.assert_allclose(found["mean"], law.mean, rtol=1e-12)
    np.testing.assert_allclose(found["q0.5"], law.quantiles[:, 0], rtol=1e-9)
    np.testing.assert_allclose(found["mean"][-1], found["prior_mean"][-1], rtol=1e-9)


def draws(nodes, statistics, size, rng):
    """Draw nodes, then p, m and σ of each store at them."""
    pool = nodes.pools[0]
    s = rng.choice(len(pool.weight), size, p=pool.weight)
    at = {name: values[s] for name, values in pool.values.items()}
    spread, mean = at["conversion_spread"], at["conversion_location"]
    y, n = (statistics[name][:, None] for name in ("successes", "trials"))
    p = rng.beta(mean / spread + y, (1.0 - mean) / spread + n - y)
    tau2, mu = at["basket_spread"] * at["basket_noise"], at["basket_location"]
    mu = mu + np.sqrt(at["basket_location_variance"]) * rng.normal(size=size)
    own = y * at["basket_spread"] / (1.0 + y * at["basket_spread"])
    m = mu + own * (statistics["mean"][:, None] - mu)
    m = m + np.sqrt(tau2 * (1.0 - own)) * rng.normal(size=(len(y), size))
    prior = mean * np.exp(mu + 0.5 * (tau2 + at["basket_noise"]))
    return p * np.exp(m + 0.5 * at["basket_noise"]), prior


def test_signs_and_ranks_are_those_of_a_simulation(fit):
    statistics, _ = simulated()
    nodes = integrate_pools(fit.pools, uncertainty="integrated")
    theta, prior = draws(nodes, statistics, 40_000, np.random.default_rng(2))
    below = np.mean(theta <= prior, axis=1)
    rates = false_sign_rates(FAMILY, nodes, statistics, np.zeros(20, np.int64))
    np.testing.assert_allclose(rates, np.minimum(below, 1.0 - below), atol=0.01)
    # Ranks compare posteriors as if they were independent, as those of every family.
    rng = np.random.default_rng(3)
    apart = np.stack([rng.permutation(row) for row in theta])
    rank = (np.argsort(np.argsort(apart, axis=0), axis=0) + 0.5) / 20
    found = hbpipe.posterior(fit, statistics, uncertainty="integrated").rank()
    np.testing.assert_allclose(found["expected_percentile"], rank.mean(axis=1), atol=0.006)


def test_numbers_of_a_store_do_not_depend_on_the_others(fit):
    statistics, _ = simulated()
    for uncertainty in ("integrated", "first_order"):
        nodes = integrate_pools(fit.pools, uncertainty=uncertainty)
        known = (FAMILY, nodes, fit.pools.hyperparameters)
        zero, chosen = np.zeros(20, np.int64), np.array([7, 2])
        whole = update_pools(*known, statistics, zero, quantiles=(0.1, 0.9))
        some = {name: values[chosen] for name, values in statistics.items()}
        part = update_pools(*known, some, zero[:2], quantiles=(0.1, 0.9))
        for name in ("quantiles", "weight", "sd_plug_in", "mean"):
            np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[chosen])
        signs = false_sign_rates(FAMILY, nodes, statistics, zero)
        np.testing.assert_array_equal(
            false_sign_rates(FAMILY, nodes, some, zero[:2]), signs[chosen]
        )


def table(*rows):
    columns = zip(*rows, strict=True)
    names = ("successes", "trials", "mean", "m2")
    return {name: np.array(column) for name, column in zip(names, columns, strict=True)}


@pytest.mark.parametrize(
    ("statistics", "status", "identified"),
    [
        (table((0, 0, 0.0, 0.0)), "no_data", False),
        (table((0, 9, 0.0, 0.0), (0, 4, 0.0, 0.0)), "no_purchases", False),
        (table((1, 9, 3.0, 0.0), (1, 4, 2.0, 0.0)), "sigma_unidentified", False),
        (table((2, 9, 3.0, 0.0), (3, 9, 2.0, 0.0)), "no_variation_within", False),
        (table((2, 9, 3.0, 0.4)), "one_store", True),
        (table((9, 9, 3.0, 0.4), (8, 8, 2.0, 0.9)), "no_failures", True),
        (table((2, 9, 3.0, 0.4), (3, 30, 2.0, 0.9), (0, 5, 0.0, 0.0)), "", True),
    ],
)
def test_degenerate_data_have_a_word(statistics, status, identified):
    sketch = FAMILY.compress(statistics, np.zeros(len(statistics["mean"]), np.int64), 1)
    fits = fit_pools(FAMILY, sketch)
    assert fits.identified[0] == identified
    assert fits.status[0] == status if status else fits.status[0] in ("ok", "at_bound", "no_spread")
    assert all(np.isfinite(values).all() for values in fits.hyperparameters.values())
    nodes = integrate_pools(fits, uncertainty="integrated")
    # Of single amounts that differ, the default hyperpriors know enough: see ``normal``.
    integrable = identified or status == "sigma_unidentified"
    assert (nodes.method[0] != "unidentified") == integrable
    found = update_pools(
        FAMILY, nodes, fits.hyperparameters, statistics, np.zeros(len(statistics["mean"]), int),
        quantiles=(0.05, 0.95),
    )  # fmt: skip
    assert np.isfinite(found.quantiles).all()
    if identified:
        assert np.all(np.diff(found.quantiles, axis=1) > 0)


def test_what_resolves_one_part_leaves_the_other():
    statistics = table((1, 1, 3.0, 0.0), (1, 1, 2.0, 0.0), (0, 1, 0.0, 0.0))
    sketch = FAMILY.compress(statistics, np.zeros(3, np.int64), 1)
    assert fit_pools(FAMILY, sketch).status == ("sigma_unidentified",)
    held = fit_pools(FAMILY, sketch, fixed={"sigma": 0.5})
    assert held.status == ("one_trial_each",)
    both = fit_pools(FAMILY, sketch, fixed={"sigma": 0.5, "concentration": 50.0})
    assert both.identified[0]


def test_hyperpriors_are_taken_apart_by_name(fit):
    assert split(None) == (None, None)
    assert split("bda3") == ("bda3", None)
    assert split("uniform_shrinkage(5)") == ("uniform_shrinkage(5)", "uniform_shrinkage(5)")
    spec = {"concentration": "gamma(2, 0.01)", "tau": "half_normal(1)"}
    assert split(spec) == ({"concentration": spec["concentration"]}, {"tau": spec["tau"]})
    with pytest.raises(FitError, match="did you mean 'tau'"):
        split({"tua": "half_normal(1)"})
    statistics, _ = simulated()
    shaped = hbpipe.fit("hurdle_lognormal", statistics, estimator="map", hyperprior=spec)
    paid = {"n": statistics["successes"], "mean": statistics["mean"], "m2": statistics["m2"]}
    alone = hbpipe.fit("normal", paid, estimator="map", hyperprior={"tau": spec["tau"]})
    assert shaped.hyperparameters["tau"] == pytest.approx(alone.hyperparameters["tau"], rel=1e-6)
    assert shaped.hyperparameters["tau"] != pytest.approx(fit.hyperparameters["tau"], rel=1e-3)


def test_all_stores_as_one_have_the_mean_of_both_parts():
    statistics, _ = simulated(stores=40)
    known = hbpipe.fit("hurdle_lognormal", statistics)
    found = hbpipe.posterior(known, statistics)
    y, n = statistics["successes"].sum(), statistics["trials"].sum()
    mean = np.sum(statistics["successes"] * statistics["mean"]) / y
    offset = np.square(statistics["mean"] - mean)
    variance = np.sum(statistics["m2"] + statistics["successes"] * offset) / y
    together = y / n * np.exp(mean + 0.5 * variance)
    np.testing.assert_allclose(found["complete_pooling"], together, rtol=1e-6)
    relative = (1.0 - y / n) / y + (variance + 0.5 * variance**2) / y
    np.testing.assert_allclose(
        found["complete_pooling_sd"], together * np.sqrt(relative), rtol=1e-4
    )
    held = hbpipe.posterior(hbpipe.fit("hurdle_lognormal", statistics, fixed=TRUE), statistics)
    np.testing.assert_allclose(held["complete_pooling_sd"], 0.0, atol=1e-12)


def test_one_more_visit_is_predicted_and_several_are_not(fit):
    statistics, _ = simulated()
    found = hbpipe.posterior(fit, statistics, uncertainty="integrated")
    ahead = found.predict(1, quantiles=(0.5, 0.97))
    assert np.isinf(ahead.mean).all()
    # Fewer than half of the visits end in a purchase.
    np.testing.assert_array_equal(ahead.quantiles[:, 0], 0.0)
    np.testing.assert_allclose(ahead.cdf(ahead.quantiles[:, 1]), 0.97, rtol=1e-6)
    assert np.all(ahead.cdf(-1.0) == 0.0)
    with pytest.raises(FitError, match="several visits"):
        found.predict(10)


def test_the_likelihood_kept_off_zero_is_of_one_spread_only():
    with pytest.raises(FitError):
        hbpipe.fit("hurdle_lognormal", simulated()[0], estimator="ml:li_lahiri")
