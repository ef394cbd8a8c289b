"""Rising factorials against 60-digit arithmetic."""

import itertools
import math
import pickle

import mpmath
import numpy as np
import pytest
from mpmath import mp
from scipy import special

import hbpipe
from hbpipe.model.families import get_family
from hbpipe.model.marginal.log1p import log1p_integral, log1p_ratio
from hbpipe.model.marginal.log_product import log_product
from hbpipe.model.marginal.rising import EXACT_TERMS, RisingCounts

CONCENTRATIONS = (1e-3, 0.1, 1.0, 30.0, 1e3, 1e6, 1e9, 1e12, 1e15)
MEANS = (1e-6, 1e-3, 0.2, 0.5, 0.999)
STORES = ((1, 0), (1, 1), (20, 3), (33, 33), (34, 0), (500, 61), (40_000, 1), (10**6, 10**5))


@pytest.fixture(autouse=True)
def sixty_digits():
    with mp.workdps(60):
        yield


def exact_beta_binomial(n, y):
    """The log marginal of one store in coordinates, from log-gammas in 60 digits."""

    def log_marginal(logit, phi):
        mean = 1 / (1 + mpmath.exp(-logit))
        alpha, beta = mean * (1 - phi) / phi, (1 - mean) * (1 - phi) / phi
        log_beta = [
            mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)
            for a, b in ((alpha + y, beta + n - y), (alpha, beta))
        ]
        return mpmath.log(mpmath.binomial(n, y)) + log_beta[0] - log_beta[1]

    return log_marginal


def exact_gamma_poisson(y, exposure):
    def log_marginal(log_mean, kappa):
        shape, z = 1 / kappa, mpmath.exp(log_mean) * exposure
        return (
            mpmath.loggamma(shape + y)
            - mpmath.loggamma(shape)
            - mpmath.loggamma(y + 1)
            + y * mpmath.log(kappa * z)
            - (y + shape) * mpmath.log(1 + kappa * z)
        )

    return log_marginal


def check(family, statistics, point, exact, *, derivatives):
    """Compare value, gradient and Hessian of one store with exact ones, to 1e-8."""
    sketch = family.compress(
        {name: np.array([value]) for name, value in statistics.items()}, np.zeros(1, int), 1
    )
    value, gradient, hessian = family.log_marginal(sketch, np.array([point]))
    where = f"{statistics} at {point}"
    at = [mpmath.mpf(float(x)) for x in point]
    truth = exact(*at)
    assert abs(value[0] - truth) <= 1e-8 * max(1, abs(truth)), where
    if not derivatives:
        return
    for i in range(2):
        order = [0, 0]
        order[i] = 1
        slope = mpmath.diff(exact, at, tuple(order))
        assert abs(gradient[0, i] - slope) <= 1e-8 * max(1, abs(slope)), where
        for j in range(i, 2):
            both = list(order)
            both[j] += 1
            curvature = mpmath.diff(exact, at, tuple(both))
            assert abs(hessian[0, i, j] - curvature) <= 1e-8 * max(1, abs(curvature)), where


@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_beta_binomial_likelihood_to_eight_digits(concentration):
    family = get_family("beta_binomial")
    for mean, (n, y) in itertools.product(MEANS, STORES):
        point = family.to_coordinates({"mean": mean, "concentration": concentration})
        check(
            family,
            {"successes": y, "trials": n},
            point,
            exact_beta_binomial(n, y),
            derivatives=mean in (1e-3, 0.5) and n in (1, 34, 500, 10**6),
        )


@pytest.mark.parametrize("shape", [1e-3, 0.5, 10.0, 1e4, 1e8, 1e15])
def test_gamma_poisson_likelihood_to_eight_digits(shape):
    family = get_family("gamma_poisson")
    for mean, (y, exposure) in itertools.product(
        (1e-3, 1.0, 50.0), ((0, 0.5), (0, 1e5), (1, 1e-2), (7, 3.0), (40, 35.0), (10**5, 900.0))
    ):
        point = family.to_coordinates({"mean": mean, "shape": shape})
        check(
            family,
            {"count": y, "exposure": exposure},
            point,
            exact_gamma_poisson(y, exposure),
            derivatives=True,
        )


@pytest.mark.parametrize("phi", [0.0, 1e-15, 1e-6, 0.01, 0.3, 5.0, 1e6])
@pytest.mark.parametrize("a", [1e-9, 0.02, 1.0])
def test_sum_is_the_sum(a, phi):
    values = np.array([0, 1, 2, EXACT_TERMS - 1, EXACT_TERMS, EXACT_TERMS + 1, 100, 700])
    sums = RisingCounts.of(np.zeros(len(values), int), values, 1)(np.array([a]), np.array([phi]))
    terms = [(mpmath.mpf(a) + k * mpmath.mpf(phi), k) for m in values for k in range(m)]
    for found, exact in (
        (sums.value, sum(mpmath.log(x) for x, _ in terms)),
        (sums.d_a, sum(1 / x for x, _ in terms)),
        (sums.d_phi, sum(k / x for x, k in terms)),
        (sums.d_a_a, -sum(1 / x**2 for x, _ in terms)),
        (sums.d_a_phi, -sum(k / x**2 for x, k in terms)),
        (sums.d_phi_phi, -sum(k**2 / x**2 for x, k in terms)),
    ):
        assert abs(found[0] - exact) <= 1e-12 * max(1, abs(exact))


FRACTIONS = (0.01, 0.3, 1.5, 7.25, EXACT_TERMS - 0.4, EXACT_TERMS + 0.6, 812.7, 1e6 / 1.7)


def exact_rising(m):
    """R for any m ≥ 0: m log φ + log Γ(a/φ + m) − log Γ(a/φ)."""

    def rising(a, phi):
        x = a / phi
        return m * mpmath.log(phi) + mpmath.loggamma(x + m) - mpmath.loggamma(x)

    return rising


def fields(sums):
    return {
        (0, 0): sums.value[0],
        (1, 0): sums.d_a[0],
        (0, 1): sums.d_phi[0],
        (2, 0): sums.d_a_a[0],
        (1, 1): sums.d_a_phi[0],
        (0, 2): sums.d_phi_phi[0],
    }


@pytest.mark.parametrize("phi", [1e-15, 1e-6, 0.01, 0.3, 5.0, 1e6])
@pytest.mark.parametrize("a", [1e-9, 0.02, 1.0])
def test_what_is_not_whole_has_the_gamma_functions_value(a, phi):
    at = mpmath.mpf(a), mpmath.mpf(phi)
    for m in FRACTIONS:
        sums = RisingCounts.of(np.zeros(1, int), np.array([m]), 1)(np.array([a]), np.array([phi]))
        for order, found in fields(sums).items():
            truth = mpmath.diff(exact_rising(mpmath.mpf(m)), at, order)
            assert abs(found - truth) <= 1e-9 * max(1, abs(truth)), (m, order)


def test_without_overdispersion_what_is_not_whole_is_a_power():
    values = np.array(FRACTIONS)
    sums = RisingCounts.of(np.zeros(len(values), int), values, 1)(np.array([0.2]), np.zeros(1))
    total, pairs = values.sum(), np.sum(values * (values - 1) / 2)
    found = fields(sums)
    for order, truth in {
        (0, 0): total * np.log(0.2),
        (1, 0): total / 0.2,
        (0, 1): pairs / 0.2,
        (2, 0): -total / 0.2**2,
        (1, 1): -pairs / 0.2**2,
        (0, 2): -np.sum(values * (values - 1) * (2 * values - 1) / 6) / 0.2**2,
    }.items():
        assert found[order] == pytest.approx(truth, rel=1e-11), order


def test_whole_numbers_have_the_same_bits_among_fractions():
    rng = np.random.default_rng(5)
    pool, values = rng.integers(0, 3, 300), rng.poisson(20, 300)
    mixed = np.where(pool == 1, values / 1.7, values.astype(float))
    at = np.array([0.3, 0.1, 0.9]), np.array([0.0, 0.2, 1.5])
    whole, both = (RisingCounts.of(pool, m, 3)(*at) for m in (values, mixed))
    for order, found in vars(both).items():
        np.testing.assert_array_equal(found[[0, 2]], getattr(whole, order)[[0, 2]])
    alone = RisingCounts.of(pool, mixed, 3).select(np.array([1]))(at[0][1:2], at[1][1:2])
    np.testing.assert_array_equal(alone.value, both.value[1:2])


def test_fractions_merge_and_add_up():
    values = np.array([0.5, 3.0, 40.25, 0.5, 100.0, 7.1])
    pool = np.array([0, 0, 1, 1, 0, 0])
    whole = RisingCounts.of(pool, values, 2)
    merged = RisingCounts.merged([RisingCounts.of(pool[i::2], values[i::2], 2) for i in range(2)])
    np.testing.assert_array_equal(merged.counts["value"], whole.counts["value"])
    np.testing.assert_allclose(whole.total(), [110.6, 40.75])


@pytest.mark.parametrize("u", [0.0, 1e-12, 1e-3, 0.0999, 0.1001, 0.7, 30.0, 1e8])
@pytest.mark.parametrize("function", [log1p_integral, log1p_ratio])
def test_series_and_closed_form_meet(function, u):
    def exact(x):
        if x == 0:
            return mpmath.mpf(0) if function is log1p_integral else mpmath.mpf(1)
        ratio = mpmath.log1p(x) / x
        return ratio + mpmath.log1p(x) - 1 if function is log1p_integral else ratio

    at = mpmath.mpf(u) if u else mpmath.mpf(10) ** -25
    for order, found in enumerate(function(np.array([u]))):
        truth = mpmath.diff(exact, at, order) if order else exact(at)
        assert abs(found[0] - truth) <= 2e-12 * abs(truth) + mpmath.mpf(10) ** -20


@pytest.mark.parametrize("w", [0.0, 1e-14, 1e-5, 1 / EXACT_TERMS])
@pytest.mark.parametrize("length", [1, 2, 40, 3000])
def test_product_of_one_plus_multiples(w, length):
    p, p_w, p_ww = log_product(np.array([w]), np.array([float(length)]))
    exact = mpmath.mpf(w)
    terms = [(1 + j * exact, j) for j in range(length)]
    truth = sum(mpmath.log(x) for x, _ in terms)
    slope = sum(j / x for x, j in terms)
    curvature = -sum((j / x) ** 2 for x, j in terms)
    assert abs(p[0] - truth) <= 1e-13 * max(1, truth)
    assert abs(p_w[0] - slope) <= 1e-12 * max(1, slope)
    assert abs(p_ww[0] - curvature) <= 1e-12 * max(1, -curvature)


def test_tables_count_stores_once():
    values = np.array([0, 3, 3, 40, 1000, 5])
    pool = np.array([0, 0, 1, 1, 0, 0])
    counts = RisingCounts.of(pool, values, 2)
    np.testing.assert_array_equal(counts.total(), [1008, 43])
    first = counts.tails.pool == 0
    np.testing.assert_array_equal(counts.tails["stores"][first][:5], [3, 3, 3, 2, 2])
    assert counts.tails["k"].max() == EXACT_TERMS - 1
    np.testing.assert_array_equal(counts.beyond["length"], [1000 - EXACT_TERMS, 40 - EXACT_TERMS])


def test_huge_values_make_no_huge_tables():
    values = np.array([10**12, 3, 10**12 + 1])
    counts = RisingCounts.of(np.zeros(3, int), values, 1)
    assert len(counts.counts.pool) == 3
    assert len(counts.tails.pool) == EXACT_TERMS
    assert len(counts.beyond.pool) == 2


@pytest.mark.parametrize("m", [1, 3, 8, 9, 20.5, 500, 10**5])
@pytest.mark.parametrize("phi", [0.0, 1e-15, 1e-6, 1e-2, 1.0, 50.0, 1e8])
def test_derivatives_along_a(m, phi):
    counts = RisingCounts.of(np.zeros(1, int), np.array([m]), 1)
    for a in (1e-6, 0.1, 1.0, 30.0):
        found = counts.along(np.array([a]), np.array([phi]))
        x, y = mpmath.mpf(a), mpmath.mpf(phi)
        if phi == 0.0:
            exact = m * mpmath.log(x), m / x, -m / x**2
        else:
            z = x / y
            exact = (
                mpmath.loggamma(z + m) - mpmath.loggamma(z) + m * mpmath.log(y),
                (mpmath.digamma(z + m) - mpmath.digamma(z)) / y,
                (mpmath.psi(1, z + m) - mpmath.psi(1, z)) / y**2,
            )
        for (number,), truth in zip(found, exact, strict=True):
            assert abs(number - truth) <= 1e-11 * max(1, abs(truth))
        (value,) = counts.value(np.array([a]), np.array([phi]))
        assert value == pytest.approx(found[0][0], rel=1e-13, abs=1e-13)


def test_merged_counts_are_the_counts_of_all():
    rng = np.random.default_rng(3)
    pool, values = rng.integers(0, 4, 200), rng.poisson(30, 200)
    whole = RisingCounts.of(pool, values, 4)
    parts = [RisingCounts.of(pool[i::3], values[i::3], 4) for i in range(3)]
    merged = RisingCounts.merged(parts)
    for name in ("value", "count"):
        np.testing.assert_array_equal(merged.counts[name], whole.counts[name])
    np.testing.assert_array_equal(merged.counts.pool, whole.counts.pool)


def test_derived_tables_are_not_pickled():
    counts = RisingCounts.of(np.zeros(3, int), np.array([1, 50, 100]), 1)
    before = len(pickle.dumps(counts))
    counts(np.ones(1), np.ones(1))
    assert len(pickle.dumps(counts)) == before


def test_many_stores_lose_no_digits_of_their_likelihood():
    rng = np.random.default_rng(3)
    exposure = np.maximum(1, rng.lognormal(np.log(28.0), 1.0, 400_000)).round()
    count = rng.poisson(exposure * rng.gamma(3.0, 2.0, 400_000))
    fit = hbpipe.fit(
        "gamma_poisson",
        {"count": count, "exposure": exposure},
        fixed={"shape": 3.0, "rate": 0.5},
    )
    each = special.gammaln(count + 3.0) - special.gammaln(3.0) - special.gammaln(count + 1.0)
    each += 3.0 * np.log(0.5) + count * np.log(exposure) - (count + 3.0) * np.log(0.5 + exposure)
    assert fit.log_marginal_likelihood == pytest.approx(math.fsum(each), rel=1e-12)


def test_binomial_coefficients_of_many_stores_lose_no_digits():
    rng = np.random.default_rng(3)
    trials = np.maximum(1, rng.lognormal(np.log(200.0), 1.5, 300_000)).astype(np.int64)
    successes = rng.binomial(trials, rng.beta(4.0, 36.0, 300_000))
    data = {"successes": successes, "trials": trials}
    sketch = get_family("beta_binomial").compress(data, np.zeros(300_000, np.int64), 1)
    each = special.gammaln(trials + 1.0) - special.gammaln(successes + 1.0)
    each -= special.gammaln(trials - successes + 1.0)
    assert sketch.log_choose[0] == pytest.approx(math.fsum(each), rel=1e-12)
