"""Natural splines: smooth, straight outside, and the same space as scipy's."""

import pickle

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from hbpipe.errors import FitError
from hbpipe.model.splines import NaturalSpline, natural_spline

VALUES = np.log(np.random.default_rng(1).gamma(0.5, 200.0, 500) + 1.0)


@pytest.mark.parametrize("df", [1, 2, 3, 5])
def test_the_basis_spans_the_natural_splines_with_its_knots(df):
    spline = natural_spline(VALUES, df)
    assert spline.df == df
    basis = np.column_stack([np.ones(500), spline(VALUES)])
    knots = np.array(spline.knots)
    inside = (knots[0] <= VALUES) & (knots[-1] >= VALUES)
    heights = np.random.default_rng(2).normal(size=df + 1)
    if df == 1:
        target = np.interp(VALUES, knots, heights)
    else:
        target = CubicSpline(knots, heights, bc_type="natural")(VALUES)
    coefficients, *_ = np.linalg.lstsq(basis[inside], target[inside], rcond=None)
    np.testing.assert_allclose(basis[inside] @ coefficients, target[inside], atol=1e-9)


def test_outside_the_outer_knots_it_is_a_straight_line():
    spline = natural_spline(VALUES, 4)
    first, last = spline.knots[0], spline.knots[-1]
    for end in (first - np.arange(1.0, 5.0), last + np.arange(1.0, 5.0)):
        np.testing.assert_allclose(np.diff(spline(end), 2, axis=0), 0.0, atol=1e-9)


def test_knots_are_quantiles_and_travel():
    spline = natural_spline(VALUES, 3)
    np.testing.assert_allclose(spline.knots, np.quantile(VALUES, [0.05, 0.35, 0.65, 0.95]))
    again = pickle.loads(pickle.dumps(spline))
    np.testing.assert_array_equal(again(VALUES[:5]), spline(VALUES[:5]))
    assert np.isnan(spline([np.nan, 1.0])[0]).all()


def test_equal_values_do_not_make_knots_coincide():
    many = np.repeat([0.0, 1.0, 2.0, 3.0, 4.0], [400, 20, 20, 20, 20])
    assert np.all(np.diff(natural_spline(many, 3).knots) > 0)
    for values, df in (([1.0, 1.0, 2.0], 2), (VALUES, 0), ([], 1)):
        with pytest.raises(FitError, match="distinct values"):
            natural_spline(values, df)


def test_a_bend_in_the_data_is_found():
    x = np.linspace(0.0, 6.0, 400)
    y = np.where(x < 3.0, 0.0, x - 3.0)
    spline = natural_spline(x, 4)
    basis = np.column_stack([np.ones(400), spline(x)])
    coefficients, *_ = np.linalg.lstsq(basis, y, rcond=None)
    assert np.max(np.abs(basis @ coefficients - y)) < 0.15
    assert isinstance(spline, NaturalSpline)
