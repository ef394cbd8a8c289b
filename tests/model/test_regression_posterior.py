"""Integrated posteriors of regressions: the density and the stores against dense Gaussians."""

import numpy as np
import pytest
from scipy import stats

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit, fit_pools
from hbpipe.model.posterior import integrate_pools, posterior, update_pools
from hbpipe.model.regression.separation import compile_separation
from hbpipe.model.regression.stores import conditional, representatives
from hbpipe.model.regression.target import regression_target

FAMILY = "normal_regression"


def drawn(size=2, stores=20, seed=0, most=8, shift=0.0, covariance=None):
    rng = np.random.default_rng(seed)
    family = get_family(FAMILY, size)
    spread = 0.5 * np.eye(size) if covariance is None else covariance
    named = {"mu": np.arange(size) + 1.0, "Sigma": spread, "sigma": 0.8}
    sizes = np.concatenate([[0, 1], rng.integers(1, most, stores - 2)])
    columns, codes, _ = family.simulate(rng, named, stores, sizes)
    columns["predictors"][:, 1:] += shift
    return family, columns, codes, family.summarise(columns, codes, stores)


def target_of(family, statistics, hyperprior=None, fixed=None):
    sketch = family.compress(statistics, np.zeros(len(statistics["n"]), int), 1)
    fits = fit_pools(family, sketch, fixed=fixed)
    held = fits.held[0]
    estimate = np.where(np.isnan(held), fits.coordinates[0], held)
    return regression_target(sketch, hyperprior, held, estimate), fits


def dense(columns, codes, named, stores):
    """Log likelihood with μ integrated, and moments of (μ, b_1, ..., b_J) given the data.

    y = X μ + Z (b − μ) + e as one Gaussian, with a flat prior on μ.
    """
    x, y = columns["predictors"], columns["response"]
    n, size = x.shape
    same = codes[:, None] == codes[None, :]
    v = named["sigma"] ** 2 * np.eye(n) + same * (x @ named["Sigma"] @ x.T)
    information = x.T @ np.linalg.solve(v, x)
    mu = np.linalg.solve(information, x.T @ np.linalg.solve(v, y))
    left = y - x @ mu
    value = -0.5 * (
        (n - size) * np.log(2 * np.pi)
        + np.linalg.slogdet(v)[1]
        + np.linalg.slogdet(information)[1]
        + left @ np.linalg.solve(v, left)
    )
    means, covariances = [], []
    for store in range(stores):
        mine = codes == store
        cross = named["Sigma"] @ (x * mine[:, None]).T
        pull = np.linalg.solve(v, cross.T).T
        shrink = np.eye(size) - pull @ x
        means.append(mu + pull @ left)
        within = named["Sigma"] - pull @ cross.T
        covariances.append(within + shrink @ np.linalg.inv(information) @ shrink.T)
    return value, np.array(means), np.array(covariances)


@pytest.mark.parametrize("shift", [0.0, 2017.0])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_density_and_stores_are_those_of_one_dense_gaussian(size, shift):
    family, columns, codes, statistics = drawn(size, shift=shift)
    target, _ = target_of(family, statistics)
    rng = np.random.default_rng(1)
    points = target.start + 0.4 * rng.normal(size=(5, len(target.names)))
    values, nodes = target.log_density(points), target.nodes(points)
    found = conditional(statistics, nodes)
    constants, rtol = [], 1e-6 if shift else 1e-8
    for s in range(5):
        covariance = nodes["sigma"][s] ** 2 * nodes["loading"][s] @ nodes["loading"][s].T
        named = {"Sigma": covariance, "sigma": nodes["sigma"][s]}
        value, means, covariances = dense(columns, codes, named, 20)
        # The variables are those of the coefficients at the mean predictors.
        turned = target.frame @ covariance @ target.frame.T
        np.testing.assert_allclose(np.sqrt(np.diag(turned)), np.exp(points[s, :size]), rtol=rtol)
        prior = target.prior.log_density(
            tuple(range(size)), points[s, :size, None], points[s, size:-1, None], points[s, -1:]
        )[0]
        constants.append(values[s] - prior - value)
        np.testing.assert_allclose(found.mean[:, s], means, rtol=rtol)
        np.testing.assert_allclose(found.covariance[:, s], covariances, rtol=10 * rtol, atol=1e-8)
        variances = np.einsum("jkk->jk", covariances)
        np.testing.assert_allclose(found.variance[:, s], variances, rtol=10 * rtol)
        np.testing.assert_array_equal(found.prior_mean[0, s], nodes["mu"][s])
        np.testing.assert_allclose(found.weight[0, s], 0.0, atol=1e-12)  # no rows
    np.testing.assert_allclose(constants, 0.0, atol=1e-5 if shift else 1e-9)


def test_a_point_does_not_know_the_others_nor_a_store():
    family, _, _, statistics = drawn(3, stores=40)
    target, _ = target_of(family, statistics)
    points = target.start + 0.3 * np.random.default_rng(2).normal(size=(50, len(target.names)))
    values, nodes = target.log_density(points), target.nodes(points)
    for s in (0, 17, 49):
        assert target.log_density(points[s : s + 1])[0] == values[s]
    whole = conditional(statistics, nodes)
    few = conditional({name: v[5:8] for name, v in statistics.items()}, nodes)
    for name in ("mean", "variance", "weight", "covariance"):
        np.testing.assert_array_equal(getattr(few, name), getattr(whole, name)[5:8])


def test_far_away_the_density_is_a_power_and_a_number():
    # As τ₁ grows every informed store but one costs a factor τ₁: no digits are lost on the way.
    family, _, _, statistics = drawn(2, most=9, seed=3)
    target, _ = target_of(family, statistics, {"tau": "uniform"})
    reach = np.array([12.0, 16.0, 20.0, 24.0])
    points = np.repeat(target.start[None], 4, axis=0)
    points[:, 1] = reach
    slopes = np.diff(target.log_density(points)) / 4.0
    informed = np.sum(statistics["n"] > 0)
    # One power for the Jacobian of log τ₁.
    np.testing.assert_allclose(slopes, 1.0 - (informed - 1.0), rtol=1e-4)


HELD = [
    ({"sigma": 0.9}, ("log_tau[0]", "log_tau[1]", "atanh_partial[1,0]")),
    ({"tau": [np.nan, 0.0]}, ("log_tau[0]", "log_sigma")),
    ({"tau": [0.0, np.nan]}, ("log_tau[1]", "log_sigma")),
    ({"tau": [0.7, np.nan], "sigma": 0.9}, ("log_tau[1]", "atanh_partial[1,0]")),
    ({"tau": [0.0, 0.0]}, ("log_sigma",)),
    ({"mu": [1.0, 2.0]}, ("log_tau[0]", "log_tau[1]", "atanh_partial[1,0]", "log_sigma")),
    ({"mu": [1.0, np.nan]}, ("log_tau[0]", "log_tau[1]", "atanh_partial[1,0]", "log_sigma")),
    ({"Sigma": [[1.0, 0.2], [0.2, 0.5]], "sigma": 1.0}, ()),
]


@pytest.mark.parametrize(("fixed", "names"), HELD)
def test_what_is_held_is_no_variable_and_stays(fixed, names):
    family, _, _, statistics = drawn(2, seed=4)
    target, _ = target_of(family, statistics, fixed=fixed)
    assert target.names == names
    assert len(target.start) == len(names)
    assert np.isfinite(target.log_density(target.start[None])).all()
    points = target.start + 0.2 * np.random.default_rng(5).normal(size=(3, len(names)))
    nodes = target.nodes(points)
    spread = nodes["sigma"][:, None] * np.sqrt(np.sum(nodes["loading"] ** 2, axis=2))
    if "sigma" in fixed:
        np.testing.assert_allclose(nodes["sigma"], fixed["sigma"])
    if "tau" in fixed:
        known = ~np.isnan(fixed["tau"])
        expected = np.broadcast_to(fixed["tau"], spread.shape)
        np.testing.assert_allclose(spread[:, known], expected[:, known])
    if "mu" in fixed:
        known = ~np.isnan(fixed["mu"])
        expected = np.broadcast_to(fixed["mu"], nodes["mu"].shape)
        np.testing.assert_allclose(nodes["mu"][:, known], expected[:, known])
        variances = np.einsum("skk->sk", nodes["mu_covariance"])
        np.testing.assert_allclose(variances[:, known], 0.0, atol=1e-20)
        assert np.all(variances[:, ~known] > 0)


def test_one_known_coefficient_of_mu_is_a_slice_of_the_joint():
    family, columns, codes, statistics = drawn(2, seed=6)
    target, _ = target_of(family, statistics, fixed={"mu": [np.nan, 1.5]})
    nodes = target.nodes(target.start[None])
    covariance = nodes["sigma"][0] ** 2 * nodes["loading"][0] @ nodes["loading"][0].T
    x, y = columns["predictors"], columns["response"] - 1.5 * columns["predictors"][:, 1]
    same = codes[:, None] == codes[None, :]
    v = nodes["sigma"][0] ** 2 * np.eye(len(y)) + same * (x @ covariance @ x.T)
    one = x[:, :1]
    information = one.T @ np.linalg.solve(v, one)
    mean = np.linalg.solve(information, one.T @ np.linalg.solve(v, y))
    np.testing.assert_allclose(nodes["mu"][0], [mean[0], 1.5], rtol=1e-9)
    np.testing.assert_allclose(nodes["mu_covariance"][0, 0, 0], 1 / information[0, 0], rtol=1e-9)


@pytest.mark.parametrize("uncertainty", ["plug_in", "first_order", "integrated"])
def test_columns_of_a_singular_fit(uncertainty):
    direction = np.array([0.6, 0.4])
    family, _, _, statistics = drawn(2, seed=1, covariance=np.outer(direction, direction))
    fitted = fit(family, statistics)
    assert fitted.status == "singular"
    found = posterior(fitted, statistics, uncertainty=uncertainty)
    assert found["mean"].shape == found["sd"].shape == (20, 2)
    assert found.method == uncertainty
    for name, column in found.items():
        # Two stores do not determine a regression of their own.
        assert np.isfinite(column).all() or name.startswith("no_pooling")
    assert np.all(found["q0.025"] < found["q0.975"])
    variances = np.einsum("jkk->jk", found.covariance)
    np.testing.assert_allclose(np.sqrt(variances), found["sd"], rtol=1e-9)
    correlations = found.covariance[:, 0, 1] / found["sd"].prod(axis=1)
    assert np.all(np.abs(correlations) <= 1 + 1e-12)
    np.testing.assert_allclose(found.cdf(found["q0.5"]), 0.5, atol=2e-3)


def test_no_spread_has_integrated_intervals_with_a_width():
    family, _, _, statistics = drawn(2, seed=3, covariance=np.zeros((2, 2)), most=12)
    fitted = fit(family, statistics)
    assert fitted.status == "no_spread"
    found = posterior(fitted, statistics)
    assert found.method == "integrated"
    assert np.all(found["q0.975"] - found["q0.025"] > 0.01)


def test_unidentified_pools_have_finite_numbers_and_a_word():
    # Every store's rows lie on its own plane: no hyperprior keeps σ from 0.
    codes = np.repeat(np.arange(6), 4)
    t = np.tile([0.0, 1.0, 2.0, 3.0], 6)
    columns = {"predictors": np.column_stack([np.ones(24), t]), "response": codes * t + 1.0}
    family = get_family(FAMILY)
    statistics = family.summarise(columns, codes, 6)
    fits = fit_pools(family, family.compress(statistics, np.zeros(6, int), 1))
    nodes = integrate_pools(fits)
    assert nodes.method.tolist() == ["unidentified"]
    known = posterior(fit(family, statistics, fixed={"sigma": 0.5}), statistics)
    assert known.method in ("integrated", "first_order")
    found = update_pools(
        family, nodes, fits.hyperparameters, statistics, np.zeros(6, int), quantiles=(0.1, 0.9)
    )
    assert np.isfinite(found.mean).all()


def test_pools_of_a_batch_are_those_fitted_alone():
    family, _, _, a = drawn(2, seed=9)
    _, _, _, b = drawn(2, seed=10, stores=12)
    both = {name: np.concatenate([a[name], b[name]]) for name in a}
    pools = np.repeat([0, 1], [20, 12])
    fits = fit_pools(family, family.compress(both, pools, 2))
    nodes = integrate_pools(fits, uncertainty="integrated")
    together = update_pools(
        family, nodes, fits.hyperparameters, both, pools, quantiles=(0.025, 0.975)
    )
    alone = posterior(fit(family, b), b, uncertainty="integrated")
    np.testing.assert_array_equal(together.mean[20:], alone["mean"])
    np.testing.assert_array_equal(together.quantiles[20:, :, 1], alone["q0.975"])
    assert together.quantiles.shape == (32, 2, 2)


def test_predictions_are_of_the_response_at_given_predictors():
    family, _, _, statistics = drawn(2, stores=400, seed=11, most=12)
    rng = np.random.default_rng(12)
    x = np.column_stack([np.ones(400), rng.normal(size=400)])
    for uncertainty in ("plug_in", "first_order"):
        found = posterior(fit(family, statistics), statistics, uncertainty=uncertainty)
        ahead = found.predict(x, (0.1, 0.9))
        np.testing.assert_allclose(ahead.mean, np.sum(x * found["mean"], axis=1), rtol=1e-9)
        within = np.einsum("jk,jkl,jl->j", x, found.covariance, x)
        assert np.all(ahead.sd**2 > within)
        np.testing.assert_allclose(ahead.cdf(ahead.quantiles[:, 1]), 0.9, atol=2e-3)
        same = found.predict([1.0, 0.5])
        assert same.mean.shape == (400,)
    with pytest.raises(StatisticsError, match="predictors of the next event"):
        found.predict(1.0)
    with pytest.raises(StatisticsError, match="finite"):
        found.predict([1.0, np.nan])


def test_posteriors_at_known_hyperparameters_are_calibrated_jointly():
    # Mahalanobis distances of the true coefficients are χ² with P degrees of freedom.
    rng = np.random.default_rng(13)
    covariance = np.array([[1.0, -0.6], [-0.6, 0.5]])
    named = {"mu": np.array([1.0, 2.0]), "Sigma": covariance, "sigma": 1.0}
    family = get_family(FAMILY)
    columns, codes, truth = family.simulate(rng, named, 20_000, rng.integers(0, 9, 20_000))
    after = family.update(family.summarise(columns, codes, 20_000), named)
    off = (truth - after["mu"])[:, :, None]
    distance = np.swapaxes(off, 1, 2) @ np.linalg.solve(after["Sigma"], off)
    assert stats.kstest(distance.ravel(), "chi2", args=(2,)).pvalue > 1e-3


def test_representatives_are_stores_of_the_pool():
    family, _, _, statistics = drawn(2, stores=30, seed=14)
    sketch = family.compress(statistics, np.zeros(30, int), 1)
    few = representatives(sketch)
    assert few["n"].tolist()[-1] == 0
    target, _ = target_of(family, statistics)
    nodes = target.nodes(target.start[None])
    chosen, whole = conditional(few, nodes), conditional(statistics, nodes)
    for store in range(3):
        assert np.min(np.abs(whole.variance - chosen.variance[store]).sum(axis=(1, 2))) < 1e-9


def test_hyperpriors_of_a_fit_shape_its_posteriors():
    family, _, _, statistics = drawn(2, seed=15)
    tight = {"tau": ["half_normal(1e-3)", None], "correlation": "lkj(50)"}
    narrow = posterior(fit(family, statistics, hyperprior=tight), statistics)
    wide = posterior(fit(family, statistics), statistics)
    assert np.median(narrow["weight"][:, 0]) < 0.01 < np.median(wide["weight"][:, 0])
    with pytest.raises(FitError, match="improper"):
        posterior(fit(family, statistics, hyperprior={"tau": "reciprocal"}), statistics)
    sketch = family.compress(statistics, np.zeros(20, int), 1)
    compiled = compile_separation(tight, sketch)
    again = posterior(fit(family, statistics, hyperprior=compiled), statistics)
    np.testing.assert_array_equal(again["mean"], narrow["mean"])


def test_pools_without_rows_have_finite_nodes():
    family, _, _, statistics = drawn(2, seed=16)
    pools = np.zeros(20, int)
    fits = fit_pools(family, family.compress(statistics, pools, 2))
    assert fits.status[1] == "no_data"
    nodes = integrate_pools(fits)
    assert nodes.method.tolist() == ["integrated", "unidentified"]
    for values in nodes.pools[1].values.values():
        assert np.isfinite(values).all()
