"""A variance per store: the likelihood, its limit, moments, and data that determine nothing."""

import itertools

import mpmath
import numpy as np
import pytest
from mpmath import mp
from scipy import optimize, special, stats

import hbpipe
from hbpipe.errors import FitError
from hbpipe.model.distributions.laws import STUDENT_T
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit, fit_pools
from hbpipe.model.inverse_gamma.algebra import FEWEST_DEGREES, LARGEST
from hbpipe.model.inverse_gamma.variances import (
    log_variances,
    spread_of_variances,
    trigamma_inverse,
)
from hbpipe.model.marginal.normal_inverse_gamma import log_likelihood

FAMILY = get_family("normal_inverse_gamma")
TRUTH = {"mu": 5.0, "kappa": 6.0, "d0": 7.0, "s0_squared": 4.0}
SIZES = (1, 2, 3, 4, 7, 50, 333, 1000)


def values(seed=1, stores=60, most=12, truth=TRUTH):
    rng = np.random.default_rng(seed)
    columns, codes, theta = FAMILY.simulate(rng, truth, stores, rng.integers(1, most, stores))
    return columns["value"], codes, theta


def statistics(**options):
    x, codes, theta = values(**options)
    return FAMILY.summarise({"value": x}, codes, len(theta))


def one_pool(data):
    return FAMILY.compress(data, np.zeros(len(data["n"]), np.int64), 1)


def table(n, mean, m2):
    return {"n": np.array(n), "mean": np.array(mean, float), "m2": np.array(m2, float)}


@pytest.mark.parametrize("point", [(5.0, 0.2, 0.15, 0.7), (3.0, 2.0, 0.4, -1.0), (5, 0, 0.01, 0)])
def test_the_values_of_a_store_are_multivariate_t(point):
    x, codes, theta = values(stores=12)
    mu, phi, inverse, log_s0 = point
    expected = 0.0
    for store in range(len(theta)):
        own = x[codes == store]
        shape = np.exp(2.0 * log_s0) * (np.eye(len(own)) + phi)
        law = stats.multivariate_t(np.full(len(own), mu), shape, df=1.0 / inverse)
        expected += law.logpdf(own)
    sketch = one_pool(FAMILY.summarise({"value": x}, codes, len(theta)))
    found, _, _ = FAMILY.log_marginal(sketch, np.array([point]))
    assert found[0] == pytest.approx(expected, rel=1e-11)
    np.testing.assert_allclose(log_likelihood(sketch, np.array([point, point])), found[0])


def exact(data):
    """The log marginal of all stores from log-gammas of d₀ itself, in mpmath."""

    def log_marginal(mu, phi, x, log_s0):
        d0, s2, total = 1 / x, mpmath.exp(2 * log_s0), mpmath.mpf(0)
        for n, mean, m2 in zip(*(data[name].tolist() for name in ("n", "mean", "m2")), strict=True):
            squares = m2 + n * (mean - mu) ** 2 / (1 + n * phi)
            total += mpmath.loggamma((d0 + n) / 2) - mpmath.loggamma(d0 / 2)
            total -= mpmath.log(1 + n * phi) / 2 + n * mpmath.log(mpmath.pi * d0 * s2) / 2
            total -= (d0 + n) / 2 * mpmath.log(1 + squares / (d0 * s2))
        return total

    return log_marginal


@pytest.mark.parametrize("phi", [0.0, 0.3])
@pytest.mark.parametrize("x", [1e-15, 1e-9, 1e-4, 0.0499, 0.0501, 0.2, 0.47])
def test_value_and_derivatives_against_ninety_digits(x, phi):
    rng = np.random.default_rng(2)
    n = np.array(SIZES)
    data = table(n, rng.normal(1.0, 2.0, len(n)), 3.0 * rng.chisquare(n - 1 + 1e-9))
    point = (0.3, phi, x, 0.2)
    value, gradient, hessian = FAMILY.log_marginal(one_pool(data), np.array([point]))
    with mp.workdps(90):
        function, h = exact(data), mpmath.mpf(10) ** -20

        def moved(*steps):
            at = [mpmath.mpf(c) for c in point]
            for axis, sign in steps:
                at[axis] += sign * h
            return function(*at)

        expected = float(function(*map(mpmath.mpf, point)))
        assert value[0] == pytest.approx(expected, rel=1e-13)
        quick = log_likelihood(one_pool(data), np.array([point]))
        assert quick[0] == pytest.approx(expected, rel=1e-13)
        for i in range(4):
            slope = float((moved((i, 1)) - moved((i, -1))) / (2 * h))
            assert gradient[0, i] == pytest.approx(slope, rel=1e-12, abs=1e-11)
        for i, j in itertools.combinations_with_replacement(range(4), 2):
            corners = [s * t * moved((i, s), (j, t)) for s in (1, -1) for t in (1, -1)]
            bend = float(sum(corners) / (4 * h * h))
            assert hessian[0, i, j] == pytest.approx(bend, rel=1e-11, abs=1e-9)


def test_without_spread_of_the_variances_it_is_the_family_normal():
    data = statistics()
    normal = get_family("normal")
    mu, phi, log_s0 = 4.8, 0.25, 0.6
    sketches = [f.compress(data, np.zeros(60, np.int64), 1) for f in (FAMILY, normal)]
    found, slope, bend = FAMILY.log_marginal(sketches[0], np.array([[mu, phi, 0.0, log_s0]]))
    at_sigma = np.array([[mu, phi * np.exp(2 * log_s0), log_s0]])
    expected, by, _ = normal.log_marginal(sketches[1], at_sigma)
    assert found[0] == pytest.approx(expected[0], rel=1e-13)
    assert slope[0, 0] == pytest.approx(by[0, 0], rel=1e-12)
    assert slope[0, 1] == pytest.approx(by[0, 1] * np.exp(2 * log_s0), rel=1e-12)
    assert np.isfinite(bend).all()
    # The posteriors agree too, and so does a whole fit with d0 held at infinity.
    held = fit("normal_inverse_gamma", data, fixed={"d0": LARGEST})
    assert held.coordinates["inverse_d0"] == 1.0 / LARGEST  # to the last bit
    other = fit("normal", data)
    assert held.log_marginal_likelihood == pytest.approx(other.log_marginal_likelihood, rel=1e-12)
    sigma, tau = other.hyperparameters["sigma"], other.hyperparameters["tau"]
    assert held.hyperparameters["s0_squared"] == pytest.approx(sigma**2, rel=1e-6)
    assert held.hyperparameters["kappa"] == pytest.approx((sigma / tau) ** 2, rel=1e-6)
    at = {"mu": 4.8, "kappa": 4.0, "d0": LARGEST, "s0_squared": sigma**2}
    ours = FAMILY.describe(FAMILY.update(data, at), [0.025, 0.975])
    theirs = normal.describe(
        normal.update(data, {"mu": 4.8, "tau": sigma / 2, "sigma": sigma}), [0.025, 0.975]
    )
    np.testing.assert_allclose(ours.quantiles, theirs.quantiles, rtol=1e-12)
    np.testing.assert_allclose(ours.sd, theirs.sd, rtol=1e-12)


def test_a_store_with_one_value_is_between_the_prior_and_its_value():
    data = statistics(stores=80)
    found = fit("normal_inverse_gamma", data)
    assert found.status == "ok"
    single = table([0, 1, 1], [0.0, 6.0, 500.0], [0, 0, 0])
    posterior = FAMILY.update(single, found.hyperparameters)
    summary = FAMILY.describe(posterior, [0.025, 0.975])
    width = np.ptp(summary.quantiles, axis=1)
    assert np.isfinite(summary.sd).all()
    kappa, mu = found.hyperparameters["kappa"], found.hyperparameters["mu"]
    np.testing.assert_allclose(
        summary.mean, mu + np.array([0, 1, 1]) / (kappa + 1) * (np.array([0, 6, 500]) - mu)
    )
    # One value in the middle narrows the interval; one far out says that its variance is large.
    assert width[1] < width[0] < width[2] / 10


def test_the_posterior_is_that_of_a_grid_over_theta_and_sigma():
    n, mean, m2 = 4, 7.0, 3.0
    mu, kappa, d0, s2 = (TRUTH[name] for name in ("mu", "kappa", "d0", "s0_squared"))
    theta, log_sigma = np.meshgrid(np.linspace(0, 14, 1401), np.linspace(-3, 4, 701), indexing="ij")
    variance = np.exp(2 * log_sigma)
    density = np.exp(
        stats.norm.logpdf(theta, mu, np.sqrt(variance / kappa))
        + stats.invgamma.logpdf(variance, d0 / 2, scale=d0 * s2 / 2)
        + 2 * log_sigma
        - n * log_sigma
        - (m2 + n * (mean - theta) ** 2) / (2 * variance)
    )
    weight = density.sum(axis=1) / density.sum()
    below = np.cumsum(weight) - weight / 2
    posterior = FAMILY.update(table([n], [mean], [m2]), TRUTH)
    found = FAMILY.describe(posterior, [0.5])
    np.testing.assert_allclose(found.cdf(theta[:, 0]), below, atol=1e-5)
    assert found.mean[0] == pytest.approx(np.sum(weight * theta[:, 0]), rel=1e-5)


def likelihood_over_stores(x, data):
    """From raw formulas store by store, in unbounded coordinates."""
    mu, kappa, s2 = x[0], np.exp(x[1]), np.exp(x[3])
    d0 = FEWEST_DEGREES * (1.0 + np.exp(x[2]))
    n, mean, m2 = data["n"], data["mean"], data["m2"]
    # x̄ given M2 is Student's t; M2 is s0² (n − 1) times an F variable.
    degrees = np.maximum(n - 1, 1)
    within = stats.f.logpdf(m2 / (degrees * s2), degrees, d0) - np.log(degrees * s2)
    after = (d0 * s2 + m2) / (d0 + n - 1)
    between = stats.t.logpdf(mean, d0 + n - 1, mu, np.sqrt(after * (1 / kappa + 1 / n)))
    # The values given mean and M2 are uniform on a sphere: −log of its area, and of √n.
    half = 0.5 * degrees
    area = (
        np.log(np.pi) * half - special.gammaln(half) + (half - 1) * np.log(np.maximum(m2, 1e-300))
    )
    return np.sum(between - 0.5 * np.log(n) + np.where(n > 1, within - area, 0.0))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_same_maximum_as_an_optimiser_over_all_stores(seed):
    data = statistics(seed=seed)
    found = fit("normal_inverse_gamma", data)
    at = [5.0, 1.5, 0.5, 1.5]
    best = optimize.minimize(
        lambda x: -likelihood_over_stores(x, data),
        at,
        method="Nelder-Mead",
        options={"maxiter": 4000, "xatol": 1e-7, "fatol": 1e-11},
    )
    assert found.log_marginal_likelihood == pytest.approx(-best.fun, abs=1e-7)
    assert found.hyperparameters["kappa"] == pytest.approx(np.exp(best.x[1]), rel=1e-3)
    d0 = FEWEST_DEGREES * (1.0 + np.exp(best.x[2]))
    assert found.hyperparameters["d0"] == pytest.approx(d0, rel=1e-3)


def test_trigamma_inverse():
    y = np.array([1e-4, 0.05, 0.5, 1.0, 7.3, 1e3, 1e8])
    np.testing.assert_allclose(trigamma_inverse(special.polygamma(1, y)), y, rtol=1e-10)
    assert np.isposinf(trigamma_inverse(np.array([0.0, -1.0]))).all()


def test_smyths_moments_are_those_of_his_formulas():
    data = statistics(seed=4, stores=200)
    found = fit("normal_inverse_gamma", data, estimator="moments:smyth").hyperparameters
    degrees = (data["n"] - 1)[data["n"] > 1]
    log_variance = np.log((data["m2"][data["n"] > 1]) / degrees)
    e = log_variance - special.digamma(degrees / 2) + np.log(degrees / 2)
    excess = np.var(e, ddof=1) - np.mean(special.polygamma(1, degrees / 2))
    half = optimize.brentq(lambda y: special.polygamma(1, y) - excess, 0.01, 1e6, xtol=1e-13)
    assert found["d0"] == pytest.approx(2 * half, rel=1e-9)
    s0_squared = np.exp(np.mean(e) + special.digamma(half) - np.log(half))
    assert found["s0_squared"] == pytest.approx(s0_squared, rel=1e-9)


@pytest.mark.parametrize("variant", FAMILY.moments)
def test_moments_recover_what_was_simulated(variant):
    truth = TRUTH | ({"d0": LARGEST} if variant == "anova" else {})
    data = statistics(seed=5, stores=20_000, truth=truth)
    found = fit("normal_inverse_gamma", data, estimator=f"moments:{variant}").hyperparameters
    assert found["mu"] == pytest.approx(truth["mu"], rel=0.01)
    assert found["kappa"] == pytest.approx(truth["kappa"], rel=0.1)
    assert found["s0_squared"] == pytest.approx(truth["s0_squared"], rel=0.05)
    assert found["d0"] == pytest.approx(truth["d0"], rel=0.1)


def test_variances_that_are_zero_by_rounding_do_not_rule_the_moments():
    data = statistics(seed=6, stores=200)
    before = fit("normal_inverse_gamma", data, estimator="moments").hyperparameters
    data["m2"][np.flatnonzero(data["n"] > 1)[:2]] = 0.0
    after = fit("normal_inverse_gamma", data, estimator="moments").hyperparameters
    assert 0.3 < after["d0"] / before["d0"] <= 1.1
    rows = one_pool(data).rows
    estimates, variance = log_variances(rows)
    assert np.isfinite(estimates["mean"]).all()
    assert np.all(variance > 0)
    held = spread_of_variances(lambda rows, v: (np.zeros(1), np.ones(1)), rows, np.array([0.2]))
    assert held[0].tolist() == [0.2]


def test_variances_as_equal_as_chance_allows_put_d0_on_its_bound():
    rng = np.random.default_rng(7)
    n = np.full(40, 9)
    # Sample variances less spread than chi-square: more alike than a common variance makes them.
    data = table(n, rng.normal(0.0, 2.0, 40), 8.0 * rng.uniform(0.9, 1.1, 40))
    found = fit("normal_inverse_gamma", data)
    assert (found.status, found.at_bound, found.boundary) == ("at_bound", ("d0",), True)
    assert found.hyperparameters["d0"] == LARGEST
    assert found.covariance[2].tolist() == [0.0] * 4
    alike = fit("normal_inverse_gamma", data | {"mean": np.full(40, 3.0)})
    assert (alike.status, alike.at_bound) == ("no_spread", ("kappa", "d0"))
    assert alike.hyperparameters["kappa"] == LARGEST


CASES = {
    "no_data": (table([0, 0], [0, 0], [0, 0]), "leave this pool out"),
    "sigma_unidentified": (table([1, 1, 1], [1, 2, 4], [0, 0, 0]), "kappa or s0_squared"),
    "no_variation_within": (table([5, 5, 5], [1, 2, 3], [0, 0, 0]), "s0_squared"),
    "equal_values": (table([50, 3, 4, 3], [2, 1, 3, 2], [0, 2, 1, 2]), "family normal"),
}


@pytest.mark.parametrize("status", CASES)
def test_data_that_determine_nothing_have_a_name_and_a_way_out(status):
    data, remedy = CASES[status]
    with pytest.raises(FitError, match=remedy):
        fit("normal_inverse_gamma", data)
    fits = fit_pools("normal_inverse_gamma", one_pool(data))
    assert fits.status == (status,)
    assert not fits.identified[0]
    assert all(np.isfinite(v).all() for v in fits.hyperparameters.values())


@pytest.mark.parametrize("status", ["sigma_unidentified", "no_variation_within", "equal_values"])
def test_holding_the_variance_is_a_way_out(status):
    data, _ = CASES[status]
    found = fit("normal_inverse_gamma", data, fixed={"s0_squared": 1.0})
    assert found.converged


def test_the_pole_of_equal_values_is_there():
    data, _ = CASES["equal_values"]
    s0 = np.array([-5.0, -10.0, -20.0])
    points = np.stack([[2.0, 0.5, 1.0 / FEWEST_DEGREES, log_s0] for log_s0 in s0])
    sketch = one_pool(data).select(np.zeros(3, int))
    assert np.all(np.diff(FAMILY.log_marginal(sketch, points)[0]) > 100)


def test_one_store_has_neither_spread():
    found = fit("normal_inverse_gamma", table([8], [3.0], [14.0]))
    assert (found.status, found.at_bound) == ("one_store", ("kappa", "d0"))
    assert found.hyperparameters["mu"] == pytest.approx(3.0)
    assert found.hyperparameters["s0_squared"] == pytest.approx(14.0 / 8.0)


def test_what_cannot_be_held_is_refused():
    with pytest.raises(FitError, match="cannot be held"):
        hbpipe.fit("normal_inverse_gamma", statistics(), fixed={"d0": 1.0})
    with pytest.raises(FitError, match="no restricted likelihood"):
        hbpipe.fit("normal_inverse_gamma", statistics(), estimator="reml")


def test_alike_stores_share_a_row_of_the_sketch():
    data = table([1, 2, 1, 2, 0, 1], [3, 4, 3, 4, 0, 5], [0, 1, 0, 1, 0, 0])
    sketch = one_pool(data)
    assert sketch.n_rows == 3
    assert sketch.rows["stores"].tolist() == [2, 1, 2]
    assert sketch.n_groups.tolist() == [5]
    assert sketch.n_values.tolist() == [7.0]


def test_prediction_is_students_t_with_the_noise_of_new_values():
    data = statistics(stores=5)
    posterior = FAMILY.update(data, TRUTH)
    for m in (1.0, 7.0):
        ahead = FAMILY.predict(posterior, m, TRUTH, [0.1, 0.9])
        scale = np.sqrt(posterior["s0_squared"] * (1 / posterior["kappa"] + 1 / m))
        law = stats.t(posterior["d0"], posterior["mu"], scale)
        np.testing.assert_allclose(ahead.quantiles[:, 1], law.ppf(0.9), rtol=1e-12)
        np.testing.assert_allclose(ahead.sd, law.std(), rtol=1e-12)
    assert STUDENT_T.describe(2.0, 0.0, 1.0, [0.5]).sd == np.inf
