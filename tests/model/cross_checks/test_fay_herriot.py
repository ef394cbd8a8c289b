"""Prasad and Rao's errors and Morris's intervals: dense matrices, closed forms, simulation."""

import numpy as np
import pytest
from scipy import stats

from hbpipe.errors import FitError
from hbpipe.model.cross_checks.fay_herriot import area_model, morris, plug_in, prasad_rao
from hbpipe.model.cross_checks.robust import prior_moments, robust_half_length
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools

FAMILY = get_family("normal_known_variance")


def areas(seed, stores=30, coefficients=3):
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(stores), rng.normal(size=(stores, coefficients - 1))])
    s2 = np.exp(rng.normal(0.0, 0.7, stores))
    y = x @ rng.normal(size=coefficients) + rng.normal(0, np.sqrt(0.6 + s2))
    return y, s2, x


def dense(y, s2, x, tau2, estimator):
    """EBLUP and mse from J × J matrices, term by term as in Datta and Lahiri (2000)."""
    v = np.diag(s2 + tau2)
    vi = np.linalg.inv(v)
    c = np.linalg.inv(x.T @ vi @ x)
    beta = c @ x.T @ vi @ y
    w2, stores = np.trace(vi @ vi), len(y)
    variance, bias = 2 / w2, 0.0
    if estimator.startswith("ml"):
        bias = -np.trace(c @ x.T @ vi @ vi @ x) / w2
    if estimator.endswith("li_lahiri"):
        bias += (2 / tau2) / w2
    if estimator.endswith("chung"):
        bias += (1 / tau2) / w2
    if estimator == "moments:paule_mandel":
        w1 = np.trace(vi)
        variance, bias = 2 * stores / w1**2, 2 * (stores * w2 - w1**2) / w1**3
    if estimator == "moments:hedges":
        variance = 2 * np.trace(v @ v) / stores**2
    if estimator == "moments:dersimonian_laird":
        weights = np.diag(1 / s2)
        variance = 2 * np.trace(weights @ v @ weights @ v) / np.trace(weights) ** 2
    mean, mse = np.empty(stores), np.empty(stores)
    for j in range(stores):
        b = s2[j] / (s2[j] + tau2)
        mean[j] = x[j] @ beta + (1 - b) * (y[j] - x[j] @ beta)
        g1, g2 = tau2 * b, b**2 * x[j] @ c @ x[j]
        g3 = b**2 * variance / (s2[j] + tau2)
        mse[j] = g1 + g2 + 2 * g3 - b**2 * bias
    return mean, mse


ESTIMATORS = (
    "ml",
    "reml",
    "ml:li_lahiri",
    "reml:chung",
    "moments:paule_mandel",
    "moments:hedges",
    "moments:dersimonian_laird",
)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("coefficients", [1, 3])
def test_the_error_is_that_of_dense_matrices(estimator, coefficients):
    y, s2, x = areas(1, coefficients=coefficients)
    expected, mse = dense(y, s2, x, 0.8, estimator)
    model = area_model(y, s2, x, 0.8, estimator=estimator)
    found = prasad_rao(model, y, s2, x)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-10)
    np.testing.assert_allclose(found.sd**2, mse, rtol=1e-10)
    assert model.freedom == 30 - coefficients
    if coefficients == 1:
        alone = area_model(y, s2, None, 0.8, estimator=estimator)
        np.testing.assert_array_equal(prasad_rao(alone, y, s2).sd, found.sd)


def test_moments_without_a_name_are_paule_mandels():
    y, s2, x = areas(2)
    plain, named = (
        area_model(y, s2, x, 0.5, estimator=e) for e in ("moments", "moments:paule_mandel")
    )
    assert (plain.tau_variance, plain.tau_bias) == (named.tau_variance, named.tau_bias)


def test_what_is_known_adds_no_error():
    y, s2, _ = areas(3)
    known = area_model(y, s2, None, 0.7, mu=1.5, tau_known=True)
    found = prasad_rao(known, y, s2)
    posterior = FAMILY.update({"estimate": y, "variance": s2}, {"mu": 1.5, "tau": 0.7**0.5})
    np.testing.assert_allclose(found.mean, posterior["mu"], rtol=1e-12)
    np.testing.assert_allclose(found.sd, posterior["tau"], rtol=1e-12)
    assert known.freedom == 30
    np.testing.assert_array_equal(plug_in(known, y, s2).sd, found.sd)


def test_a_store_without_an_estimate_is_the_prior_with_its_errors():
    y, s2, _ = areas(4)
    model = area_model(y, s2, None, 0.7)
    found = prasad_rao(model, np.zeros(1), np.array([np.inf]))
    np.testing.assert_allclose(found.mean, model.coefficients)
    np.testing.assert_allclose(found.sd**2, 0.7 + model.covariance[0, 0])
    # It is the limit of ever larger variances, and leaves the fit's own sums alone.
    near = prasad_rao(model, np.zeros(1), np.array([1e12]))
    np.testing.assert_allclose(found.sd, near.sd, rtol=1e-6)
    padded = area_model(np.append(y, 0.0), np.append(s2, np.inf), None, 0.7)
    assert padded.freedom == model.freedom


#: Pattern of sampling variances of Datta, Rao and Smith (2005), ten stores each, J = 50.
PATTERN = np.repeat([0.7, 0.6, 0.5, 0.4, 0.3], 10)


@pytest.mark.parametrize("estimator", [name for name in ESTIMATORS if "l:" not in name])
def test_the_error_is_nearly_unbiased_with_fifty_stores(estimator):
    rng, stores, replicates, tau2 = np.random.default_rng(5), len(PATTERN), 3000, 1.0
    theta = rng.normal(0.0, np.sqrt(tau2), (replicates, stores))
    y = rng.normal(theta, np.sqrt(PATTERN))
    data = {"estimate": y.ravel(), "variance": np.tile(PATTERN, replicates)}
    pools = np.repeat(np.arange(replicates), stores)
    fits = fit_pools(FAMILY, FAMILY.compress(data, pools, replicates), estimator=estimator)
    squares, errors, known = np.zeros(stores), np.zeros(stores), np.zeros(stores)
    for g in range(replicates):
        spread = fits.hyperparameters["tau"][g] ** 2
        model = area_model(y[g], PATTERN, None, spread, estimator=estimator)
        found = prasad_rao(model, y[g], PATTERN)
        squares += (found.mean - theta[g]) ** 2 / replicates
        errors += found.sd**2 / replicates
        known += plug_in(model, y[g], PATTERN).sd ** 2 / replicates
    # Of the mean squared error over all stores, known here to 0.4 %.
    assert abs(errors.sum() / squares.sum() - 1) < 0.015
    # The plug-in variance is too small by far more than that.
    assert known.sum() / squares.sum() < 0.96


def test_a_negative_expansion_is_refused():
    s2 = np.append(np.full(2, 1e-3), np.full(98, 1.0))
    model = area_model(np.zeros(100), s2, None, 0.0, estimator="moments:paule_mandel")
    with pytest.raises(FitError, match=r"mean squared error is -.*estimator='reml'"):
        prasad_rao(model, np.zeros(100), s2)


@pytest.mark.parametrize("estimator", ["moments:lesson", "map"])
def test_estimators_without_an_expansion_are_named(estimator):
    y, s2, x = areas(6)
    with pytest.raises(FitError, match=r"no expansion .* for the estimator"):
        area_model(y, s2, x, 0.5, estimator=estimator)
    assert area_model(y, s2, x, 0.5, estimator=estimator, tau_known=True).tau_variance == 0.0


def test_morris_is_james_stein_for_equal_variances():
    # Morris (1983), eq. 1.17: B̂ = (k−3)V/S, s² = V(1 − (k−1)/k B̂) + 2/(k−3) B̂² (y − ȳ)².
    rng = np.random.default_rng(7)
    k, v = 18, 1.3
    y = rng.normal(2.0, 1.9, k)
    s = np.sum((y - y.mean()) ** 2)
    tau2 = s / (k - 1) - v
    assert tau2 > 0
    found = morris(area_model(y, np.full(k, v), None, tau2), y, np.full(k, v))
    b = (k - 3) * v / s
    np.testing.assert_allclose(found.mean, y - b * (y - y.mean()), rtol=1e-12)
    variance = v * (1 - (k - 1) / k * b) + 2 / (k - 3) * b**2 * (y - y.mean()) ** 2
    np.testing.assert_allclose(found.sd**2, variance, rtol=1e-12)
    # His own τ̂² is Paule and Mandel's.
    data = {"estimate": y, "variance": np.full(k, v)}
    fits = fit_pools(
        FAMILY, FAMILY.compress(data, np.zeros(k, int), 1), estimator="moments:paule_mandel"
    )
    np.testing.assert_allclose(fits.hyperparameters["tau"][0] ** 2, tau2, rtol=1e-9)


@pytest.mark.parametrize("tau2", [0.25, 1.0])
def test_morris_covers_on_average_with_fifteen_unequal_stores(tau2):
    rng, replicates = np.random.default_rng(8), 1500
    s2 = np.exp(np.linspace(-1.2, 1.2, 15))
    theta = rng.normal(0.0, np.sqrt(tau2), (replicates, 15))
    y = rng.normal(theta, np.sqrt(s2))
    data = {"estimate": y.ravel(), "variance": np.tile(s2, replicates)}
    pools = np.repeat(np.arange(replicates), 15)
    fits = fit_pools(FAMILY, FAMILY.compress(data, pools, replicates), estimator="moments")
    covered = {morris: 0.0, plug_in: 0.0}
    for g in range(replicates):
        model = area_model(y[g], s2, None, fits.hyperparameters["tau"][g] ** 2, tau_known=True)
        for form in covered:
            found = form(model, y[g], s2)
            inside = np.abs(found.mean - theta[g]) <= 1.959964 * found.sd
            covered[form] += inside.mean() / replicates
    assert 0.935 < covered[morris] < 0.975
    assert covered[plug_in] < covered[morris] - 0.05


def test_morris_says_where_it_ends():
    y, s2, _ = areas(9, stores=3)
    with pytest.raises(FitError, match="2 degrees of freedom"):
        morris(area_model(y, s2, None, 0.5), y, s2)
    y, s2, _ = areas(9)
    with pytest.raises(FitError, match=r"without an estimate \(store 0\)"):
        morris(area_model(y, s2, None, 0.5), np.zeros(1), np.array([np.inf]))


def heavy(rng, size):
    """Laplace, variance 1 and kurtosis 6."""
    return rng.laplace(0.0, np.sqrt(0.5), size)


def rare(rng, size):
    """Three points, variance 1 and kurtosis 10: most θ are alike, a tenth are not."""
    return rng.choice([-(10**0.5), 0.0, 10**0.5], size, p=[0.05, 0.9, 0.05])


@pytest.mark.parametrize(("draw", "kurtosis"), [(heavy, 6.0), (rare, 10.0)])
def test_moments_of_a_prior_that_is_not_normal(draw, kurtosis):
    rng, stores = np.random.default_rng(10), 400_000
    x = np.column_stack([np.ones(stores), rng.normal(size=stores)])
    s2 = rng.uniform(0.2, 0.8, stores)
    y = x @ [1.0, 2.0] + 0.7 * draw(rng, stores) + rng.normal(0, np.sqrt(s2))
    for weights in (None, 1 / s2):
        found = prior_moments(y, s2, x, weights)
        np.testing.assert_allclose(found.coefficients, [1.0, 2.0], atol=0.01)
        np.testing.assert_allclose(found.tau_squared, 0.49, rtol=0.02)
        np.testing.assert_allclose(found.kurtosis, kurtosis, rtol=0.1)


def test_moments_are_kept_from_what_is_impossible():
    y, s2 = np.array([1.0, 1.1, 0.9, 1.0]), np.ones(4)
    found = prior_moments(y, s2)
    # 2 Σω²s⁴/(Σω Σωs²) = 2/4, and 32/4 over μ₂² on top of 1.
    np.testing.assert_allclose(found.tau_squared, 0.5)
    np.testing.assert_allclose(found.kurtosis, 1 + 8 / 0.25)
    with pytest.raises(FitError, match="more stores than coefficients"):
        prior_moments(y[:1], s2[:1])


@pytest.mark.parametrize("draw", [heavy, rare, stats.norm().rvs])
def test_robust_intervals_cover_whatever_the_shape(draw):
    rng, stores, tau2, s2 = np.random.default_rng(11), 200_000, 0.3, 1.0
    seeds = {"random_state": rng} if draw not in (heavy, rare) else {}
    theta = np.sqrt(tau2) * (draw(size=stores, **seeds) if seeds else draw(rng, stores))
    mean = tau2 / (tau2 + s2) * rng.normal(theta, np.sqrt(s2))
    kurtosis = float(np.mean(theta**4) / np.mean(theta**2) ** 2)
    covered = {
        bound: np.mean(np.abs(mean - theta) <= robust_half_length(np.array([s2]), tau2, bound))
        for bound in (kurtosis, np.inf)
    }
    assert 0.9485 <= covered[kurtosis] <= covered[np.inf]
    normal = np.mean(np.abs(mean - theta) <= 1.959964 * np.sqrt(tau2 / (tau2 + s2) * s2))
    if draw is rare:
        assert normal < 0.93


def test_robust_intervals_need_a_spread():
    with pytest.raises(FitError, match=r"no width.*reml:li_lahiri"):
        robust_half_length(np.ones(3), 0.0)
    # A store without an estimate: Chebyshev's interval for a new θ.
    np.testing.assert_allclose(robust_half_length(np.array([np.inf]), 4.0), 2 / np.sqrt(0.05))
