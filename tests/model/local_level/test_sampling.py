"""Integration over the hyperparameters of levels that drift."""

import numpy as np
import pytest
from drifting_stores import drifting
from scipy import special

import hbpipe
from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.local_level.stores import conditional, deviation
from hbpipe.model.local_level.target import drift_target
from hbpipe.model.marginal.local_level import log_marginal

DAYS = 8
FAMILY = get_family("local_level", DAYS)
FREE = np.full(4, np.nan)


@pytest.fixture(scope="module")
def pool():
    statistics, _ = drifting(5, 30, DAYS, ratio=0.1)
    return statistics, FAMILY.compress(statistics, np.zeros(30, np.int64), 1)


def at_points(pool, coordinates):
    sketch = pool[1].select(np.zeros(len(coordinates), np.int64))
    return log_marginal(sketch, coordinates)[0]


@pytest.mark.parametrize("spec", [None, {"mu": "normal(1, 0.5)"}])
def test_the_density_is_likelihood_times_hyperprior_without_mu(pool, spec):
    """μ by a fine grid, τ, q and σ by their named densities and Jacobians, written out here."""
    fit = hbpipe.fit("local_level", pool[0])
    estimate = fit.pools.coordinates[0]
    target = drift_target("local_level", pool[1], spec, FREE, estimate)
    points = target.start + np.array([[0.0, 0.0, 0.0], [0.3, -0.2, 0.05], [-0.5, 0.4, -0.1]])
    found = target.log_density(points)
    c = 10.0 / np.sort(pool[0]["n"].sum(axis=1)[pool[0]["n"].sum(axis=1) > 0])[14]
    expected = []
    for u, v, log_sigma in points:
        odds, ratio, sigma = np.exp(2 * u), np.exp(2 * v), np.exp(log_sigma)
        mu = estimate[0] + np.linspace(-1.5, 1.5, 601)
        rows = np.column_stack(
            [mu, *(np.full(len(mu), x) for x in (odds * sigma**2, ratio, log_sigma))]
        )
        value = at_points(pool, rows)
        if spec:
            value = value - 0.5 * ((mu - 1.0) / 0.5) ** 2 - np.log(0.5 * np.sqrt(2 * np.pi))
        integral = special.logsumexp(value) + np.log(mu[1] - mu[0])
        # p(A) dA, p(q) dq and dσ/σ in (u, v, log σ), up to a constant.
        prior = np.log(c * odds / (c + odds) ** 2)
        scale = c / (DAYS - 1)
        prior += np.log(scale * ratio / (scale + ratio) ** 2)
        expected.append(integral + prior)
    difference = found - np.array(expected)
    np.testing.assert_allclose(difference, difference[0], atol=1e-8)


def test_nodes_know_what_is_left_of_the_mean(pool):
    fit = hbpipe.fit("local_level", pool[0])
    target = drift_target("local_level", pool[1], None, FREE, fit.pools.coordinates[0])
    nodes = target.nodes(target.start[None])
    _, gradient, hessian = log_marginal(pool[1], fit.pools.coordinates)
    assert nodes["mu"][0] == pytest.approx(fit.hyperparameters["mu"], rel=1e-9)
    assert nodes["mu_variance"][0] == pytest.approx(-1.0 / hessian[0, 0, 0], rel=1e-9)
    assert abs(gradient[0, 0]) < 1e-4
    held = np.array([2.0, np.nan, np.nan, np.nan])
    known = drift_target("local_level", pool[1], None, held, fit.pools.coordinates[0])
    assert known.nodes(known.start[None])["mu"][0] == 2.0
    assert known.nodes(known.start[None])["mu_variance"][0] == 0.0


def test_integrated_posteriors_are_those_of_a_fine_grid(pool):
    """Mean and sd of levels against a grid over (log τ/σ, ½ log q, log σ)."""
    statistics, sketch = pool
    fit = hbpipe.fit("local_level", statistics)
    found = hbpipe.posterior(fit, statistics, uncertainty="integrated")
    target = drift_target("local_level", sketch, None, FREE, fit.pools.coordinates[0])
    axes = [
        target.start[k] + np.linspace(*span)
        for k, span in enumerate([(-1.5, 1.2, 28), (-3.0, 1.2, 36), (-0.2, 0.2, 17)])
    ]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    log_density = target.log_density(points)
    weight = np.exp(log_density - special.logsumexp(log_density))
    law = conditional(statistics, target.nodes(points))
    mean = law.mean[..., 0] @ weight
    variance = (law.variance[..., 0] + (law.mean[..., 0] - mean[:, None]) ** 2) @ weight
    np.testing.assert_allclose(found["mean"], mean, atol=0.02 * np.sqrt(variance).min())
    np.testing.assert_allclose(found["sd"], np.sqrt(variance), rtol=0.02)


def test_the_deviation_is_the_level_less_the_prior_mean(pool):
    nodes = {
        "mu": np.array([1.7, 2.2]),
        "mu_variance": np.array([0.0, 0.04]),
        "odds": np.array([0.2, 0.1]),
        "signal_ratio": np.array([0.05, 0.0]),
        "sigma": np.array([1.0, 0.9]),
    }
    plain, beside = conditional(pool[0], nodes), deviation(pool[0], nodes)
    np.testing.assert_allclose(beside.mean[..., 0], plain.mean[..., 0] - nodes["mu"], atol=1e-12)
    np.testing.assert_allclose(beside.variance[:, 0], plain.variance[:, 0], rtol=1e-12)
    # At the second node μ is uncertain: simulate it.
    rng = np.random.default_rng(1)
    mu = rng.normal(2.2, 0.2, 4000)
    many = {name: np.full(4000, values[1]) for name, values in nodes.items()}
    drawn = conditional(pool[0], {**many, "mu": mu, "mu_variance": np.zeros(4000)})
    level = drawn.mean[..., 0] + np.sqrt(drawn.variance[..., 0]) * rng.normal(size=(30, 4000))
    np.testing.assert_allclose(
        (level - mu).std(axis=1), np.sqrt(beside.variance[:, 1, 0]), rtol=0.06
    )
    np.testing.assert_allclose(level.std(axis=1), np.sqrt(plain.variance[:, 1, 0]), rtol=0.06)


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ({"signal_ratio": "reciprocal"}, "small signal_ratio"),
        ({"tau": "reciprocal"}, "small tau"),
        ({"tau": "reciprocal", "signal_ratio": "half_cauchy(1)"}, "small tau"),
    ],
)
def test_improper_posteriors_are_refused(pool, spec, what):
    fit = hbpipe.fit("local_level", pool[0], hyperprior=spec)
    with pytest.raises(FitError, match=f"arbitrarily {what} keep their weight"):
        hbpipe.posterior(fit, pool[0], uncertainty="integrated")


def test_two_stores_do_not_bound_a_uniform_spread():
    statistics, _ = drifting(6, 2, DAYS, ratio=0.1, per_day=20.0)
    fit = hbpipe.fit("local_level", statistics, hyperprior={"tau": "uniform"})
    with pytest.raises(FitError, match="arbitrarily large tau"):
        hbpipe.posterior(fit, statistics, uncertainty="integrated")


@pytest.mark.parametrize(
    "spec",
    [{"tau": "uniform"}, {"tau_squared": "half_cauchy(1)"}, {"signal_ratio": "half_normal(0.2)"}],
)
def test_other_hyperpriors_integrate(pool, spec):
    fit = hbpipe.fit("local_level", pool[0], hyperprior=spec)
    found = hbpipe.posterior(fit, pool[0], uncertainty="integrated")
    assert np.all(found["sd"] > found["sd_plug_in"] * 0.9)
    assert np.isfinite(found["q0.975"]).all()


def test_a_stores_bits_do_not_depend_on_others(pool):
    fit = hbpipe.fit("local_level", pool[0])
    whole = hbpipe.posterior(fit, pool[0])
    part = {name: values[[3, 17]] for name, values in pool[0].items()}
    some = hbpipe.posterior(fit, part)
    for name, values in whole.items():
        np.testing.assert_array_equal(values[[3, 17]], some[name], err_msg=name)


@pytest.mark.parametrize(
    ("shape", "status"),
    [((1, 1), "sigma_unidentified"), ((1, 4), "one_store"), ((6, 1), "one_day")],
)
def test_shapes_of_data_have_their_words(shape, status):
    stores, days = shape
    rng = np.random.default_rng(8)
    n, mean = np.zeros((stores, DAYS), np.int64), np.zeros((stores, DAYS))
    n[:, :days] = 1 if status == "sigma_unidentified" else 4
    mean[:, :days] = rng.normal(size=(stores, days))
    statistics = {"n": n, "mean": mean, "m2": np.where(n > 1, 3.0, 0.0)}
    fits = fit_pools(FAMILY, FAMILY.compress(statistics, np.zeros(stores, np.int64), 1))
    assert fits.status == (status,)


def test_order_of_stores_and_shards_leaves_every_bit_alone(pool):
    statistics = {name: np.concatenate([v, v[:5]]) for name, v in pool[0].items()}
    rows = np.random.default_rng(2).permutation(35)
    zeros = np.zeros(35, np.int64)
    turned = {name: values[rows] for name, values in statistics.items()}
    parts = [
        FAMILY.compress({n: v[some] for n, v in turned.items()}, zeros[some], 1)
        for some in (slice(0, 11), slice(11, 35))
    ]
    point = np.array([[2.0, 0.3, 0.1, 0.05]])
    expected = log_marginal(FAMILY.compress(statistics, zeros, 1), point)
    for a, b in zip(log_marginal(FAMILY.merge_sketches(parts), point), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_table_of_days_is_asked_for():
    with pytest.raises(StatisticsError, match="shape"):
        hbpipe.fit("local_level", {"n": [3, 4], "mean": [1.0, 2.0], "m2": [1.0, 1.0]})
    with pytest.raises(FitError, match="there is 1 day"):
        get_family("local_level", 1)
