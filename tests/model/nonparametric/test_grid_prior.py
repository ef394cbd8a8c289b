"""Nonparametric priors through the library's doors: choice, posteriors, and what they refuse."""

import numpy as np
import pytest

import hbpipe
from hbpipe.errors import FitError
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.mixtures.conjugate import ConjugateMixture
from hbpipe.model.nonparametric import pool as pool_module
from hbpipe.model.nonparametric.choice import folds
from hbpipe.model.nonparametric.pool import GridPool
from hbpipe.model.update.pools import update_pools

NORMAL = "normal_known_variance"


def two_kinds(seed: int, stores: int = 80) -> dict:
    """Conversion of kiosks around 0.05, and of a fifth of flagships around 0.4."""
    rng = np.random.default_rng(seed)
    trials = rng.integers(20, 300, stores)
    theta = np.where(rng.random(stores) < 0.2, rng.beta(40, 60, stores), rng.beta(5, 95, stores))
    return {"successes": rng.binomial(trials, theta), "trials": trials}


def one_kind(seed: int, stores: int = 80) -> dict:
    rng = np.random.default_rng(seed)
    variance = rng.uniform(0.5, 2.0, stores)
    return {"estimate": rng.normal(5.0, np.sqrt(1.0 + variance)), "variance": variance}


def test_two_kinds_take_the_grid_and_its_numbers_rebuild_the_prior() -> None:
    statistics = two_kinds(1)
    fit = hbpipe.fit("beta_binomial", statistics, prior="grid")
    single = hbpipe.fit("beta_binomial", statistics)
    found = fit.pools
    assert found.chosen == ["grid"]
    assert (fit.status, fit.converged, fit.boundary) == ("ok", True, False)
    assert 0 <= found.duality_gap[0] <= 1e-6
    assert found.score_grid[0] > found.score_single[0]
    assert fit.log_marginal_likelihood > single.log_marginal_likelihood
    assert f"{np.count_nonzero(fit.hyperparameters['proportion'])} fixed laws" in fit.story
    at = fit.hyperparameters
    assert at["proportion"].sum() == pytest.approx(1.0)
    np.testing.assert_allclose(at["alpha"] / (at["alpha"] + at["beta"]), at["mean"])
    family = get_family("beta_binomial", prior="grid")
    each = family.log_normaliser(family.update(statistics, at))
    whole = np.sum(each + family.log_base_measure(statistics, at))
    assert whole == pytest.approx(fit.log_marginal_likelihood, abs=1e-6)


def test_one_kind_keeps_the_single_law_and_all_its_numbers() -> None:
    statistics = one_kind(2)
    fit, single = (hbpipe.fit(NORMAL, statistics, prior=prior) for prior in ("grid", "single"))
    assert fit.pools.chosen == ["single"]
    assert np.isnan(fit.pools.duality_gap[0])
    assert fit.hyperparameters["mu"][0] == single.hyperparameters["mu"]
    assert fit.log_marginal_likelihood == single.log_marginal_likelihood
    left, right = hbpipe.posterior(fit, statistics), hbpipe.posterior(single, statistics)
    assert left.method == right.method
    for name in right:
        np.testing.assert_allclose(left[name], right[name], rtol=1e-4, err_msg=name)


def test_a_flagship_is_not_dragged_to_the_mean_of_kiosks() -> None:
    rng = np.random.default_rng(3)
    estimate = rng.normal(0.0, np.sqrt(1.1), 60)
    estimate[:2] = 12.0, 14.0
    statistics = {"estimate": estimate, "variance": np.ones(60)}
    grid, single = (
        hbpipe.posterior(hbpipe.fit(NORMAL, statistics, prior=prior), statistics)
        for prior in ("grid", "single")
    )
    assert single["mean"][0] < 11.0
    assert 11.0 < grid["mean"][0] < 13.5
    # And the kiosks are shrunk as those that they are.
    assert grid["sd"][10:].mean() < 0.8 * single["sd"][10:].mean()
    ranks = grid.rank()
    assert ranks["p_top_10"][0] > 0.5
    assert np.all((ranks["expected_percentile"] > 0) & (ranks["expected_percentile"] < 1))


def test_posteriors_are_averages_over_the_refits() -> None:
    statistics, family = two_kinds(4, 40), get_family("beta_binomial")
    posterior = hbpipe.posterior(hbpipe.fit(family, statistics, prior="grid"), statistics)
    assert posterior.method == "bootstrap"
    nodes = posterior.nodes.pools[0]
    law = {name: nodes.values[name][0] for name in ("alpha", "beta")}
    point, mixture = posterior["mean"], ConjugateMixture(family)
    means, cdfs = [], []
    for proportion in nodes.values["refits"][0]:
        after = mixture.update(statistics, {**law, "proportion": proportion})
        described = mixture.describe(after, np.empty(0))
        means.append(described.mean)
        cdfs.append(described.cdf(point))
    np.testing.assert_allclose(posterior["mean"], np.mean(means, axis=0), rtol=1e-9)
    np.testing.assert_allclose(posterior.cdf(point), np.mean(cdfs, axis=0), rtol=1e-9)
    np.testing.assert_allclose(posterior.cdf(posterior["q0.975"]), 0.975, atol=2e-3)
    prior_mean = np.sum(nodes.values["proportion"][0] * nodes.values["mu"][0])
    np.testing.assert_allclose(posterior["prior_mean"], prior_mean)
    assert np.all((posterior["weight"] > 0) & (posterior["weight"] < 1))


def test_intervals_are_wider_than_with_known_weights() -> None:
    statistics = two_kinds(5, 40)
    fit = hbpipe.fit("beta_binomial", statistics, prior="grid")
    wide, plain = (hbpipe.posterior(fit, statistics, uncertainty=u) for u in ("auto", "plug_in"))
    assert plain.method == "plug_in"
    np.testing.assert_allclose(wide["sd_plug_in"], plain["sd"])
    assert wide["sd"].mean() > plain["sd"].mean()


def test_a_store_without_data_has_the_prior() -> None:
    fit = hbpipe.fit("beta_binomial", two_kinds(6), prior="grid")
    nobody = hbpipe.posterior(fit, {"successes": [0], "trials": [0]})
    assert nobody["weight"][0] == 0.0
    assert nobody["mean"][0] == pytest.approx(nobody["prior_mean"][0])
    assert nobody["q0.975"][0] > 0.3
    assert nobody["q0.025"][0] < 0.05


def test_the_order_of_stores_and_shards_change_no_bit() -> None:
    family = get_family("beta_binomial", prior="grid")
    statistics = two_kinds(7)
    pools, order = np.arange(80) % 2, np.random.default_rng(7).permutation(80)

    def update(rows, shards):
        parts = [
            family.compress({k: v[some] for k, v in statistics.items()}, pools[some], 2)
            for some in np.array_split(rows, shards)
        ]
        fits = fit_pools(family, family.merge_sketches(parts))
        nodes = integrate_pools(fits)
        own = {name: values[rows] for name, values in statistics.items()}
        found = update_pools(
            family, nodes, fits.hyperparameters, own, pools[rows], quantiles=(0.05, 0.95)
        )
        back = np.argsort(rows)
        return {name: getattr(found, name)[back] for name in ("mean", "sd", "quantiles")}

    first, second = update(np.arange(80), 1), update(order, 3)
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


def test_a_pool_alone_has_the_numbers_that_it_has_among_others() -> None:
    family = get_family("beta_binomial", prior="grid")
    both = {k: np.concatenate([two_kinds(8)[k], two_kinds(9, 60)[k]]) for k in two_kinds(8)}
    codes = np.repeat([0, 1], [80, 60])
    fits = fit_pools(family, family.compress(both, codes, 3))
    alone = fit_pools(family, family.compress(two_kinds(9, 60), np.zeros(60, int), 1))
    kept = fits.hyperparameters["proportion"][1]
    np.testing.assert_array_equal(kept[kept > 0], alone.hyperparameters["proportion"][0])
    assert fits.status[2] == "no_data"
    assert not fits.identified[2]
    again = fits.select([1])
    np.testing.assert_array_equal(again.score_grid, alone.score_grid)
    assert integrate_pools(fits).method[2] == "unidentified"


@pytest.mark.parametrize(
    ("successes", "trials", "status"),
    [
        (np.zeros(30, int), np.full(30, 20), "no_successes"),
        (np.full(30, 20), np.full(30, 20), "no_failures"),
        (np.full(30, 3), np.full(30, 20), "no_spread"),
        (np.array([3, 9, 1]), np.full(3, 20), "ok"),
        (np.array([4]), np.array([20]), "one_store"),
    ],
)
def test_what_data_do_not_tell_has_a_name_and_a_width(successes, trials, status) -> None:
    statistics = {"successes": successes, "trials": trials}
    fit = hbpipe.fit("beta_binomial", statistics, prior="grid")
    assert (fit.status, fit.pools.chosen) == (status, ["single"])
    posterior = hbpipe.posterior(fit, statistics)
    assert np.all(posterior["sd"] > 1e-6)
    assert np.all(posterior["q0.975"] > posterior["q0.025"])


def test_stores_that_are_exactly_of_two_kinds_have_a_width() -> None:
    statistics = {
        "estimate": np.repeat([0.0, 10.0], [24, 16]),
        "variance": np.full(40, 1e-6),
    }
    fit = hbpipe.fit(NORMAL, statistics, prior="grid")
    posterior = hbpipe.posterior(fit, statistics)
    assert fit.status == "ok"
    assert np.all(posterior["sd"] > 1e-4)
    nobody = hbpipe.posterior(fit, {"estimate": [0.0], "variance": [np.inf]})
    assert nobody["mean"][0] == pytest.approx(4.0, abs=0.1)


def test_large_pools_take_one_step_and_come_to_the_same(monkeypatch) -> None:
    statistics = two_kinds(10, 600)
    pool = GridPool.of(get_family("beta_binomial"), statistics, np.ones(600))
    exact = pool.refit()
    monkeypatch.setattr(pool_module, "MOST_STORES", 500)
    stepped = pool.refit()
    mean, sd = exact.mean(axis=0) @ pool.likelihood.T, (exact @ pool.likelihood.T).std(axis=0)
    moved = (stepped @ pool.likelihood.T).std(axis=0)
    assert np.median(np.abs(stepped.mean(axis=0) @ pool.likelihood.T - mean) / sd) < 0.3
    assert 0.8 < np.median(moved / sd) < 1.25


def test_folds_are_parts_of_the_pool() -> None:
    counts = np.array([3.0, 1.0, 25.0, 7.0])
    found = folds(counts)
    np.testing.assert_array_equal(found.sum(axis=0), counts)
    assert set(found.sum(axis=1)) == {3.0, 4.0}
    assert np.all(found >= 0)


@pytest.mark.parametrize(
    "options",
    [
        {"estimator": "reml"},
        {"estimator": "moments"},
        {"fixed": {"mu": 0.0}},
        {"hyperprior": {"tau": "half_normal(1)"}},
        {"covariates": np.ones((80, 1))},
        {"nesting": {"region": np.arange(80) % 4}},
    ],
)
def test_what_does_not_go_with_a_grid_is_refused(options) -> None:
    with pytest.raises(FitError):
        hbpipe.fit(NORMAL, one_kind(11), prior="grid", **options)


def test_closed_forms_are_for_a_single_prior() -> None:
    fit = hbpipe.fit(NORMAL, one_kind(12), prior="grid")
    for uncertainty in ("prasad_rao", "morris", "ebci"):
        with pytest.raises(FitError, match="not for the prior grid"):
            hbpipe.posterior(fit, one_kind(12), uncertainty=uncertainty)


def test_families_without_such_a_prior_refuse_it() -> None:
    with pytest.raises(FitError, match="takes no mixture"):
        get_family("normal", prior="grid")
