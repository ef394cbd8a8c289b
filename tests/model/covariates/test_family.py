"""What a family with covariates promises, whichever family it is made of."""

import pickle

import numpy as np
import pytest
from covariate_cases import DATA, FAMILIES_WITH_COVARIATES, log_likelihood, predictor

from hbpipe.errors import FitError
from hbpipe.model.covariates import with_covariates
from hbpipe.model.covariates.likelihood import log_probability
from hbpipe.model.families import FAMILIES, get_family
from hbpipe.model.fit import fit_pools

every_family = pytest.mark.parametrize("name", FAMILIES_WITH_COVARIATES)
ONE_POOL = np.zeros(60, np.int64)
WIDTH = 3


def with_data(name, seed=1, stores=60):
    """The family, statistics with covariates among them, and the covariates."""
    data, x = DATA[name](seed, stores, WIDTH)
    return get_family(name, covariates=WIDTH), {**data, "covariates": x}, x


def rows(statistics, kept):
    return {name: np.asarray(values)[kept] for name, values in statistics.items()}


def inner_point(family, x, level=0.3):
    """Coordinates with a predictor of ordinary size."""
    slopes = [0.6, 0.02][: x.shape[1] - 1]
    intercept = level - float(x[:, 1:].mean(axis=0) @ slopes)
    others = [0.1 + 0.2 * i for i in range(len(family.coordinates) - x.shape[1])]
    return np.array([intercept, *slopes, *others])


def sketches(family, statistics, pools=ONE_POOL):
    """The sketch in the user's units and in standard ones, with the way between them."""
    sketch = family.compress(statistics, pools, int(pools.max()) + 1)
    return sketch, family.standardise(sketch, True)


def test_the_scalar_families_take_covariates():
    assert FAMILIES_WITH_COVARIATES == [
        "beta_binomial",
        "gamma_poisson",
        "normal",
        "normal_known_variance",
    ]


@every_family
def test_the_likelihood_is_that_of_every_store_at_its_own_mean(name):
    family, statistics, x = with_data(name)
    sketch, standard = sketches(family, statistics)
    point = inner_point(family, x)
    hyperparameters = family.from_coordinates(point)
    others = [float(hyperparameters[n]) for n in family.hyperparameters[1:]]
    expected = log_likelihood(name, statistics, x @ point[:WIDTH], *others)
    value, _, _ = family.log_marginal(sketch, point[None])
    np.testing.assert_allclose(value[0], expected, rtol=1e-11, atol=1e-9)
    inside = standard.units.inside(point[None])
    np.testing.assert_allclose(family.log_marginal(standard, inside)[0], value, rtol=1e-12)
    np.testing.assert_allclose(standard.units.outside(inside)[0], point, rtol=1e-9)


@every_family
@pytest.mark.parametrize("seed", [1, 2])
def test_gradient_and_hessian_are_the_derivatives(name, seed):
    family, statistics, x = with_data(name, seed)
    _, standard = sketches(family, statistics)
    point = standard.units.inside(inner_point(family, x)[None])[0]
    functions = [family.log_marginal, family.log_restriction]
    for function in filter(None, functions):
        _, gradient, hessian = function(standard, point[None])
        np.testing.assert_array_equal(hessian, np.swapaxes(hessian, 1, 2))
        for axis in range(len(point)):
            step = np.zeros_like(point)
            step[axis] = 1e-4
            values, slopes, _ = zip(
                *(function(standard, (point + k * step)[None]) for k in (-2, -1, 1, 2)),
                strict=True,
            )
            for exact, f in ((gradient[0, axis], values), (hessian[0, axis], slopes)):
                slope = (f[0][0] - 8 * f[1][0] + 8 * f[2][0] - f[3][0]) / 12e-4
                np.testing.assert_allclose(exact, slope, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("name", ["beta_binomial", "gamma_poisson"])
def test_values_alone_are_the_values(name):
    data, x = DATA[name](2, 300, WIDTH)
    family = get_family(name, covariates=WIDTH)
    sketch = family.compress({**data, "covariates": x}, np.zeros(300, int), 1)
    for spread in (0.0, 1e-12, 1e-3, 0.3, 0.9):
        point = np.append(inner_point(family, x)[:WIDTH], spread)[None]
        value, _, _ = family.log_marginal(sketch, point)
        alone = log_probability(get_family(name), sketch, point)
        np.testing.assert_allclose(alone, value, rtol=1e-13)


@pytest.mark.parametrize("name", ["normal", "normal_known_variance"])
def test_the_restriction_is_the_integral_over_the_coefficients(name):
    """Against the determinant of a dense X'V⁻¹X."""
    family, statistics, x = with_data(name)
    sketch, standard = sketches(family, statistics)
    point = inner_point(family, x)
    if name == "normal":
        variance = point[3] + np.exp(2.0 * point[4]) / statistics["n"]
    else:
        variance = point[3] + statistics["variance"]
    information = x.T @ np.diag(1.0 / variance) @ x
    expected = 0.5 * (WIDTH * np.log(2 * np.pi) - np.linalg.slogdet(information)[1])
    value, _, _ = family.log_restriction(sketch, point[None])
    np.testing.assert_allclose(value[0], expected, rtol=1e-7)
    inside = standard.units.inside(point[None])
    np.testing.assert_allclose(family.log_restriction(standard, inside)[0], expected, rtol=1e-9)


@every_family
def test_standard_covariates_are_orthonormal_and_begin_with_the_intercept(name):
    family, statistics, _ = with_data(name)
    _, standard = sketches(family, statistics)
    z, stores = standard.x, standard.rows["stores"]
    np.testing.assert_allclose(z.T @ (stores[:, None] * z) / stores.sum(), np.eye(WIDTH), atol=1e-9)
    np.testing.assert_allclose(z[:, 0], 1.0, rtol=1e-12)


@every_family
def test_sketches_add_up_over_disjoint_stores(name):
    family, statistics, x = with_data(name)
    pools = np.arange(60) % 3
    whole, _ = sketches(family, statistics, pools)
    shards = [
        family.compress(rows(statistics, slice(i, i + 15)), pools[i : i + 15], 3)
        for i in range(0, 60, 15)
    ]
    merged = family.merge_sketches(shards)
    np.testing.assert_array_equal(merged.n_groups, whole.n_groups)
    np.testing.assert_array_equal(merged.x, whole.x)
    points = np.tile(inner_point(family, x), (3, 1))
    for function in (family.log_marginal, family.log_restriction):
        if function is None:
            continue
        for a, b in zip(function(merged, points), function(whole, points), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-9)
    assert fit_pools(family, merged).status == fit_pools(family, whole).status


@every_family
def test_equal_covariates_share_a_row(name):
    data, _ = DATA[name](3, 60, 2)
    levels = np.arange(60) % 4
    x = np.column_stack([np.ones(60), levels == 1, levels == 2, levels == 3]).astype(float)
    family = get_family(name, covariates=4)
    sketch = family.compress({**data, "covariates": x}, ONE_POOL, 1)
    np.testing.assert_array_equal(sketch.rows["stores"], [15.0] * 4)
    negative_zero = np.where(x == 0.0, -0.0, x)
    again = family.compress({**data, "covariates": negative_zero}, ONE_POOL, 1)
    np.testing.assert_array_equal(np.signbit(again.x), np.signbit(sketch.x))


@every_family
def test_pools_do_not_touch_each_other(name):
    parts = [with_data(name, seed, stores)[1] for seed, stores in ((7, 9), (8, 40), (9, 17))]
    family, _, x = with_data(name)
    together = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
    pools = np.repeat(np.arange(3), [9, 40, 17])
    sketch = family.compress(together, pools, 3)
    points = np.stack([inner_point(family, x, level) for level in (0.1, 0.2, 0.3)])
    found = family.log_marginal(sketch, points)
    twice = family.log_marginal(sketch.select(np.array([2, 0, 2])), points[[2, 0, 2]])
    for many, once in zip(twice, found, strict=True):
        np.testing.assert_array_equal(many, once[[2, 0, 2]])
    fits = fit_pools(family, sketch)
    for g, part in enumerate(parts):
        alone = family.compress(part, np.zeros(len(part["covariates"]), int), 1)
        for many, once in zip(found, family.log_marginal(alone, points[g : g + 1]), strict=True):
            np.testing.assert_array_equal(many[g], once[0])
        np.testing.assert_array_equal(fits.coordinates[g], fit_pools(family, alone).coordinates[0])


@every_family
def test_a_store_without_data_leaves_everything_untouched(name):
    family, statistics, x = with_data(name)
    absent = {item.name: np.full(2, item.absent, item.dtype) for item in family.statistics}
    absent["covariates"] = x[:2] + 0.5
    padded = {key: np.concatenate([absent[key], statistics[key]]) for key in statistics}
    point = inner_point(family, x)[None]
    left = family.log_marginal(family.compress(padded, np.zeros(62, int), 1), point)
    right = family.log_marginal(family.compress(statistics, ONE_POOL, 1), point)
    for a, b in zip(left, right, strict=True):
        np.testing.assert_array_equal(a, b)
    hyperparameters = family.from_coordinates(point[0])
    before = family.prior({**hyperparameters, "covariates": padded["covariates"]})
    after = family.update(padded, hyperparameters)
    for key in before:
        np.testing.assert_array_equal(after[key][:2], before[key][:2])


@every_family
def test_evidence_is_the_ratio_of_normalisers(name):
    family, statistics, x = with_data(name)
    point = inner_point(family, x)
    hyperparameters = family.from_coordinates(point)
    before = family.prior({**hyperparameters, "covariates": x})
    after = family.update(statistics, hyperparameters)
    assert before.keys() == after.keys()
    stores = family.log_normaliser(after) - family.log_normaliser(before)
    stores = stores + family.log_base_measure(statistics, hyperparameters)
    value, _, _ = family.log_marginal(family.compress(statistics, ONE_POOL, 1), point[None])
    np.testing.assert_allclose(stores.sum(), value[0], rtol=1e-9)


@every_family
def test_learning_in_two_steps_is_learning_at_once(name):
    family, first, x = with_data(name, 3)
    second = {**DATA[name](4, 60, WIDTH)[0], "covariates": x}
    hyperparameters = family.from_coordinates(inner_point(family, x))
    together = {**family.combine(first, second), "covariates": x}
    at_once = family.update(together, hyperparameters)
    halfway = family.update(first, hyperparameters)
    then = family.update(second, {**hyperparameters, **halfway})
    for key in at_once:
        np.testing.assert_allclose(then[key], at_once[key], rtol=1e-9)


@every_family
def test_coordinates_and_hyperparameters_are_inverse(name):
    family, _, x = with_data(name)
    points = np.stack([inner_point(family, x, level) for level in (-1.0, 0.5)])
    named = family.from_coordinates(points)
    assert tuple(named) == family.hyperparameters
    assert named["coefficients"].shape == (2, WIDTH)
    np.testing.assert_allclose(family.to_coordinates(named), points, rtol=1e-9)
    alone = family.to_coordinates({"coefficients": np.ones(WIDTH)})
    np.testing.assert_array_equal(np.isnan(alone), np.arange(len(alone)) >= WIDTH)


@every_family
def test_families_with_covariates_pickle_by_name(name):
    family = get_family(name, covariates=WIDTH)
    assert pickle.loads(pickle.dumps(family)) is family
    assert len(pickle.dumps(family)) < 300
    assert family.covariates == WIDTH
    assert family.name == name
    sketch = family.compress(with_data(name)[1], ONE_POOL, 1)
    again = pickle.loads(pickle.dumps(sketch))
    np.testing.assert_array_equal(again.x, sketch.x)


@every_family
def test_simulated_stores_are_recovered(name):
    rng = np.random.default_rng(77)
    family, _, x = with_data(name, 5, 4000)
    point = inner_point(family, x, -0.5)
    truth = family.from_coordinates(point)
    sizes = rng.integers(5, 40, 4000)
    events, codes, theta = family.simulate(rng, {**truth, "covariates": x}, 4000, sizes)
    statistics = {**family.summarise(events, codes, 4000), "covariates": x}
    fits = fit_pools(family, family.compress(statistics, np.zeros(4000, int), 1))
    assert fits.status == ("ok",)
    error = fits.coordinates[0] - point
    distance = error @ np.linalg.solve(fits.covariance[0], error)
    assert distance < 25.0  # χ² with five degrees of freedom or fewer: 1 in 7,000
    assert np.corrcoef(theta, predictor(x, 0.0))[0, 1] > 0.1


def test_families_that_take_no_covariates_say_so():
    others = set(FAMILIES) - set(FAMILIES_WITH_COVARIATES)
    for name in others:
        with pytest.raises(FitError, match="takes no covariates"):
            get_family(name, covariates=2)
    with pytest.raises(FitError, match="no covariate"):
        with_covariates(get_family("normal"), 0)
    with pytest.raises(FitError, match="3 numbers, one for each covariate"):
        get_family("normal", covariates=3).to_coordinates({"coefficients": [1.0, 2.0]})
