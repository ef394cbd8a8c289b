"""Integration over hyperparameters: brute-force grids, invariances, ``auto``, propriety, edges."""

import pickle

import numpy as np
import pytest
from scipy import special, stats
from strategies import ON_A_GRID

from hbpipe.errors import FitError
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integrate import FIRST_ORDER_CURVATURE, integrate_pools
from hbpipe.model.integration import quadrature
from hbpipe.model.update.pools import update_pools

LEVELS = (0.025, 0.5, 0.975)
DEFAULT_WIDTH = 10.0


def update(name, stores, *, uncertainty="integrated", quantiles=LEVELS, **options):
    family = get_family(name)
    arrays = {key: np.asarray(values) for key, values in stores.items()}
    codes = np.zeros(len(next(iter(arrays.values()))), np.int64)
    fits = fit_pools(family, family.compress(arrays, codes, 1), **options)
    nodes = integrate_pools(fits, uncertainty=uncertainty)
    return update_pools(family, nodes, fits.hyperparameters, arrays, codes, quantiles=quantiles)


def brute_force(log_weight, component):
    """Mean, sd and quantiles of mixtures over a flat grid: independent of all project code."""
    weight = np.exp(log_weight - log_weight.max()).ravel()
    weight /= weight.sum()
    law = component
    mean = np.sum(weight * law.mean())
    sd = np.sqrt(np.sum(weight * (law.var() + (law.mean() - mean) ** 2)))
    low, high = mean - 12 * sd, mean + 12 * sd
    quantiles = []
    for level in LEVELS:
        a, b = low, high
        for _ in range(30):
            middle = 0.5 * (a + b)
            a, b = (middle, b) if np.sum(weight * law.cdf(middle)) < level else (a, middle)
        quantiles.append(0.5 * (a + b))
    return mean, sd, quantiles


def check(found, store, expected, tolerance):
    mean, sd, quantiles = expected
    assert abs(found.mean[store] - mean) < tolerance * sd
    assert abs(found.sd[store] - sd) < tolerance * sd
    np.testing.assert_allclose(found.quantiles[store], quantiles, atol=tolerance * sd, rtol=0)


@pytest.mark.parametrize("seed", [1, 2])
def test_beta_binomial_default_agrees_with_a_fine_grid(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(5, 120, 8)
    y = rng.binomial(n, rng.beta(2, 18, 8))
    # p(M) = z0/(z0 + M)² with z0 = median(n)/10 (the lower median), mean ~ Beta(1/2, 1/2).
    z0 = np.sort(n)[(len(n) - 1) // 2] / DEFAULT_WIDTH
    line, log_size = np.meshgrid(np.linspace(-8, 2, 140), np.linspace(-7, 16, 170), indexing="ij")
    mean, size = special.expit(line), np.exp(log_size)
    a, b = mean * size, (1 - mean) * size
    log_weight = 0.5 * np.log(mean * (1 - mean)) + np.log(z0) - 2 * np.log(z0 + size) + log_size
    for successes, trials in zip(y, n, strict=True):
        log_weight = log_weight + special.betaln(a + successes, b + trials - successes)
        log_weight = log_weight - special.betaln(a, b)
    found = update("beta_binomial", {"successes": y, "trials": n})
    for store in (0, 3):
        law = stats.beta(a.ravel() + y[store], b.ravel() + n[store] - y[store])
        check(found, store, brute_force(log_weight, law), 2e-3)


@pytest.mark.parametrize("seed", [4, 5])
def test_gamma_poisson_default_agrees_with_a_fine_grid(seed):
    rng = np.random.default_rng(seed)
    exposure = rng.uniform(1, 30, 8)
    y = rng.poisson(exposure * rng.gamma(2.0, 0.1, 8))
    z0 = np.sort(exposure)[(len(y) - 1) // 2] / DEFAULT_WIDTH
    line, log_rate = np.meshgrid(np.linspace(-9, 6, 300), np.linspace(-8, 14, 280), indexing="ij")
    rate = np.exp(log_rate)
    shape = np.exp(line) * rate
    # p(mean) = mean^(−1/2) in the mean; the grid is in its logarithm.
    log_weight = 0.5 * line + np.log(z0) - 2 * np.log(z0 + rate) + log_rate
    for count, at in zip(y, exposure, strict=True):
        log_weight = log_weight + stats.nbinom.logpmf(count, shape, rate / (rate + at))
    found = update("gamma_poisson", {"count": y, "exposure": exposure})
    for store in (0, 5):
        law = stats.gamma((shape + y[store]).ravel(), scale=1.0 / (rate + exposure[store]).ravel())
        check(found, store, brute_force(log_weight, law), 2e-3)


def test_normal_default_agrees_with_a_fine_grid():
    rng = np.random.default_rng(6)
    n = rng.integers(2, 9, 6)
    mean = rng.normal(10, 2 / np.sqrt(n)) + rng.normal(0, 1, 6)
    m2 = 4.0 * rng.chisquare(n - 1)
    width = DEFAULT_WIDTH / np.sort(n)[(len(n) - 1) // 2]
    log_odds, log_sigma = np.meshgrid(
        np.linspace(-16, 9, 300), np.linspace(-1.2, 3.2, 120), indexing="ij"
    )
    odds, variance = np.exp(log_odds)[..., None], np.exp(2 * log_sigma)[..., None]
    spread = variance * (1.0 / n + odds)
    precision = np.sum(1 / spread, axis=-1)
    centre = np.sum(mean / spread, axis=-1) / precision
    log_weight = -0.5 * np.sum(np.log(spread) + (mean - centre[..., None]) ** 2 / spread, axis=-1)
    log_weight += -0.5 * np.log(precision) - np.sum(n - 1) * log_sigma
    log_weight += -0.5 * m2.sum() / variance[..., 0]
    log_weight += np.log(width) - 2 * np.log(width + odds[..., 0]) + log_odds
    found = update("normal", {"n": n, "mean": mean, "m2": m2})
    for store in (0, 4):
        prior_weight = 1 / (1 + n[store] * odds[..., 0])
        conditional = mean[store] + prior_weight * (centre - mean[store])
        own = variance[..., 0] * odds[..., 0] * prior_weight + prior_weight**2 / precision
        law = stats.norm(conditional.ravel(), np.sqrt(own).ravel())
        check(found, store, brute_force(log_weight, law), 2e-3)


def simulated(name, stores, seed):
    rng = np.random.default_rng(seed)
    n = np.ceil(np.exp(rng.uniform(2, 5, stores))).astype(np.int64)
    if name == "beta_binomial":
        return {"successes": rng.binomial(n, rng.beta(3, 30, stores)), "trials": n}
    if name == "gamma_poisson":
        return {"count": rng.poisson(n * rng.gamma(2, 0.2, stores)), "exposure": n.astype(float)}
    theta = rng.normal(5, 0.3, stores)
    mean = rng.normal(theta, 1 / np.sqrt(n))
    if name == "normal":
        return {"n": n, "mean": mean, "m2": rng.chisquare(n - 1)}
    if name == "normal_weighted":  # values of precision 1
        m2 = rng.chisquare(n - 1)
        return {"n": n, "precision": 1.0 * n, "log_precision": 0.0 * n, "mean": mean, "m2": m2}
    return {"estimate": mean, "variance": 1.0 / n}


@pytest.mark.parametrize("name", ON_A_GRID)
def test_auto_takes_first_order_only_where_the_spread_is_well_determined(name):
    family = get_family(name)
    small, large = simulated(name, 12, 1), simulated(name, 1500, 2)
    both = {key: np.concatenate([small[key], large[key]]) for key in small}
    codes = np.repeat([0, 1], [12, 1500])
    fits = fit_pools(family, family.compress(both, codes, 2))
    nodes = integrate_pools(fits)
    assert nodes.method.tolist() == ["integrated", "first_order"]
    assert nodes.curvature[1] > FIRST_ORDER_CURVATURE
    first = integrate_pools(fits, uncertainty="first_order")
    assert 0 < first.curvature[0] < FIRST_ORDER_CURVATURE
    # Every method reports what auto decided on.
    full = integrate_pools(fits, uncertainty="integrated")
    np.testing.assert_array_equal(nodes.curvature, first.curvature)
    np.testing.assert_array_equal(full.curvature, first.curvature)


@pytest.mark.parametrize("name", ON_A_GRID)
def test_first_order_agrees_with_integration_in_a_large_pool(name):
    stores = simulated(name, 1500, 3)
    first = update(name, stores, uncertainty="first_order")
    full = update(name, stores, uncertainty="integrated")
    error = np.abs(first.quantiles - full.quantiles) / full.sd[:, None]
    assert error.max() < 0.1
    assert error.mean() < 0.01


@pytest.mark.parametrize("name", ON_A_GRID)
def test_a_pools_nodes_do_not_depend_on_the_other_pools(name):
    family = get_family(name)
    parts = [simulated(name, count, seed) for count, seed in ((7, 1), (30, 2), (250, 3))]
    both = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    codes = np.repeat([0, 1, 2], [7, 30, 250])
    fits = fit_pools(family, family.compress(both, codes, 3))
    together = integrate_pools(fits, uncertainty="integrated")
    for pool, part in enumerate(parts):
        here = codes[codes == pool]
        alone_fits = fit_pools(family, family.compress(part, 0 * here, 1))
        alone = integrate_pools(alone_fits, uncertainty="integrated")
        a = update_pools(family, together, fits.hyperparameters, part, here, quantiles=LEVELS)
        b = update_pools(
            family, alone, alone_fits.hyperparameters, part, 0 * here, quantiles=LEVELS
        )
        np.testing.assert_array_equal(a.mean, b.mean)
        np.testing.assert_array_equal(a.quantiles, b.quantiles)


@pytest.mark.parametrize("name", ON_A_GRID)
def test_nodes_pickle_and_weights_add_to_one(name):
    family = get_family(name)
    stores = simulated(name, 20, 4)
    fits = fit_pools(family, family.compress(stores, np.zeros(20, np.int64), 1))
    nodes = pickle.loads(pickle.dumps(integrate_pools(fits, uncertainty="integrated")))
    np.testing.assert_allclose(nodes.weight.sum(axis=(1, 2)), 1.0, rtol=1e-12)
    small = nodes.collapse()
    a = update_pools(family, nodes, fits.hyperparameters, stores, np.zeros(20, int), quantiles=())
    b = update_pools(family, small, fits.hyperparameters, stores, np.zeros(20, int), quantiles=())
    np.testing.assert_allclose(a.mean, b.mean, rtol=1e-13)
    np.testing.assert_allclose(a.sd, b.sd, rtol=1e-10)


def test_sparse_counts_get_the_nodes_they_need(monkeypatch):
    # Rare events in ten stores: given a large spread the mean has a long tail, on which the
    # coarsest rule was wrong by 0.1 posterior sd.
    rng = np.random.default_rng(8)
    trials = np.ceil(np.exp(rng.uniform(np.log(5), np.log(400), (24, 10)))).astype(np.int64)
    size = np.median(trials, axis=1, keepdims=True) / 4.0
    successes = rng.binomial(trials, rng.beta(0.02 * size, 0.98 * size, trials.shape))
    stores = {"successes": successes.ravel(), "trials": trials.ravel()}
    family, codes = get_family("beta_binomial"), np.repeat(np.arange(24), 10)
    fits = fit_pools(family, family.compress(stores, codes, 24))

    def moments():
        nodes = integrate_pools(fits, uncertainty="integrated")
        found = update_pools(family, nodes, fits.hyperparameters, stores, codes, quantiles=())
        return nodes, found

    nodes, found = moments()
    first_outer, first_inner = quadrature.OUTER[0], quadrature.INNER[0]
    monkeypatch.setattr(quadrature, "OUTER", (121,))
    monkeypatch.setattr(quadrature, "INNER", (95,))
    _, fine = moments()
    assert np.max(np.abs(found.mean - fine.mean) / fine.sd) < 1e-3
    assert np.max(np.abs(found.sd - fine.sd) / fine.sd) < 2e-3
    outer = np.count_nonzero(nodes.weight.sum(axis=2), axis=1)
    inner = np.count_nonzero(nodes.weight.sum(axis=1), axis=1)
    assert (outer.min(), inner.min()) == (first_outer, first_inner)
    assert inner.max() > first_inner


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_a_change_of_unit_changes_nothing_else(factor):
    stores = simulated("normal", 9, 5)
    scaled = {"n": stores["n"], "mean": factor * stores["mean"], "m2": factor**2 * stores["m2"]}
    a, b = update("normal", stores), update("normal", scaled)
    # Nodes may be placed a little differently; limits move by far less than they are good for.
    error = np.abs(factor * a.quantiles - b.quantiles) / b.sd[:, None]
    assert error.max() < 5e-4
    np.testing.assert_allclose(factor * a.sd, b.sd, rtol=1e-4)


NO_SUCCESS = {"successes": [0] * 5, "trials": [20] * 5}
NO_FAILURE = {"successes": [20] * 5, "trials": [20] * 5}
NO_COUNT = {"count": [0] * 4, "exposure": [1.0, 2.0, 3.0, 4.0]}
SOME_COUNTS = {"count": [0, 1, 3, 0], "exposure": [1.0, 2.0, 3.0, 4.0]}
TWO_VALUES = {"n": [2], "mean": [3.0], "m2": [4.0]}


@pytest.mark.parametrize(
    ("name", "stores", "hyperprior"),
    [
        (
            "normal_known_variance",
            {"estimate": [1.0, 2.0], "variance": [1.0, 1.0]},
            {"tau": "uniform"},
        ),
        (
            "normal_known_variance",
            {"estimate": [1.0, 2.0, 4.0], "variance": [1.0, 1.0, 2.0]},
            {"tau_squared": "uniform"},
        ),
        (
            "normal_known_variance",
            {"estimate": [1.0, 2.0, 4.0, 5.0], "variance": [1.0, 1.0, 2.0, 1.0]},
            {"tau": "reciprocal"},
        ),
        ("beta_binomial", {"successes": [0, 20], "trials": [10, 20]}, "bda3"),
        (
            "beta_binomial",
            {"successes": [3, 5], "trials": [10, 20]},
            {"concentration": "uniform"},
        ),
        ("gamma_poisson", {"count": [0, 3], "exposure": [1.0, 2.0]}, "shape^-1.5 rate^-1"),
        # Proper in the spread, not along the mean or σ.
        ("beta_binomial", NO_SUCCESS, {"mean": "reciprocal"}),
        ("beta_binomial", NO_SUCCESS, {"mean": "power(-2)"}),
        ("beta_binomial", NO_SUCCESS, {"alpha": "reciprocal", "beta": "gamma(2,1)"}),
        ("beta_binomial", NO_FAILURE, {"alpha": "gamma(2,1)", "beta": "reciprocal"}),
        ("gamma_poisson", NO_COUNT, {"mean": "reciprocal"}),
        ("gamma_poisson", NO_COUNT, {"mean": "uniform"}),
        ("gamma_poisson", SOME_COUNTS, {"mean": "power(1)"}),
        # p(shape) is proper, but m^(−1/2) given the shape is not.
        ("gamma_poisson", SOME_COUNTS, {"shape": "exponential(1)"}),
        ("normal", TWO_VALUES, {"sigma": "uniform"}),
        ("normal", TWO_VALUES, {"sigma": "power(3)"}),
    ],
)
@pytest.mark.parametrize("uncertainty", ["auto", "first_order", "integrated"])
def test_improper_posteriors_are_refused(name, stores, hyperprior, uncertainty):
    with pytest.raises(FitError, match="improper posterior"):
        update(name, stores, hyperprior=hyperprior, uncertainty=uncertainty)


@pytest.mark.parametrize(
    ("name", "stores", "hyperprior"),
    [
        (
            "normal_known_variance",
            {"estimate": [1.0, 2.0, 4.0], "variance": [1.0, 1.0, 2.0]},
            {"tau": "uniform"},
        ),
        (
            "normal_known_variance",
            {"estimate": [1.0, 2.0, 4.0, 7.0], "variance": [1.0, 1.0, 2.0, 1.0]},
            {"tau_squared": "uniform"},
        ),
        ("beta_binomial", {"successes": [3, 20], "trials": [10, 20]}, "bda3"),
        (
            "gamma_poisson",
            {"count": [2, 3, 0], "exposure": [1.0, 2.0, 2.0]},
            "shape^-1.5 rate^-1",
        ),
        ("beta_binomial", NO_SUCCESS, {"mean": "uniform"}),
        ("beta_binomial", NO_FAILURE, {"mean": "reciprocal"}),
        ("beta_binomial", NO_SUCCESS, {"alpha": "gamma(0.3,1)", "beta": "gamma(2,1)"}),
        ("gamma_poisson", NO_COUNT, {"mean": "power(-0.5)"}),
        ("gamma_poisson", SOME_COUNTS, {"mean": "uniform"}),
        ("normal", TWO_VALUES, {"sigma": "reciprocal"}),
        ("normal", TWO_VALUES, {"tau": "half_normal(1)"}),
    ],
)
def test_the_least_data_that_make_them_proper_are_accepted(name, stores, hyperprior):
    found = update(name, stores, hyperprior=hyperprior)
    assert np.isfinite(found.quantiles).all()


@pytest.mark.parametrize(("scale", "tolerance"), [(1e-8, 1e-6), (1e3, 2e-3), (1e7, 2e-2)])
def test_a_proper_hyperprior_is_accepted_at_any_scale(scale, tolerance):
    stores = {"estimate": [3.0, 4.0], "variance": [1.0, 1.0]}
    found = update("normal_known_variance", stores, hyperprior={"tau": f"half_normal({scale})"})
    # In u = log τ, μ integrated out: the difference of the estimates is N(0, 2(1 + τ²)).
    u = np.linspace(np.log(min(scale, 1.0)) - 30.0, np.log(max(scale, 1.0)) + 4.0, 100_001)
    variance = 1.0 + np.exp(2 * u)
    log_weight = u - 0.5 * np.log(variance) - 0.25 / variance - 0.5 * np.exp(2 * u) / scale**2
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    # Given τ a store keeps 1 − B of its distance to 3.5 and has the variance 1 − B/2.
    mean, own = 3.0 + 0.5 / variance, 1.0 - 0.5 / variance
    expected = weight @ mean
    sd = np.sqrt(weight @ (own + (mean - expected) ** 2))
    assert abs(found.mean[0] - expected) < tolerance * sd
    assert abs(found.sd[0] - sd) < tolerance * sd
    assert abs(found.weight[0] - weight @ (1.0 - 1.0 / variance)) < 2 * tolerance


@pytest.mark.parametrize(
    ("name", "stores", "hyperprior"),
    [
        ("beta_binomial", NO_SUCCESS, {"mean": "power(-0.9)"}),
        ("gamma_poisson", NO_COUNT, {"mean": "power(-0.9)"}),
        ("normal", TWO_VALUES, {"sigma": "power(-0.1)"}),
    ],
)
def test_tails_that_integration_cannot_reach_are_refused(name, stores, hyperprior):
    with pytest.raises(FitError, match="no end that integration can reach") as caught:
        update(name, stores, hyperprior=hyperprior)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_the_pool_with_an_improper_posterior_is_named():
    family = get_family("beta_binomial")
    stores = {"successes": np.array([3, 5, 0, 0]), "trials": np.array([20, 20, 20, 20])}
    sketch = family.compress(stores, np.array([0, 0, 1, 1]), 2)
    with pytest.raises(FitError, match=r"small means .*pool 1"):
        integrate_pools(fit_pools(family, sketch, hyperprior={"mean": "reciprocal"}))


def test_unknown_method_names_the_nearest():
    with pytest.raises(FitError, match="did you mean 'integrated'"):
        update("normal", simulated("normal", 5, 1), uncertainty="integrate")


DEGENERATE = [
    ("beta_binomial", {"successes": [0, 0, 0], "trials": [10, 20, 30]}),
    ("beta_binomial", {"successes": [10, 20], "trials": [10, 20]}),
    ("beta_binomial", {"successes": [3], "trials": [10]}),
    ("beta_binomial", {"successes": [0, 1, 1], "trials": [1, 1, 1]}),
    ("beta_binomial", {"successes": [0, 10**6] * 3, "trials": [10**6] * 6}),
    ("beta_binomial", {"successes": [5] * 20, "trials": [10] * 20}),
    ("gamma_poisson", {"count": [0, 0], "exposure": [1.0, 3.0]}),
    ("gamma_poisson", {"count": [3], "exposure": [10.0]}),
    ("gamma_poisson", {"count": [0, 10**6] * 3, "exposure": [1.0] * 6}),
    ("normal", {"n": [1, 1, 1], "mean": [1.0, 2.0, 3.0], "m2": [0.0, 0.0, 0.0]}),
    ("normal", {"n": [5], "mean": [1.0], "m2": [2.0]}),
    ("normal", {"n": [2, 2], "mean": [1e8, 1e8 + 1], "m2": [0.5, 0.3]}),
    ("normal_known_variance", {"estimate": [1.0], "variance": [1.0]}),
    ("normal_known_variance", {"estimate": [1.0, 1.0], "variance": [1e-12, 1e6]}),
]


@pytest.mark.parametrize("uncertainty", ["auto", "first_order", "integrated"])
@pytest.mark.parametrize(("name", "stores"), DEGENERATE)
def test_degenerate_pools_have_finite_intervals_of_positive_width(name, stores, uncertainty):
    found = update(name, stores, uncertainty=uncertainty)
    for column in (found.mean, found.sd, found.quantiles, found.weight, found.prior_mean):
        assert np.isfinite(column).all()
    assert (found.sd > 0).all()
    assert (np.diff(found.quantiles, axis=1) >= 0).all()
    assert (found.quantiles[:, 2] > found.quantiles[:, 0]).all()


@pytest.mark.parametrize(
    ("name", "stores"),
    [
        ("normal", {"n": [5, 6], "mean": [1.0, 2.0], "m2": [0.0, 0.0]}),
        ("normal", {"n": [1], "mean": [1.0], "m2": [0.0]}),
        ("gamma_poisson", {"count": [0], "exposure": [0.0]}),
    ],
)
def test_what_no_hyperprior_can_save_is_named(name, stores):
    found = update(name, stores, uncertainty="auto")
    assert found.method.tolist() == ["unidentified"] * len(found.mean)
    assert np.isfinite(found.quantiles).all()


def test_reflected_counts_give_reflected_posteriors():
    y, n = np.array([9, 20, 30]), np.array([10, 20, 31])
    a = update("beta_binomial", {"successes": y, "trials": n})
    b = update("beta_binomial", {"successes": n - y, "trials": n})
    np.testing.assert_allclose(a.mean, 1 - b.mean, atol=1e-6)
    np.testing.assert_allclose(a.quantiles, 1 - b.quantiles[:, ::-1], atol=1e-5)


def test_median_size_is_that_of_the_stores_with_data():
    stores = {"successes": np.array([0, 1, 2, 0]), "trials": np.array([4, 8, 6, 0])}
    sketch = get_family("beta_binomial").compress(stores, np.zeros(4, np.int64), 1)
    assert geometry_of("beta_binomial").median_size(sketch).tolist() == [6.0]
