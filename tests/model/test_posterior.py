"""The library's posterior and the pipeline's columns."""

import gc

import numpy as np
import pytest
from scipy import stats
from strategies import INTEGRABLE, ON_A_GRID

import hbpipe
from hbpipe.errors import FitError, StatisticsError
from hbpipe.model import remembered as remembered_module
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.posterior import cdf_pools, integrate_pools, posterior_pools, update_pools
from hbpipe.model.update import pools as pools_module

UNCERTAINTIES = ("plug_in", "first_order", "integrated", "auto")


def stores_of(name, stores=20, seed=1):
    rng = np.random.default_rng(seed)
    n = np.ceil(np.exp(rng.uniform(1, 5, stores))).astype(np.int64)
    if name == "beta_binomial":
        return {"successes": rng.binomial(n, rng.beta(3, 20, stores)), "trials": n}
    if name == "gamma_poisson":
        return {"count": rng.poisson(n * rng.gamma(2, 0.2, stores)), "exposure": n.astype(float)}
    if name == "dirichlet_multinomial":
        theta = rng.dirichlet([3.0, 20.0], stores)
        return {"counts": rng.multinomial(n, theta)}
    if name == "normal_regression":
        family = get_family(name)
        at = {"mu": np.array([5.0, 2.0]), "Sigma": np.diag([0.3, 0.2]), "sigma": 1.0}
        columns, codes, _ = family.simulate(rng, at, stores, n)
        return family.summarise(columns, codes, stores)
    if name == "local_level":
        family = get_family(name)
        at = {"mu": 5.0, "tau": 0.5, "signal_ratio": 0.05, "sigma": 1.0}
        columns, codes, _ = family.simulate(rng, at, stores, n)
        return family.summarise(columns, codes, stores)
    if name == "hurdle_lognormal":
        family = get_family(name)
        at = {"alpha": 8.0, "beta": 12.0, "mu": 2.0, "tau": 0.3, "sigma": 0.6}
        columns, codes, _ = family.simulate(rng, at, stores, 4 * n)
        return family.summarise(columns, codes, stores)
    mean = rng.normal(rng.normal(5, 0.5, stores), 1 / np.sqrt(n))
    if name in ("normal", "normal_inverse_gamma"):
        return {"n": n, "mean": mean, "m2": rng.chisquare(n - 1) * (n > 1)}
    if name == "normal_weighted":
        w = rng.uniform(0.5, 2.0, stores)
        mean = rng.normal(rng.normal(5, 0.5, stores), 1 / np.sqrt(w * n))
        m2 = rng.chisquare(n - 1) * (n > 1)
        return {"n": n, "precision": w * n, "log_precision": n * np.log(w), "mean": mean, "m2": m2}
    return {"estimate": mean, "variance": 1.0 / n}


def absent(name, stores):
    """The same stores and one that has no data."""
    family = get_family(name)
    return {
        s.name: np.concatenate([stores[s.name], np.full((1, *s.shape), s.absent, s.dtype)])
        for s in family.statistics
    }


def terms_of(name):
    """The axis of terms that columns have beside that of stores."""
    family = get_family(name)
    return () if family.size is None or not family.is_measured else (family.size,)


def next_observation(name, amount):
    """Its size, or its predictors."""
    width = get_family(name).exposure_width
    if name == "hurdle_lognormal":
        return 1.0  # the revenue of several visits has no law in closed form
    return amount if width is None else np.linspace(1.0, amount, width)


@pytest.mark.parametrize("name", INTEGRABLE)
@pytest.mark.parametrize("uncertainty", UNCERTAINTIES)
def test_columns_cdf_and_quantiles_agree(name, uncertainty):
    stores = stores_of(name)
    found = hbpipe.posterior(hbpipe.fit(name, stores), stores, uncertainty=uncertainty)
    names = ["mean", "sd", "sd_plug_in", "weight", "prior_mean", "q0.025", "q0.5", "q0.975"]
    names += ["no_pooling", "no_pooling_sd", "complete_pooling", "complete_pooling_sd"]
    assert list(found) == names
    assert len(found) == len(names)
    for column in found.values():
        assert column.shape == (20, *terms_of(name))
        assert column.dtype == np.float64
    rtol = 1e-8 if name in ON_A_GRID else 1e-4
    for level in (0.025, 0.5, 0.975):
        np.testing.assert_allclose(found.cdf(found[f"q{level:g}"]), level, rtol=rtol)
        np.testing.assert_array_equal(found.quantile(level), found[f"q{level:g}"])
    assert found.quantile((0.1, 0.9)).shape == (20, *terms_of(name), 2)
    variance = found.covariance
    if terms_of(name):
        variance = np.einsum("jkk->jk", variance)
    np.testing.assert_allclose(variance, found["sd"] ** 2)
    assert ((found["weight"] > 0) & (found["weight"] < 1)).all()
    assert found.method in repr(found)


@pytest.mark.parametrize("name", INTEGRABLE)
@pytest.mark.parametrize("uncertainty", ["first_order", "integrated"])
def test_uncertain_hyperparameters_do_not_narrow_the_average_interval(name, uncertainty):
    stores = stores_of(name)
    found = hbpipe.posterior(hbpipe.fit(name, stores), stores, uncertainty=uncertainty)
    assert found["sd"].mean() > found["sd_plug_in"].mean()


@pytest.mark.parametrize("name", INTEGRABLE)
def test_a_store_without_data_gets_the_prior_averaged_over_its_uncertainty(name):
    stores = stores_of(name)
    found = hbpipe.posterior(hbpipe.fit(name, stores), absent(name, stores), uncertainty="auto")
    assert np.all(found["weight"][-1] == 0.0)
    assert found["mean"][-1] == pytest.approx(found["prior_mean"][-1])
    assert np.all(found["sd"][-1] > found["sd_plug_in"][-1])
    assert np.isnan(found["no_pooling"][-1]).all()
    assert np.isposinf(found["no_pooling_sd"][-1]).all()
    endless = {"no_pooling", "no_pooling_sd"}
    if get_family(name).heavy_tails:
        endless |= {"mean", "sd", "prior_mean"}
    assert np.isfinite([found[column][-1] for column in set(found) - endless]).all()


@pytest.mark.parametrize("name", INTEGRABLE)
def test_block_and_shard_boundaries_leave_every_bit_alone(name, monkeypatch):
    family, stores = get_family(name), stores_of(name, 60)
    codes = np.random.default_rng(2).integers(0, 3, 60)
    fits = fit_pools(family, family.compress(stores, codes, 3))
    nodes = integrate_pools(fits, uncertainty="integrated")
    levels = (0.05, 0.5, 0.95)

    def update(rows):
        part = {key: values[rows] for key, values in stores.items()}
        return update_pools(
            family,
            nodes,
            fits.hyperparameters,
            part,
            codes[rows],
            quantiles=levels,
            exposure=next_observation(name, 2.0),
        )

    whole = update(np.arange(60))
    monkeypatch.setattr(pools_module, "_BLOCK", 7)
    cut = [update(rows) for rows in np.array_split(np.arange(60), 9)]
    for column in ("mean", "sd", "sd_plug_in", "quantiles", "weight", "predictive_sd"):
        np.testing.assert_array_equal(
            getattr(whole, column), np.concatenate([getattr(part, column) for part in cut])
        )


@pytest.mark.parametrize("name", INTEGRABLE)
@pytest.mark.parametrize("uncertainty", UNCERTAINTIES)
def test_predictive_moments_agree_with_the_predictive_distribution(name, uncertainty):
    stores = stores_of(name, 12)
    fitted = hbpipe.fit(name, stores)
    codes = np.zeros(12, np.int64)
    columns = posterior_pools(
        fitted.pools,
        stores,
        codes,
        uncertainty=uncertainty,
        quantiles=(0.1, 0.9),
        exposure=next_observation(name, 7.0),
    )
    found = hbpipe.posterior(fitted, stores, uncertainty=uncertainty)
    law = found.predict(next_observation(name, 7.0), (0.1, 0.9))
    # A first-order law has matched moments, so its predictive has too.
    np.testing.assert_allclose(columns.predictive_mean, law.mean, rtol=1e-7)
    np.testing.assert_allclose(columns.predictive_sd, law.sd, rtol=1e-6)
    assert (law.cdf(law.quantiles[:, 1]) >= 0.9 - 1e-9).all()
    assert (law.quantiles[:, 0] <= law.quantiles[:, 1]).all()


def test_predictive_quantiles_are_the_smallest_counts_that_reach_the_level():
    stores = stores_of("beta_binomial", 12)
    found = hbpipe.posterior(hbpipe.fit("beta_binomial", stores), stores, uncertainty="integrated")
    law = found.predict(40, (0.05, 0.5, 0.95))
    for place, level in enumerate((0.05, 0.5, 0.95)):
        quantile = law.quantiles[:, place]
        np.testing.assert_array_equal(quantile, np.round(quantile))
        assert (law.cdf(quantile) >= level).all()
        assert (law.cdf(quantile - 1.0) < level).all()


def test_fixed_hyperparameters_make_plug_in_exact():
    stores = {"successes": [2, 40], "trials": [20, 400]}
    fitted = hbpipe.fit("beta_binomial", stores, fixed={"alpha": 5, "beta": 95})
    found = hbpipe.posterior(fitted, stores)
    law = stats.beta([7, 45], [113, 455])
    assert found.method == "plug_in"
    np.testing.assert_allclose(found["q0.975"], law.ppf(0.975), rtol=1e-10)
    np.testing.assert_allclose(found["weight"], [20 / 120, 400 / 500])


@pytest.mark.parametrize(
    ("name", "fixed"),
    [
        ("beta_binomial", {"mean": 0.15}),
        ("beta_binomial", {"concentration": 20.0}),
        ("gamma_poisson", {"mean": 0.4}),
        ("gamma_poisson", {"shape": 2.0}),
        ("normal", {"sigma": 1.0}),
        ("normal", {"tau": 0.5}),
        ("normal", {"mu": 5.0, "sigma": 1.0}),
        ("normal", {"mu": 5.0, "tau": 0.0}),
        ("normal_known_variance", {"tau": 0.0}),
        ("normal_known_variance", {"tau": 0.5}),
        ("normal_known_variance", {"mu": 5.0}),
    ],
)
def test_what_is_not_held_is_still_integrated(name, fixed):
    stores = stores_of(name)
    fitted = hbpipe.fit(name, stores, fixed=fixed)
    found = hbpipe.posterior(fitted, absent(name, stores), uncertainty="integrated")
    for name, column in found.items():
        assert np.isfinite(column[:-1] if name.startswith("no_pooling") else column).all()
    if "mu" in fixed or "mean" in fixed:
        np.testing.assert_allclose(found["prior_mean"], fixed.get("mu", fixed.get("mean")))
    else:
        assert (found["sd"] > 0).all()
        assert (found["q0.975"] > found["q0.025"]).all()


def test_no_spread_and_an_unknown_location_leave_the_uncertainty_of_the_location():
    stores = {"estimate": np.array([1.0, 3.0, 4.0]), "variance": np.array([1.0, 2.0, 0.5])}
    fitted = hbpipe.fit("normal_known_variance", stores, fixed={"tau": 0.0})
    found = hbpipe.posterior(fitted, stores, uncertainty="integrated")
    precision = 1 / stores["variance"]
    np.testing.assert_allclose(found["sd"], precision.sum() ** -0.5, rtol=1e-9)
    np.testing.assert_allclose(
        found["mean"], np.sum(precision * stores["estimate"]) / precision.sum(), rtol=1e-9
    )


@pytest.mark.parametrize("name", INTEGRABLE)
@pytest.mark.parametrize("uncertainty", ["plug_in", "integrated"])
def test_probability_below_a_target_matches_the_library(name, uncertainty):
    family, stores = get_family(name), stores_of(name)
    fitted = hbpipe.fit(name, stores)
    nodes = integrate_pools(fitted.pools, uncertainty=uncertainty)
    found = hbpipe.posterior(fitted, stores, uncertainty=uncertainty)
    codes = np.zeros(20, np.int64)
    point = float(np.ravel(found["mean"])[0])
    below = cdf_pools(family, nodes, fitted.pools.hyperparameters, stores, codes, point)
    np.testing.assert_array_equal(below, found.cdf(point))
    assert ((below >= 0) & (below <= 1)).all()


def test_pools_of_all_kinds_update_together():
    family = get_family("beta_binomial")
    big, small = stores_of("beta_binomial", 900, 3), stores_of("beta_binomial", 5, 4)
    nothing = {"successes": np.zeros(2, np.int64), "trials": np.zeros(2, np.int64)}
    stores = {key: np.concatenate([nothing[key], big[key], small[key]]) for key in big}
    codes = np.repeat([0, 1, 2], [2, 900, 5])
    fits = fit_pools(family, family.compress(stores, codes, 3))
    found = posterior_pools(fits, stores, codes, quantiles=(0.025, 0.975), exposure=10)
    methods = ["unidentified"] * 2 + ["first_order"] * 900 + ["integrated"] * 5
    assert found.method.tolist() == methods
    for column in (found.mean, found.sd, found.quantiles, found.predictive_sd):
        assert np.isfinite(column).all()


def test_nodes_are_kept_with_the_fit_and_forgotten_with_it():
    stores = stores_of("normal")
    fitted = hbpipe.fit("normal", stores)
    first = hbpipe.posterior(fitted, stores, uncertainty="integrated")
    again = hbpipe.posterior(fitted, stores, uncertainty="integrated")
    assert again.nodes is first.nodes
    key = (id(fitted.pools), "integrated")
    assert key in remembered_module._NODES
    del fitted, first, again
    gc.collect()
    assert key not in remembered_module._NODES


def test_wrong_arguments_are_named():
    stores = stores_of("normal")
    fitted = hbpipe.fit("normal", stores)
    with pytest.raises(FitError, match="there is no uncertainty"):
        hbpipe.posterior(fitted, stores, uncertainty="bayes")
    with pytest.raises(FitError, match="there is no uncertainty None"):
        hbpipe.posterior(fitted, stores, uncertainty=None)
    with pytest.raises(FitError, match="the quantile levels are 'low'"):
        hbpipe.posterior(fitted, stores, quantiles="low")
    with pytest.raises(FitError, match="strictly between 0 and 1"):
        hbpipe.posterior(fitted, stores, quantiles=(0.0, 0.5))
    with pytest.raises(StatisticsError, match="lack"):
        hbpipe.posterior(fitted, {"n": [1]})


@pytest.mark.parametrize("uncertainty", UNCERTAINTIES)
def test_impossible_questions_are_refused(uncertainty):
    stores = stores_of("beta_binomial", 3)
    fitted = hbpipe.fit("beta_binomial", stores)
    found = hbpipe.posterior(fitted, stores, uncertainty=uncertainty, quantiles=0.5)
    with pytest.raises(FitError, match="strictly between 0 and 1"):
        found.predict(10, quantiles=(1.5, -1))
    with pytest.raises(StatisticsError, match=r"exposure is -1 \(store 0\)"):
        found.predict(-1)
    with pytest.raises(StatisticsError, match=r"exposure is nan \(store 1\)"):
        found.predict([1, np.nan, 2])
    with pytest.raises(StatisticsError, match="not whole"):
        found.predict(2.5)
    with pytest.raises(StatisticsError, match=r"exposures have the shape \(2,\).*\(3,\)"):
        found.predict([1, 2])
    with pytest.raises(StatisticsError, match=r"points have the shape \(2,\).*\(3,\)"):
        found.cdf(np.array([0.1, 0.2]))


@pytest.mark.parametrize("family", ["normal", "normal_inverse_gamma"])
def test_the_mean_of_no_values_is_refused(family):
    stores = stores_of("normal")
    found = hbpipe.posterior(hbpipe.fit(family, stores), stores)
    with pytest.raises(StatisticsError, match=r"exposure is 0.*positive"):
        found.predict(0)


@pytest.mark.parametrize("trials", [10, 10**9])
def test_stores_that_always_succeed_mirror_those_that_never_do(trials):
    sizes = np.array([3, trials])
    always, never = (
        hbpipe.posterior(hbpipe.fit("beta_binomial", stores), stores, uncertainty="integrated")
        for stores in (
            {"successes": sizes, "trials": sizes},
            {"successes": 0 * sizes, "trials": sizes},
        )
    )
    np.testing.assert_allclose(always["q0.025"], 1 - never["q0.975"], rtol=1e-7)
    np.testing.assert_allclose(always["sd"][0], never["sd"][0], rtol=1e-6)


def test_a_single_store_of_a_trillion_successes_has_a_posterior():
    stores = {"successes": [10**12], "trials": [10**12]}
    found = hbpipe.posterior(hbpipe.fit("beta_binomial", stores), stores, uncertainty="integrated")
    assert 0 < found["sd"][0] < 1e-11
    assert found.predict(10).mean[0] == pytest.approx(10)


def test_a_prior_next_to_one_predicts_only_successes():
    stores = {"successes": [5, 7, 9], "trials": [5, 7, 9]}
    found = hbpipe.posterior(
        hbpipe.fit("beta_binomial", stores, estimator="map"), stores, uncertainty="plug_in"
    )
    np.testing.assert_array_equal(found.predict(20).quantiles, 20)


def test_one_level_is_as_good_as_several():
    stores = stores_of("beta_binomial", 3)
    fitted = hbpipe.fit("beta_binomial", stores)
    one, several = (hbpipe.posterior(fitted, stores, quantiles=q) for q in (0.9, (0.5, 0.9)))
    assert [name for name in one if name.startswith("q")] == ["q0.9"]
    np.testing.assert_array_equal(one["q0.9"], several["q0.9"])
    alone, both = one.predict(30, 0.9), one.predict(30, (0.5, 0.9))
    np.testing.assert_array_equal(alone.quantiles[:, 0], both.quantiles[:, 1])


@pytest.mark.parametrize("levels", [(0.9999999, 0.99999999), (0.5, 0.1, 0.5)])
def test_levels_that_share_a_column_are_refused(levels):
    stores = stores_of("beta_binomial", 3)
    with pytest.raises(FitError, match=f"share the column q{levels[0]:g}"):
        hbpipe.posterior(hbpipe.fit("beta_binomial", stores), stores, quantiles=levels)


def test_quantiles_of_stores_without_successes_keep_their_order():
    stores = {"successes": np.append(np.zeros(9, np.int64), 1), "trials": np.full(10, 50)}
    found = hbpipe.posterior(hbpipe.fit("beta_binomial", stores), stores, uncertainty="integrated")
    levels = (0.001, 0.01, 0.025, 0.1, 0.3, 0.5)
    quantiles = np.stack([found.quantile(level) for level in levels], axis=1)
    assert np.all(np.diff(quantiles, axis=1) >= 0)
    assert np.all(quantiles[:9, 2] < 1e-100)
    for level, column in zip(levels[2:], quantiles.T[2:], strict=True):
        np.testing.assert_allclose(found.cdf(column), level, atol=1e-6)


def test_the_cdf_of_a_large_integrated_pool_agrees_with_its_quantiles() -> None:
    rng = np.random.default_rng(8)
    trials = rng.integers(5, 40, size=300)
    stores = {"successes": rng.binomial(trials, rng.beta(20, 180, size=300)), "trials": trials}
    found = hbpipe.posterior(hbpipe.fit("beta_binomial", stores), stores, uncertainty="integrated")
    median = found["q0.5"]
    np.testing.assert_allclose(found.cdf(median), 0.5, atol=1e-6)
    one_point = found.cdf(0.1)
    np.testing.assert_array_equal(one_point > 0.5, median < 0.1)
