"""Natural splines against scipy's, and their knots against sorted values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline

from hbpipe.model.covariates.splines import natural_spline, quantile_knots

KNOTS = np.array([-1.0, 0.2, 0.9, 2.5])


def test_every_natural_cubic_spline_is_a_combination_of_the_columns():
    rng = np.random.default_rng(1)
    x = np.linspace(-1.0, 2.5, 60)
    basis = np.column_stack([np.ones_like(x), natural_spline(x, KNOTS)])
    for _ in range(5):
        truth = CubicSpline(KNOTS, rng.normal(size=4), bc_type="natural")(x)
        coefficients, *_ = np.linalg.lstsq(basis, truth, rcond=None)
        assert np.allclose(basis @ coefficients, truth, atol=1e-12)


@pytest.mark.parametrize("ends", [(-9.0, -1.0), (2.5, 30.0)])
def test_beyond_the_outer_knots_columns_are_straight(ends):
    x = np.linspace(*ends, 9)
    assert np.allclose(np.diff(natural_spline(x, KNOTS), n=2, axis=0), 0.0, atol=1e-10)


def test_two_knots_are_a_straight_line():
    x = np.array([0.5, 1.0, 7.0])
    assert np.array_equal(natural_spline(x, np.array([0.5, 2.0]))[:, 0], x - 0.5)


@pytest.mark.parametrize("columns", [1, 2, 3, 5, 8])
def test_knots_are_values_at_quantiles(columns):
    rng = np.random.default_rng(2)
    values, counts = rng.permutation(np.arange(40.0)), rng.integers(1, 9, 40)
    every = np.sort(np.repeat(values, counts))
    knots = quantile_knots(values, counts, columns)
    outer = {1: 0.1, 2: 0.1, 3: 0.05, 5: 0.05, 8: 0.025}[columns]
    shares = np.linspace(outer, 1 - outer, columns + 1)
    assert np.array_equal(knots, np.quantile(every, shares, method="inverted_cdf"))


def test_knots_on_one_value_are_one_knot():
    values, counts = np.array([0.0, 1.0, 2.0, 3.0]), np.array([5, 60, 5, 30])
    assert quantile_knots(values, counts, 4).tolist() == [0.0, 1.0, 3.0]
    twins = np.array([0.0, 1.0, 1.0 + 1e-12, 2.0])
    assert quantile_knots(twins, np.full(4, 10), 3).tolist() == [0.0, 1.0, 2.0]


SIZES = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 1000)), max_size=12)


@given(SIZES, st.integers(1, 10))
def test_any_sizes_have_independent_columns(sizes, columns):
    distinct = dict(sizes)
    log_n = np.log(np.array(sorted(distinct), float))
    counts = np.array([distinct[n] for n in sorted(distinct)], np.int64)
    knots = quantile_knots(log_n, counts, columns)
    assert len(knots) <= columns + 1
    assert len(knots) == 0 if len(distinct) < 2 else len(knots) >= 2
    assert np.all(np.diff(knots) > 0)
    assert set(knots) <= set(log_n)
    x = np.column_stack([np.ones_like(log_n), natural_spline(log_n, knots)])
    assert np.linalg.matrix_rank(x) == min(x.shape)


def test_sizes_of_which_most_are_equal_have_a_straight_line():
    values, counts = np.array([-1.0, 1.0, 2.0]), np.array([1, 990, 3])
    knots = quantile_knots(values, counts, 3)
    assert knots.tolist() == [-1.0, 2.0]
    assert np.array_equal(natural_spline(values, knots)[:, 0], values + 1.0)


@pytest.mark.parametrize("values", [np.array([2.0]), np.empty(0), np.array([2.0, 2.0 + 1e-12])])
def test_sizes_that_are_all_equal_have_no_column(values):
    knots = quantile_knots(values, np.full(len(values), 7), 3)
    assert knots.shape == (0,)
    assert natural_spline(np.array([1.0, 5.0]), knots).shape == (2, 0)
