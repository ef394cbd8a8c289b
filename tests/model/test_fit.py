"""Fits: agreement with independent optimisation, boundaries, unidentified data, arguments."""

import pickle

import numpy as np
import pytest
from scipy import optimize, special, stats

from hbpipe.errors import FitError
from hbpipe.model.families import FAMILIES, get_family
from hbpipe.model.fit import fit, fit_pools
from hbpipe.model.numerics.optimise import TOLERANCE

RNG_SEEDS = (1, 2, 3)


def beta_binomial_data(seed, stores=60):
    rng = np.random.default_rng(seed)
    n = np.floor(np.exp(rng.uniform(0, 6, stores))).astype(int)
    return {"successes": rng.binomial(n, rng.beta(2.0, 20.0, stores)), "trials": n}


def gamma_poisson_data(seed, stores=60):
    rng = np.random.default_rng(seed)
    exposure = np.exp(rng.uniform(-2, 4, stores))
    return {"count": rng.poisson(rng.gamma(1.5, 2.0, stores) * exposure), "exposure": exposure}


def normal_data(seed, stores=60):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 30, stores)
    theta = rng.normal(50.0, 3.0, stores)
    mean = rng.normal(theta, 10.0 / np.sqrt(n))
    return {"n": n, "mean": mean, "m2": 100.0 * rng.chisquare(np.maximum(n - 1, 1)) * (n > 1)}


def known_variance_data(seed, stores=60):
    rng = np.random.default_rng(seed)
    variance = np.exp(rng.uniform(-2, 2, stores))
    return {"estimate": rng.normal(5.0, np.sqrt(1.0 + variance)), "variance": variance}


def beta_binomial_likelihood(x, data):
    alpha, beta = np.exp(x)
    return np.sum(stats.betabinom.logpmf(data["successes"], data["trials"], alpha, beta))


def gamma_poisson_likelihood(x, data):
    shape, rate = np.exp(x)
    probability = rate / (rate + data["exposure"])
    return np.sum(stats.nbinom.logpmf(data["count"], shape, probability))


def normal_likelihood(x, data):
    mu, tau, sigma = x[0], np.exp(x[1]), np.exp(x[2])
    n, v = data["n"], tau**2 + sigma**2 / data["n"]
    between = stats.norm.logpdf(data["mean"], mu, np.sqrt(v))
    # The values given their mean: a normal sample of n − 1 contrasts.
    within = -0.5 * (n - 1) * np.log(2 * np.pi * sigma**2) - 0.5 * data["m2"] / sigma**2
    return np.sum(between + within - 0.5 * np.log(n))


def known_variance_likelihood(x, data):
    sd = np.sqrt(np.exp(2 * x[1]) + data["variance"])
    return np.sum(stats.norm.logpdf(data["estimate"], x[0], sd))


CASES = {
    "beta_binomial": (beta_binomial_data, beta_binomial_likelihood, [0.5, 2.5]),
    "gamma_poisson": (gamma_poisson_data, gamma_poisson_likelihood, [0.0, 0.0]),
    "normal": (normal_data, normal_likelihood, [48.0, 0.5, 2.0]),
    "normal_known_variance": (known_variance_data, known_variance_likelihood, [4.0, 0.3]),
}


@pytest.mark.parametrize("seed", RNG_SEEDS)
@pytest.mark.parametrize("family", CASES)
def test_same_maximum_as_an_optimiser_over_all_stores(family, seed):
    make, likelihood, start = CASES[family]
    data = make(seed)
    found = fit(family, data)
    other = optimize.minimize(
        lambda x: -likelihood(x, data),
        start,
        method="Nelder-Mead",
        options={"xatol": 1e-10, "fatol": 1e-12, "maxiter": 4000, "maxfev": 4000},
    )
    assert found.status == "ok"
    assert found.converged
    assert found.gradient_norm <= TOLERANCE
    np.testing.assert_allclose(found.log_marginal_likelihood, -other.fun, rtol=0, atol=1e-9)


@pytest.mark.parametrize("family", CASES)
def test_the_fit_is_not_below_its_starts(family):
    for seed in range(10, 20):
        sketch = get_family(family).compress(CASES[family][0](seed, 8), np.zeros(8, int), 1)
        fits = fit_pools(family, sketch)
        assert fits.log_marginal_likelihood[0] >= fits.start_log_marginal_likelihood[0] - 1e-9
        pooled = fits.coordinates.copy()
        pooled[:, fits.model.spreads] = 0.0
        limit = fits.model.log_marginal(sketch, pooled)[0][0]
        assert fits.log_marginal_likelihood[0] >= limit - 1e-9


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_units_of_values_do_not_matter(unit):
    data = normal_data(4)
    scaled = {"n": data["n"], "mean": unit * data["mean"], "m2": unit**2 * data["m2"]}
    plain, other = fit("normal", data), fit("normal", scaled)
    for name in ("mu", "tau", "sigma"):
        np.testing.assert_allclose(
            other.hyperparameters[name], unit * plain.hyperparameters[name], rtol=1e-6
        )
    shift = -np.sum(data["n"]) * np.log(unit)
    np.testing.assert_allclose(
        other.log_marginal_likelihood, plain.log_marginal_likelihood + shift, rtol=1e-10
    )
    assert other.iterations == plain.iterations


def test_units_of_exposure_do_not_matter():
    data = gamma_poisson_data(4)
    plain = fit("gamma_poisson", data)
    other = fit("gamma_poisson", {**data, "exposure": 1e6 * data["exposure"]})
    np.testing.assert_allclose(
        other.hyperparameters["shape"], plain.hyperparameters["shape"], rtol=1e-6
    )
    np.testing.assert_allclose(
        1e6 * other.hyperparameters["mean"], plain.hyperparameters["mean"], rtol=1e-6
    )


@pytest.mark.parametrize("family", CASES)
def test_a_batch_gives_the_bits_of_single_fits(family):
    model = get_family(family)
    batches = [CASES[family][0](seed, 5 + 9 * seed) for seed in range(6)]
    together = {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}
    pools = np.repeat(np.arange(6), [5 + 9 * seed for seed in range(6)])
    fits = fit_pools(model, model.compress(together, pools, 6))
    for g, batch in enumerate(batches):
        alone = fit(model, batch)
        np.testing.assert_array_equal(alone.pools.coordinates[0], fits.coordinates[g])
        assert alone.log_marginal_likelihood == fits.log_marginal_likelihood[g]
        assert alone.status == fits.status[g] == fits.pool(g).status
        assert alone.hyperparameters == fits.pool(g).hyperparameters
        np.testing.assert_array_equal(alone.covariance, fits.pool(g).covariance)


def test_underdispersed_proportions_reach_the_binomial_limit():
    data = {"successes": [10, 10, 11, 9, 10], "trials": [100] * 5}
    found = fit("beta_binomial", data)
    assert found.status == "no_spread"
    assert found.boundary
    assert found.at_bound == ("concentration",)
    assert found.converged
    np.testing.assert_allclose(found.hyperparameters["mean"], 0.1, rtol=1e-9)
    assert np.isfinite(found.hyperparameters["alpha"])
    pooled = np.sum(stats.binom.logpmf(data["successes"], 100, 0.1))
    np.testing.assert_allclose(found.log_marginal_likelihood, pooled, atol=1e-6)
    np.testing.assert_array_equal(found.covariance[1], 0.0)
    np.testing.assert_allclose(found.covariance[0, 0], 1 / (500 * 0.1 * 0.9), rtol=1e-6)


def test_underdispersed_counts_reach_the_poisson_limit():
    data = {"count": [20, 21, 19, 20], "exposure": [2.0, 2.0, 2.0, 2.0]}
    found = fit("gamma_poisson", data)
    assert (found.status, found.at_bound) == ("no_spread", ("shape",))
    np.testing.assert_allclose(found.hyperparameters["mean"], 10.0, rtol=1e-9)
    pooled = np.sum(stats.poisson.logpmf(data["count"], 20.0))
    np.testing.assert_allclose(found.log_marginal_likelihood, pooled, atol=1e-6)


def test_identical_stores_have_no_spread():
    found = fit("normal_known_variance", {"estimate": [3.0] * 4, "variance": [2.0] * 4})
    assert found.hyperparameters == {"mu": 3.0, "tau": 0.0}
    assert found.status == "no_spread"


def test_balanced_normal_with_no_spread_has_the_closed_form():
    # Equal n and MSB < MSW: sigma² is the total mean square and tau is 0, exactly.
    data = {"n": [4, 4, 4], "mean": [1.0, 1.1, 0.9], "m2": [3.0, 5.0, 4.0]}
    found = fit("normal", data)
    assert (found.status, found.at_bound) == ("no_spread", ("tau",))
    total = 12.0 + 4 * 0.02
    np.testing.assert_allclose(found.hyperparameters["sigma"] ** 2, total / 12, rtol=1e-9)
    restricted = fit("normal", data, estimator="reml")
    np.testing.assert_allclose(restricted.hyperparameters["sigma"] ** 2, total / 11, rtol=1e-9)


def test_all_or_nothing_stores_end_at_the_other_bound():
    found = fit("beta_binomial", {"successes": [0, 30, 0, 30], "trials": [30] * 4})
    assert found.boundary
    assert (found.status, found.at_bound) == ("at_bound", ("concentration",))
    np.testing.assert_allclose(found.log_marginal_likelihood, 4 * np.log(0.5), atol=1e-3)


@pytest.mark.parametrize(
    ("family", "statistics", "status", "name", "value"),
    [
        ("beta_binomial", {"successes": [0, 0], "trials": [5, 9]}, "no_successes", "mean", 0.0),
        ("beta_binomial", {"successes": [5, 9], "trials": [5, 9]}, "no_failures", "mean", 1.0),
        ("beta_binomial", {"successes": [2], "trials": [8]}, "one_store", "mean", 0.25),
        ("beta_binomial", {"successes": [2, 0], "trials": [8, 0]}, "one_store", "mean", 0.25),
        ("gamma_poisson", {"count": [0, 0], "exposure": [5.0, 1.0]}, "no_counts", "mean", 0.0),
        ("gamma_poisson", {"count": [6], "exposure": [3.0]}, "one_store", "mean", 2.0),
        ("normal", {"n": [4], "mean": [2.0], "m2": [8.0]}, "one_store", "sigma", np.sqrt(2.0)),
        ("normal_known_variance", {"estimate": [2.0], "variance": [8.0]}, "one_store", "mu", 2.0),
    ],
)
def test_estimates_on_the_edge_have_a_word(family, statistics, status, name, value):
    found = fit(family, statistics)
    assert found.status == status
    assert found.boundary
    assert all(np.isfinite(v) for v in found.hyperparameters.values())
    np.testing.assert_allclose(found.hyperparameters[name], value, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("family", "statistics", "estimator", "words"),
    [
        ("beta_binomial", {"successes": [0], "trials": [0]}, "ml", "no store has a trial"),
        ("beta_binomial", {"successes": [0, 1], "trials": [1, 1]}, "ml", "fix the concentration"),
        ("gamma_poisson", {"count": [], "exposure": []}, "ml", "no store has an exposure"),
        ("normal", {"n": [1, 1], "mean": [1, 2], "m2": [0, 0]}, "ml", "hold sigma"),
        ("normal", {"n": [1, 1], "mean": [1, 2], "m2": [0, 0]}, "moments", "hold sigma"),
        ("normal", {"n": [3, 3], "mean": [1, 2], "m2": [0, 0]}, "ml", "equal, so sigma"),
        ("normal", {"n": [3], "mean": [1], "m2": [2]}, "reml", "single store"),
        ("normal_known_variance", {"estimate": [3], "variance": [2]}, "reml", "single store"),
        ("normal_known_variance", {"estimate": [0], "variance": [np.inf]}, "ml", "no store has"),
    ],
)
def test_what_data_cannot_tell_is_an_error_with_a_way_out(family, statistics, estimator, words):
    statistics = {name: np.asarray(v, float) for name, v in statistics.items()}
    with pytest.raises(FitError, match=words):
        fit(family, statistics, estimator=estimator)
    # In a batch the same pool gets a word, and its neighbour a fit.
    model = get_family(family)
    other = CASES[family][0](1)
    both = {
        item.name: np.concatenate([statistics[item.name], other[item.name]]).astype(item.dtype)
        for item in model.statistics
    }
    pools = np.repeat([0, 1], [len(statistics[next(iter(statistics))]), 60])
    fits = fit_pools(model, model.compress(both, pools, 2), estimator=estimator)
    assert fits.identified.tolist() == [False, True]
    assert not fits.converged[0]
    assert fits.status[0] not in ("ok", "fixed")
    assert all(np.isfinite(v).all() for v in fits.hyperparameters.values())


def test_the_way_out_works():
    values = {"n": [1, 1, 1, 1], "mean": [1.0, 2.0, 4.0, 9.0], "m2": [0.0] * 4}
    found = fit("normal", values, fixed={"sigma": 1.0})
    total = np.var(values["mean"])
    np.testing.assert_allclose(found.hyperparameters["tau"] ** 2, total - 1.0, rtol=1e-6)
    assert found.status == "ok"
    found = fit("normal", values, fixed={"tau": 1.0})
    np.testing.assert_allclose(found.hyperparameters["sigma"] ** 2, total - 1.0, rtol=1e-6)
    same = {"n": [3, 3], "mean": [1.0, 2.0], "m2": [0.0, 0.0]}
    assert fit("normal", same, fixed={"sigma": 2.0}).status == "no_spread"
    trials = {"successes": [0, 1, 1], "trials": [1, 1, 1]}
    found = fit("beta_binomial", trials, fixed={"concentration": 10.0})
    np.testing.assert_allclose(found.hyperparameters["mean"], 2 / 3, rtol=1e-6)


def test_everything_fixed_estimates_nothing():
    data = beta_binomial_data(3)
    found = fit("beta_binomial", data, fixed={"alpha": 5.0, "beta": 95.0})
    np.testing.assert_allclose(found.hyperparameters["alpha"], 5.0, rtol=1e-12)
    np.testing.assert_allclose(found.hyperparameters["concentration"], 100.0, rtol=1e-12)
    assert (found.status, found.iterations, found.boundary) == ("fixed", 0, False)
    np.testing.assert_array_equal(found.covariance, 0.0)
    np.testing.assert_allclose(
        found.log_marginal_likelihood,
        beta_binomial_likelihood(np.log([5.0, 95.0]), data),
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("family", "fixed"),
    [
        ("beta_binomial", {"mean": 0.1}),
        ("beta_binomial", {"concentration": 22.0}),
        ("gamma_poisson", {"mean": 3.0}),
        ("gamma_poisson", {"shape": 1.5}),
        ("normal", {"mu": 50.0}),
        ("normal", {"tau": 3.0}),
        ("normal", {"sigma": 10.0, "tau": 0.0}),
        ("normal_known_variance", {"tau": 1.0}),
        ("normal_known_variance", {"mu": 5.0}),
    ],
)
def test_some_fixed_and_the_rest_at_its_conditional_maximum(family, fixed):
    data = CASES[family][0](6)
    found = fit(family, data, fixed=fixed)
    for name, value in fixed.items():
        np.testing.assert_allclose(found.hyperparameters[name], value, rtol=1e-12)
    assert found.converged
    model = get_family(family)
    held = ~np.isnan(found.pools.held[0])
    np.testing.assert_array_equal(found.covariance[held], 0.0)
    _, gradient, hessian = model.log_marginal(found.sketch, found.pools.coordinates)
    free = ~held
    step = np.linalg.solve(-hessian[0][np.ix_(free, free)], gradient[0][free])
    assert np.sqrt(gradient[0][free] @ step) <= 2 * TOLERANCE


def test_fixed_values_may_differ_between_pools():
    model = get_family("normal_known_variance")
    data = known_variance_data(7)
    sketch = model.compress(data, np.arange(60) % 2, 2)
    fits = fit_pools(model, sketch, fixed={"tau": np.array([0.5, 2.0])})
    np.testing.assert_array_equal(fits.hyperparameters["tau"], [0.5, 2.0])
    assert fits.pool(1).pools.fixed["tau"].tolist() == [2.0]


def test_reml_of_a_held_location_is_ml():
    data = known_variance_data(8)
    ml = fit("normal_known_variance", data, fixed={"mu": 5.0})
    reml = fit("normal_known_variance", data, fixed={"mu": 5.0}, estimator="reml")
    assert ml.hyperparameters == reml.hyperparameters
    assert ml.log_marginal_likelihood == reml.log_marginal_likelihood


def test_reml_integrates_the_location():
    data = known_variance_data(9, 12)
    found = fit("normal_known_variance", data, estimator="reml")
    tau = found.hyperparameters["tau"]
    grid = np.linspace(-20, 30, 20001)
    values = [
        known_variance_likelihood([mu, np.log(tau)], data) for mu in grid[:: len(grid) // 4000]
    ]
    step = grid[len(grid) // 4000] - grid[0]
    integral = special.logsumexp(values) + np.log(step)
    # lme4's constant leaves out ½ log|X'X| = ½ log J of the flat integral's own value: it is
    # the integral as such, with X a column of ones.
    np.testing.assert_allclose(found.log_marginal_likelihood, integral, rtol=1e-9)


@pytest.mark.parametrize("family", CASES)
def test_every_moment_estimator_can_be_asked_for(family):
    data = CASES[family][0](11)
    model = get_family(family)
    default = fit(family, data, estimator="moments")
    best = fit(family, data)
    for number, name in enumerate(model.moments):
        found = fit(family, data, estimator=f"moments:{name}")
        assert found.iterations == 0
        assert found.log_marginal_likelihood <= best.log_marginal_likelihood + 1e-9
        if number == 0:
            assert found.hyperparameters == default.hyperparameters


def test_a_given_start_is_used():
    data = gamma_poisson_data(12)
    best = fit("gamma_poisson", data)
    near = fit("gamma_poisson", data, start=best.hyperparameters)
    assert near.iterations <= 1
    np.testing.assert_allclose(
        near.pools.start_log_marginal_likelihood[0], best.log_marginal_likelihood, atol=1e-9
    )


def test_several_starts_find_what_one_would_miss():
    # Two summits: without spread, and with. Climbing from the bound alone stays there.
    data = {
        "successes": np.array([0, 0, 0, 0, 40]),
        "trials": np.array([2, 2, 2, 2, 400]),
    }
    fits = fit("beta_binomial", data).pools
    assert fits.start_values.shape == (3, 1)
    assert fits.log_marginal_likelihood[0] == pytest.approx(fits.start_values.max(), abs=1e-9)


def test_map_adds_the_hyperprior():
    data = known_variance_data(13, 8)

    def prior(coordinates):
        """Normal on μ about 0 with sd 0.1, nothing on τ²."""
        value = -0.5 * (coordinates[:, 0] / 0.1) ** 2
        gradient, hessian = np.zeros((1, 2)), np.zeros((1, 2, 2))
        gradient[:, 0] = -coordinates[:, 0] / 0.01
        hessian[:, 0, 0] = -100.0
        return value, gradient, hessian

    found = fit("normal_known_variance", data, estimator="map", hyperprior=prior)
    plain = fit("normal_known_variance", data)
    assert found.converged
    assert abs(found.hyperparameters["mu"]) < abs(plain.hyperparameters["mu"])
    assert found.log_marginal_likelihood < plain.log_marginal_likelihood
    tau, mu = found.hyperparameters["tau"], found.hyperparameters["mu"]
    weight = 1 / (tau**2 + data["variance"])
    conditional = np.sum(weight * data["estimate"]) / (np.sum(weight) + 100.0)
    np.testing.assert_allclose(mu, conditional, rtol=1e-6)


def test_map_reads_a_specification():
    data = known_variance_data(1)
    spec = {"tau": "half_cauchy(2)", "mu": "normal(0, 1)"}
    found = fit("normal_known_variance", data, estimator="map", hyperprior=spec)

    def negative(x):
        log_prior = stats.halfcauchy.logpdf(np.exp(x[1]), scale=2) + stats.norm.logpdf(x[0])
        return -known_variance_likelihood(x, data) - log_prior

    other = optimize.minimize(
        negative, [3.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12}
    )
    assert found.status == "ok"
    # The mode in the named parameters: no Jacobian of τ.
    np.testing.assert_allclose(found.hyperparameters["mu"], other.x[0], rtol=1e-6)
    np.testing.assert_allclose(found.hyperparameters["tau"], np.exp(other.x[1]), rtol=1e-6)
    assert found.pools.hyperprior == spec


@pytest.mark.parametrize(
    ("name", "data", "hyperprior", "estimator"),
    [
        (
            "beta_binomial",
            {"successes": [0, 1, 1], "trials": [1, 1, 1]},
            {"concentration": "gamma(2, 0.1)"},
            "ml",
        ),
        (
            "normal",
            {"n": [1, 1, 1], "mean": [1.0, 2.0, 4.0], "m2": [0.0] * 3},
            {"sigma": "gamma(2, 1)"},
            "ml",
        ),
        (
            "normal_known_variance",
            {"estimate": [3.0], "variance": [2.0]},
            {"tau": "gamma(2, 1)"},
            "reml",
        ),
    ],
)
def test_the_way_out_by_a_hyperprior_names_map_and_works(name, data, hyperprior, estimator):
    with pytest.raises(FitError, match=r"proper hyperprior.*estimator='map'"):
        fit(name, data, estimator=estimator, hyperprior=hyperprior)
    assert fit(name, data, estimator="map", hyperprior=hyperprior).status == "ok"


def test_no_variation_within_stores_promises_nothing_of_hyperpriors():
    data = {"n": [3, 3], "mean": [1.0, 2.0], "m2": [0.0, 0.0]}
    with pytest.raises(FitError, match="hold sigma") as caught:
        fit("normal", data)
    assert "hyperprior" not in str(caught.value)
    assert fit("normal", data, fixed={"sigma": 1.0}).status == "no_spread"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"estimator": "mle"}, "did you mean 'ml'"),
        ({"estimator": "reml"}, "no restricted likelihood"),
        ({"estimator": "moments:klein"}, "did you mean 'kleinman'"),
        ({"estimator": "ml:fast"}, "no estimator 'ml:fast'"),
        ({"fixed": {"concentraton": 3.0}}, "did you mean 'concentration'"),
        ({"fixed": {"alpha": 3.0}}, "alpha or beta alone"),
        ({"fixed": {"mean": 1.5}}, "mean cannot be held"),
        ({"fixed": {"mean": np.nan}}, "mean cannot be held"),
        ({"fixed": {"mean": "low"}}, "mean cannot be held at 'low'"),
        ({"fixed": {"mean": [0.1, 0.2]}}, "2 values are given for mean"),
        ({"fixed": {"alpha": 1.0, "beta": 1.0, "mean": 0.3}}, "mean cannot be held at 0.3"),
        ({"start": {"rate": 3.0}}, "no hyperparameter 'rate'"),
    ],
)
def test_wrong_arguments_are_explained(arguments, words):
    with pytest.raises(FitError, match=words) as caught:
        fit("beta_binomial", beta_binomial_data(1), **arguments)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_rate_alone_cannot_be_held():
    with pytest.raises(FitError, match="rate alone"):
        fit("gamma_poisson", gamma_poisson_data(1), fixed={"rate": 3.0})


def test_a_fit_survives_pickling():
    found = fit("gamma_poisson", gamma_poisson_data(14))
    again = pickle.loads(pickle.dumps(found))
    assert again.hyperparameters == found.hyperparameters
    np.testing.assert_array_equal(again.sketch.n_groups, found.sketch.n_groups)


def test_fits_compare_and_hash_by_identity():
    found, other = (fit("gamma_poisson", gamma_poisson_data(14)) for _ in range(2))
    assert found == found
    assert found != other
    assert len({found, found, other}) == 2
    assert len({found.pools, other.pools}) == 2


def test_coordinates_are_named_in_order():
    found = fit("normal", normal_data(15))
    assert list(found.coordinates) == [axis.name for axis in FAMILIES["normal"].coordinates]
    np.testing.assert_allclose(
        found.coordinates["tau_squared"], found.hyperparameters["tau"] ** 2, rtol=1e-12
    )


@pytest.mark.parametrize("estimator", ["ml", "ml:li_lahiri", "ml:chung", "map"])
def test_counts_of_a_trillion_converge(estimator):
    # Sums of 1e12 logarithms leave some 0.02 of rounding in the likelihood.
    rates = np.array([0.3, 0.4, 0.35, 0.36])
    many, fewer = (
        fit(
            "beta_binomial",
            {"successes": rates * trials, "trials": np.full(4, trials)},
            estimator=estimator,
        )
        for trials in (1e12, 1e8)
    )
    assert many.status == "ok"
    assert many.converged
    error = many.hyperparameters["concentration"] / fewer.hyperparameters["concentration"] - 1
    assert abs(error) < 1e-3


def test_a_family_that_is_none_is_an_error():
    with pytest.raises(FitError, match="there is no family None"):
        fit(None, beta_binomial_data(1))


def test_random_pools_all_arrive_or_say_why():
    rng = np.random.default_rng(16)
    pools = np.repeat(np.arange(300), rng.integers(0, 9, 300))
    n = np.floor(np.exp(rng.exponential(3.0, len(pools)))).astype(int)
    theta = rng.beta(0.05, 0.4, len(pools))
    model = get_family("beta_binomial")
    sketch = model.compress({"successes": rng.binomial(n, theta), "trials": n}, pools, 300)
    fits = fit_pools(model, sketch)
    known = {"ok", "no_spread", "at_bound", "one_store", "no_data", "one_trial_each"}
    known |= {"no_successes", "no_failures"}
    assert set(fits.status) <= known
    interior = np.array(fits.status) == "ok"
    assert interior.sum() > 100
    assert np.all(fits.eigenvalues[interior] > 0)
    assert np.all(fits.gradient_norm[interior] <= TOLERANCE)
