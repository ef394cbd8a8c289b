"""Critical values of robust intervals: published numbers, linear programming, simulation."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from hbpipe.errors import FitError
from hbpipe.model.cross_checks.critical import (
    cva,
    least_favourable,
    non_coverage,
    normal_non_coverage,
    relative_cva,
)


def test_without_bias_it_is_the_normal_quantile():
    for kurtosis in (1.0, 3.0, np.inf):
        for alpha in (0.05, 0.2):
            expected = stats.norm.ppf(1 - alpha / 2)
            np.testing.assert_allclose(cva(0.0, kurtosis, alpha), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("m2", "kurtosis", "alpha", "published"),
    [
        # From the tests of the authors' R package ebci, version 1.0.0.
        (25.0, 3.0, 0.05, 11.88358367),
        (1.0, 3.0, 0.2, 1.8494683),
        (100.0, 3.0, 0.05, 24.86172217),
        (2.8**2, 8.0, 0.1, 7.0779747158),
    ],
)
def test_published_critical_values(m2, kurtosis, alpha, published):
    np.testing.assert_allclose(cva(m2, kurtosis, alpha), published, rtol=1e-8)


def test_published_non_coverage():
    # Same source.
    found = non_coverage(np.array([1.0]), 3.0, np.array([11.9699639845401]))
    np.testing.assert_allclose(found, 6.0216e-05, rtol=1e-4)
    found = non_coverage(np.array([2.8**2]), 8.0, np.array([7.1324290147839279896]))
    np.testing.assert_allclose(found, 0.09805099, rtol=1e-7)


def test_a_kurtosis_of_one_is_a_bias_of_one_size():
    m2 = np.array([0.01, 1.0, 9.0, 400.0])
    # (Z + b)² is noncentral χ²₁.
    expected = np.sqrt(stats.ncx2.ppf(0.95, 1, m2))
    np.testing.assert_allclose(cva(m2, 1.0), expected, rtol=1e-7)


def test_it_grows_with_the_moments_and_with_confidence():
    m2 = np.linspace(0.0, 30.0, 61)
    for kurtosis in (1.0, 3.0, 10.0, np.inf):
        assert np.all(np.diff(cva(m2, kurtosis)) > 0)
    tables = [cva(m2, kurtosis) for kurtosis in (1.0, 1.5, 3.0, 10.0, 1e6, np.inf)]
    assert np.all(np.diff(tables, axis=0) >= -1e-9)
    assert np.all(np.diff([cva(m2, 3.0, a) for a in (0.5, 0.1, 0.01)], axis=0) > 0)


def by_linear_programming(m2: float, kurtosis: float, chi: float) -> float:
    """The supremum over laws of b² on a grid of 2,000 points."""
    far = np.sqrt(max(kurtosis * m2 if np.isfinite(kurtosis) else 0.0, (chi + 6) ** 2))
    grid = np.unique(np.append(np.linspace(0.0, far, 2000) ** 2, m2))
    miss = special.ndtr(-np.sqrt(grid) - chi) + special.ndtr(np.sqrt(grid) - chi)
    bounds = {} if np.isinf(kurtosis) else {"A_ub": [(grid / m2) ** 2], "b_ub": [kurtosis]}
    found = optimize.linprog(
        -miss, A_eq=[np.ones(len(grid)), grid / m2], b_eq=[1.0, 1.0], method="highs", **bounds
    )
    return float(-found.fun)


def test_the_two_point_law_is_the_worst_of_all():
    rng = np.random.default_rng(1)
    for kurtosis in (1.2, 2.0, 3.0, 8.0, np.inf):
        m2 = np.exp(rng.uniform(-2.5, 4.0, 8))
        chi = 1.96 * np.sqrt(1 + m2) * np.exp(rng.uniform(-0.5, 0.5, 8))
        found = non_coverage(m2, kurtosis, chi)
        for k in range(8):
            # The grid can only fall short, by a little.
            expected = by_linear_programming(m2[k], kurtosis, chi[k])
            assert expected - 2e-7 <= found[k] <= expected + 2e-5, (m2[k], kurtosis, chi[k])


@settings(max_examples=20)
@given(st.floats(1e-3, 1e3), st.sampled_from([1.0, 1.3, 3.0, 20.0, np.inf]))
def test_the_worst_law_has_the_moments(m2, kurtosis):
    chi = cva(m2, kurtosis)
    law = least_favourable(np.array([m2]), kurtosis, chi)
    assert np.all(law.probabilities >= 0)
    np.testing.assert_allclose(law.probabilities.sum(), 1.0)
    np.testing.assert_allclose(np.sum(law.probabilities * law.values), m2, rtol=1e-9)
    second = np.sum(law.probabilities * law.values**2)
    assert second <= kurtosis * m2**2 * (1 + 1e-9)
    np.testing.assert_allclose(non_coverage(np.array([m2]), kurtosis, chi), 0.05, rtol=1e-9)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.floats(0.0, 20.0), st.floats(0.01, 1.0)), min_size=1, max_size=6),
    st.sampled_from([0.05, 0.3]),
)
@example(atoms=[(2e-313, 1.0)], alpha=0.05)
def test_no_other_law_is_covered_less(atoms, alpha):
    values, weights = (np.array(x) for x in zip(*atoms, strict=True))
    weights = weights / weights.sum()
    m2 = float(weights @ values)
    kurtosis = max(1.0, float(weights @ values**2) / m2**2) if m2 > 1e-100 else 1.0
    for bound in (kurtosis * (1 + 1e-12), np.inf):
        chi = cva(m2, bound, alpha)
        root = np.sqrt(values)
        assert weights @ (special.ndtr(-root - chi) + special.ndtr(root - chi)) <= alpha + 1e-9


def test_the_spline_is_as_good_as_exact_values():
    rng = np.random.default_rng(2)
    weight = np.concatenate(
        [rng.uniform(size=200), 10 ** rng.uniform(-8, 0, 100), 1 - 10 ** rng.uniform(-7, 0, 100)]
    )
    for kurtosis in (1.0, 3.0, np.inf):
        for alpha in (0.05, 0.5):
            exact = cva((1 - weight) / weight, kurtosis, alpha) * np.sqrt(weight)
            np.testing.assert_allclose(relative_cva(weight, kurtosis, alpha), exact, rtol=1e-5)


@pytest.mark.parametrize("kurtosis", [1.0, 2.0, 3.0, 20.0, 40.0, np.inf])
def test_without_noise_it_is_chebyshevs_or_cantellis_bound(kurtosis):
    limit = relative_cva(np.zeros(1), kurtosis, 0.05)
    near = cva(1e11, kurtosis) / np.sqrt(1e11)
    np.testing.assert_allclose(limit, near, rtol=1e-4)
    assert cva(np.inf, kurtosis) == np.inf
    assert relative_cva(np.ones(1), kurtosis, 0.05)[0] == pytest.approx(1.959964, rel=1e-6)


def test_how_far_a_normal_interval_may_miss():
    # At κ = ∞ and little weight: 1/z², 26 % where 5 % is said (their Figure 1).
    assert normal_non_coverage(np.array([1e-6]), np.inf, 0.05)[0] == pytest.approx(0.26, abs=0.01)
    weights = np.array([0.2, 0.5, 0.9])
    found = normal_non_coverage(weights, np.inf, 0.05)
    assert np.all(np.diff(found) < 0)
    assert np.all(found > 0.05)
    # The robust interval is longer exactly as far as that is above 5 %.
    assert np.all(relative_cva(weights, np.inf, 0.05) > 1.96)


@pytest.mark.parametrize(("m2", "kurtosis", "alpha"), [(-1, 3, 0.05), (1, 0.5, 0.05), (1, 3, 0)])
def test_arguments_outside_their_range(m2, kurtosis, alpha):
    with pytest.raises(FitError, match="expected: moments of at least 0"):
        cva(m2, kurtosis, alpha)
