"""Sampled nodes against grids: the families of the scalar scheme with ``sampling`` in its place."""

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
from sampled_families import as_sampled

from hbpipe.errors import FitError
from hbpipe.model.families import FAMILIES, get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import hyperposterior
from hbpipe.model.integration import drawing
from hbpipe.model.integration.sampled_nodes import PoolNodes, SampledNodes
from hbpipe.model.numerics import chains
from hbpipe.model.update import sampled_update
from hbpipe.model.update.pools import cdf_pools, update_pools

LEVELS = (0.025, 0.5, 0.975)
GOLDEN = Path(__file__).parents[2] / "golden"


def columns(case):
    with (GOLDEN / case / "data.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def dyestuff():
    data = columns("dyestuff")
    parts = [data["yield"].astype(float)[data["batch"] == b] for b in np.unique(data["batch"])]
    return {
        "n": np.array([len(part) for part in parts]),
        "mean": np.array([part.mean() for part in parts]),
        "m2": np.array([np.sum((part - part.mean()) ** 2) for part in parts]),
    }


RAW = {name: columns(name) for name in ("rat_tumours", "pumps", "eight_schools")}
RATS = {
    "successes": RAW["rat_tumours"]["y"].astype(int),
    "trials": RAW["rat_tumours"]["n"].astype(int),
}
PUMPS = {"count": RAW["pumps"]["x"].astype(int), "exposure": RAW["pumps"]["t"].astype(float)}
DYESTUFF = dyestuff()
SCHOOLS = {
    "estimate": RAW["eight_schools"]["y"].astype(float),
    "variance": np.square(RAW["eight_schools"]["sigma"].astype(float)),
}
DATA = {
    "beta_binomial": RATS,
    "gamma_poisson": PUMPS,
    "normal": DYESTUFF,
    "normal_known_variance": SCHOOLS,
}


def fitted(name, stores, pools=None, **options):
    family = get_family(name)
    arrays = {key: np.asarray(values) for key, values in stores.items()}
    codes = np.zeros(len(next(iter(arrays.values()))), np.int64) if pools is None else pools
    fits = fit_pools(family, family.compress(arrays, codes, int(codes.max()) + 1), **options)
    return arrays, codes, fits


def nodes_of(family, fits, uncertainty):
    return hyperposterior(
        family,
        fits.sketch,
        fits.coordinates,
        held=fits.held,
        hyperprior=fits.hyperprior,
        uncertainty=uncertainty,
    )


def update(family, fits, arrays, codes, uncertainty="integrated", **options):
    nodes = nodes_of(family, fits, uncertainty)
    options = {"quantiles": LEVELS} | options
    return update_pools(family, nodes, fits.hyperparameters, arrays, codes, **options)


def check(found, expected, tolerance):
    for name in ("mean", "sd"):
        error = np.abs(getattr(found, name) - getattr(expected, name)) / expected.sd
        assert np.max(error) < tolerance, name
    error = np.abs(found.quantiles - expected.quantiles) / expected.sd[:, None]
    assert np.max(error) < tolerance


@pytest.mark.parametrize("name", DATA)
def test_integration_agrees_with_the_grid(name):
    arrays, codes, fits = fitted(name, DATA[name])
    expected = update(get_family(name), fits, arrays, codes, exposure=2.0)
    sampled = as_sampled(name)
    nodes = nodes_of(sampled, fits, "integrated")
    found = update_pools(
        sampled, nodes, fits.hyperparameters, arrays, codes, quantiles=LEVELS, exposure=2.0
    )
    check(found, expected, 0.01)
    np.testing.assert_allclose(found.weight, expected.weight, atol=0.003)
    np.testing.assert_allclose(found.sd_plug_in, expected.sd_plug_in, rtol=1e-12)
    np.testing.assert_allclose(found.predictive_sd, expected.predictive_sd, rtol=0.003)
    np.testing.assert_allclose(
        found.predictive_mean, expected.predictive_mean, atol=0.003 * expected.predictive_sd.min()
    )
    assert found.method.tolist() == ["integrated"] * len(codes)
    assert nodes.sampler.tolist() == ["sobol"]
    assert nodes.pareto_k[0] < 0.5
    assert nodes.moved[0] < 0.005
    assert nodes.ess[0] > 1000
    # Where μ is integrated analytically, the curvature is that of its marginal.
    grid = nodes_of(get_family(name), fits, "integrated")
    np.testing.assert_allclose(nodes.curvature, grid.curvature, rtol=0.1)


@pytest.mark.parametrize("name", DATA)
def test_first_order_agrees_with_that_of_the_scalar_scheme(name):
    arrays, codes, fits = fitted(name, DATA[name])
    expected = update(get_family(name), fits, arrays, codes, "first_order")
    found = update(as_sampled(name), fits, arrays, codes, "first_order")
    # Gradients by differences, and a Newton step of their own to the marginal mode.
    check(found, expected, 0.06)
    assert set(found.method) == {"first_order"}


def test_first_order_is_good_where_auto_takes_it():
    rng = np.random.default_rng(3)
    n = rng.integers(20, 400, 250)
    stores = {"successes": rng.binomial(n, rng.beta(4.0, 36.0, 250)), "trials": n}
    arrays, codes, fits = fitted("beta_binomial", stores)
    sampled = as_sampled("beta_binomial")
    found = update(sampled, fits, arrays, codes, "auto")
    assert set(found.method) == {"first_order"}
    check(found, update(sampled, fits, arrays, codes, "integrated"), 0.08)
    arrays, codes, fits = fitted("beta_binomial", RATS)
    assert set(update(sampled, fits, arrays, codes, "auto").method) == {"integrated"}


@pytest.mark.parametrize("name", DATA)
def test_a_pool_without_spread_is_an_ordinary_one(name):
    rng = np.random.default_rng(4)
    alike = {
        "beta_binomial": {"successes": np.full(9, 5), "trials": np.full(9, 50)},
        "gamma_poisson": {"count": np.full(9, 5), "exposure": np.full(9, 10.0)},
        "normal": {"n": np.full(9, 8), "mean": np.full(9, 2.0), "m2": rng.chisquare(7, 9)},
        "normal_known_variance": {"estimate": np.full(9, 1.0), "variance": np.full(9, 2.0)},
    }
    arrays, codes, fits = fitted(name, alike[name])
    assert fits.boundary[0]
    expected = update(get_family(name), fits, arrays, codes)
    # Mixtures of laws next to points are staircases: nodes of their own make steps of their own.
    check(update(as_sampled(name), fits, arrays, codes), expected, 0.02)


def test_hyperpriors_and_held_values_are_passed_on():
    options = {"hyperprior": {"tau": "half_normal(5)"}, "fixed": {"mu": 8.0}}
    arrays, codes, fits = fitted("normal_known_variance", SCHOOLS, **options)
    expected = update(get_family("normal_known_variance"), fits, arrays, codes)
    sampled = as_sampled("normal_known_variance")
    assert nodes_of(sampled, fits, "integrated").pools[0].points.shape[1] == 1
    # Without stores that must settle: limits in the tail of τ are a little rough.
    check(update(sampled, fits, arrays, codes), expected, 0.015)


def test_where_nothing_but_an_analytic_location_is_left_one_node_does():
    arrays, codes, fits = fitted("normal_known_variance", SCHOOLS, fixed={"tau": 6.0})
    sampled = as_sampled("normal_known_variance")
    nodes = nodes_of(sampled, fits, "auto")
    assert nodes.method.tolist() == ["integrated"]
    assert nodes.pools[0].weight.tolist() == [1.0]
    expected = update(get_family("normal_known_variance"), fits, arrays, codes)
    check(update(sampled, fits, arrays, codes), expected, 1e-9)


def test_plug_in_is_that_of_the_family():
    arrays, codes, fits = fitted("beta_binomial", RATS)
    expected = update(get_family("beta_binomial"), fits, arrays, codes, "plug_in", exposure=7.0)
    found = update(as_sampled("beta_binomial"), fits, arrays, codes, "plug_in", exposure=7.0)
    for name in ("mean", "sd", "sd_plug_in", "quantiles", "weight", "prior_mean"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-12)
    np.testing.assert_allclose(found.predictive_mean, expected.predictive_mean, rtol=1e-12)
    np.testing.assert_allclose(found.predictive_sd, expected.predictive_sd, rtol=0.02)


def several_pools():
    rng = np.random.default_rng(5)
    codes = np.array([0] * 40 + [1] * 6 + [3] * 12)
    n = rng.integers(5, 80, len(codes))
    stores = {"n": n, "mean": rng.normal(size=len(n)), "m2": rng.chisquare(np.maximum(n - 1, 1))}
    stores["m2"][codes == 3] = 0.0
    return stores, codes


def test_pools_without_a_proper_posterior_are_unidentified_and_do_not_stop_the_others():
    stores, codes = several_pools()
    arrays, codes, fits = fitted("normal", stores, codes)
    sampled = as_sampled("normal")
    nodes = nodes_of(sampled, fits, "integrated")
    assert nodes.method.tolist() == ["integrated", "integrated", "unidentified", "unidentified"]
    found = update(sampled, fits, arrays, codes)
    expected = update(get_family("normal"), fits, arrays, codes)
    assert found.method.tolist() == expected.method.tolist()
    check(found, expected, 0.01)


def test_bits_depend_on_neither_blocks_nor_other_stores_and_pools(monkeypatch):
    stores, codes = several_pools()
    arrays, codes, fits = fitted("normal", stores, codes)
    sampled = as_sampled("normal")
    nodes = nodes_of(sampled, fits, "integrated")
    whole = update(sampled, fits, arrays, codes, exposure=3.0)
    monkeypatch.setattr(sampled_update, "_BLOCK", 3 * 2048)
    monkeypatch.setattr(drawing, "_BLOCK", 777)
    parts = update(sampled, fits, arrays, codes, exposure=3.0)
    chosen = np.array([45, 3, 50, 7])
    some = update_pools(
        sampled,
        pickle.loads(pickle.dumps(nodes)),
        fits.hyperparameters,
        {name: values[chosen] for name, values in arrays.items()},
        codes[chosen],
        quantiles=LEVELS,
        exposure=3.0,
    )
    names = ("mean", "sd", "sd_plug_in", "quantiles", "weight", "prior_mean", "predictive_sd")
    for name in names:
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
        np.testing.assert_array_equal(getattr(some, name), getattr(whole, name)[chosen])
    alone = nodes_of(sampled, fits, "integrated").select(np.array([1]))
    np.testing.assert_array_equal(alone.pools[0].points, nodes.pools[1].points)
    assert alone.n_groups.tolist() == [6]


def test_the_cdf_at_a_quantile_is_its_level():
    arrays, codes, fits = fitted("gamma_poisson", PUMPS)
    sampled = as_sampled("gamma_poisson")
    for uncertainty, tolerance in (("integrated", 1e-3), ("first_order", 1e-9), ("plug_in", 1e-9)):
        nodes = nodes_of(sampled, fits, uncertainty)
        at = fits.hyperparameters
        limits = update_pools(sampled, nodes, at, arrays, codes, quantiles=LEVELS).quantiles
        for column, level in enumerate(LEVELS):
            found = cdf_pools(sampled, nodes, at, arrays, codes, limits[:, column])
            np.testing.assert_allclose(found, level, atol=tolerance)


#: A store that says little, one that says much, one between, and one without data.
FEW = {
    "beta_binomial": {"successes": [0, 4, 16, 0], "trials": [10, 14, 52, 0]},
    "gamma_poisson": {"count": [1, 14, 22, 0], "exposure": [1.05, 125.8, 10.5, 0.0]},
    "normal": {"n": [5, 5, 5, 0], "mean": [1470.0, 1528.0, 1600.0, 0.0], "m2": [9e3] * 3 + [0.0]},
    "normal_known_variance": {
        "estimate": [12.0, 28.0, -3.0, 0.0],
        "variance": [324.0, 81.0, 256.0, np.inf],
    },
}


@pytest.mark.parametrize("name", DATA)
def test_representative_stores_decide_how_many_nodes_there_are(name):
    few = {key: np.asarray(values) for key, values in FEW[name].items()}
    arrays, codes, fits = fitted(name, DATA[name])
    sampled = as_sampled(name, representatives=lambda sketch: few)
    nodes = nodes_of(sampled, fits, "integrated")
    assert nodes.moved[0] < 0.005
    found = update(sampled, fits, arrays, codes)
    check(found, update(get_family(name), fits, arrays, codes), 0.01)


def test_well_known_hyperparameters_need_few_nodes():
    rng = np.random.default_rng(6)
    n = rng.integers(20, 400, 200)
    stores = {"successes": rng.binomial(n, rng.beta(4.0, 36.0, 200)), "trials": n}
    few = {"successes": np.array([1, 40, 0]), "trials": np.array([20, 400, 0])}
    arrays, codes, fits = fitted("beta_binomial", stores)
    sampled = as_sampled("beta_binomial", representatives=lambda sketch: few)
    assert len(nodes_of(sampled, fits, "integrated").pools[0].weight) <= 512
    found = update(sampled, fits, arrays, codes)
    check(found, update(get_family("beta_binomial"), fits, arrays, codes), 0.01)


def test_chains_take_over_where_weights_are_not_to_be_trusted(monkeypatch):
    arrays, codes, fits = fitted("normal", DYESTUFF)
    sampled = as_sampled("normal")
    monkeypatch.setattr(drawing, "LIMIT", -10.0)
    for name, value in (("_FIRST", 50), ("_WINDOWS", (50,)), ("_LENGTH", 150), ("ENOUGH", 300.0)):
        monkeypatch.setattr(chains, name, value)
    nodes = nodes_of(sampled, fits, "integrated")
    assert nodes.sampler.tolist() == ["nuts"]
    assert nodes.method.tolist() == ["integrated"]
    assert nodes.converged.all()
    assert nodes.r_hat[0] <= 1.01
    assert nodes.ess[0] >= 300
    expected = update(get_family("normal"), fits, arrays, codes)
    found = update_pools(sampled, nodes, fits.hyperparameters, arrays, codes, quantiles=LEVELS)
    check(found, expected, 0.15)


@pytest.fixture
def registered(monkeypatch):
    family = as_sampled("beta_binomial")
    monkeypatch.setitem(FAMILIES, family.name, family)
    return family.name


def test_the_librarys_posterior_takes_such_a_family(registered):
    import hbpipe

    arrays = {name: np.asarray(values) for name, values in RATS.items()}
    found = hbpipe.posterior(hbpipe.fit(registered, arrays), arrays)
    expected = hbpipe.posterior(hbpipe.fit("beta_binomial", arrays), arrays)
    assert found.method == "integrated"
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=0.01 * expected["sd"].min())
    np.testing.assert_allclose(found.covariance, expected.covariance, rtol=0.02)
    np.testing.assert_allclose(found.cdf(0.15), expected.cdf(0.15), atol=0.003)
    next_ones, known = found.predict(30), expected.predict(30)
    np.testing.assert_allclose(next_ones.mean, known.mean, rtol=0.003)
    np.testing.assert_allclose(next_ones.sd, known.sd, rtol=0.003)
    np.testing.assert_array_equal(next_ones.quantiles, known.quantiles)


def test_chains_that_disagree_are_never_silent(registered, monkeypatch):
    import hbpipe
    from hbpipe.model import posterior

    fit = hbpipe.fit(registered, RATS)
    nodes = nodes_of(get_family(registered), fit.pools, "plug_in")
    said = {"method": "integrated", "sampler": "nuts", "r_hat": 1.2}
    apart = PoolNodes(**(vars(nodes.pools[0]) | said))
    bad = SampledNodes(registered, (apart,))
    assert bad.converged.tolist() == [False]
    monkeypatch.setattr(posterior, "integrate_pools", lambda fits, *, uncertainty: bad)
    with pytest.raises(FitError, match="chains disagree") as caught:
        hbpipe.posterior(fit, RATS, uncertainty="integrated")
    assert caught.value.where["r_hat"] == 1.2


def test_a_density_that_is_not_a_number_is_a_fault_that_is_named(monkeypatch):
    _, _, fits = fitted("beta_binomial", RATS)
    sampled = as_sampled("beta_binomial")
    build = sampled.sampling.target

    def broken(*arguments):
        target = build(*arguments)
        fine = type(target).log_density

        def log_density(self, points):
            values = fine(self, points)
            return np.where(np.arange(len(points)) == 700, np.nan, values)

        monkeypatch.setattr(type(target), "log_density", log_density)
        return target

    object.__setattr__(sampled.sampling, "target", broken)
    with pytest.raises(FitError, match="not a number") as caught:
        nodes_of(sampled, fits, "integrated")
    assert caught.value.where["pool"] == 0
    assert "log_tau" in caught.value.where


def test_a_wrong_method_is_refused():
    _, _, fits = fitted("beta_binomial", RATS)
    with pytest.raises(FitError, match="there is no uncertainty"):
        nodes_of(as_sampled("beta_binomial"), fits, "exact")
