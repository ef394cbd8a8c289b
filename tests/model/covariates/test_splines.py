"""Natural splines against scipy's, and their knots against sorted values."""

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from hbpipe.errors import FitError
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


def test_sizes_that_hardly_differ_have_no_curve():
    with pytest.raises(FitError, match="4 knots of a spline fall on 2 different values"):
        quantile_knots(np.array([0.0, 1.0, 2.0]), np.array([5, 90, 20]), 3)
    with pytest.raises(FitError, match="fall on 0 different values"):
        quantile_knots(np.empty(0), np.empty(0, np.int64), 1)
