"""Coding of attributes, column by column."""

import numpy as np
import pytest

from hbpipe.errors import FitError
from hbpipe.model.covariates.design import (
    Categories,
    Curve,
    Design,
    Number,
    check_independent,
    is_known,
)
from hbpipe.model.covariates.splines import natural_spline

KINDS = np.array(["mall", "street", None, "street", "kiosk", "mall", "street"], object)
SIZES = np.array([100.0, 50.0, 80.0, np.nan, 30.0, 120.0, 0.0])


def test_the_most_frequent_level_is_the_reference_and_ties_go_by_name():
    coded = Categories.of("format", KINDS)
    assert (coded.reference, coded.others) == ("street", ("kiosk", "mall"))
    assert coded.labels == ("format=kiosk", "format=mall")
    assert Categories.of("x", np.array(["b", "a"], object)).reference == "a"


def test_levels_that_are_not_known_and_nulls_are_unknown():
    coded = Categories.of("format", KINDS)
    columns = coded.columns(np.array(["mall", "street", "kiosk", None, "tent"], object))
    assert np.array_equal(columns[:3], [[0, 1], [0, 0], [1, 0]])
    assert np.isnan(columns[3:]).all()


def test_numbers_are_centred_at_a_round_number_that_one_more_store_does_not_move():
    values = np.exp(np.random.default_rng(3).normal(6.0, 0.5, 500))
    coded = Number.of("size", values, "log")
    assert coded.labels == ("log_size",)
    assert round(coded.centre, 2) == coded.centre
    assert abs(coded.centre - 6.0) < 0.05
    assert Number.of("size", np.append(values, 4000.0), "log") == coded
    assert np.allclose(coded.columns(values)[:, 0], np.log(values) - coded.centre)


@pytest.mark.parametrize(("transform", "unknown"), [(None, [3]), ("log", [3, 6]), ("log1p", [3])])
def test_numbers_without_a_value_or_a_logarithm_are_unknown(transform, unknown):
    columns = Number.of("size", SIZES, transform).columns(SIZES)
    assert np.flatnonzero(np.isnan(columns[:, 0])).tolist() == unknown


def test_a_curve_takes_stores_without_data_for_the_smallest():
    sizes, counts = np.arange(0.0, 50.0), np.full(50, 2)
    coded = Curve.of("n", sizes, counts, 2)
    assert coded.labels == ("spline_log_n_1", "spline_log_n_2")
    columns = coded.columns(np.array([0.0, 1.0, 20.0, 1000.0]))
    assert np.array_equal(columns[0], columns[1])
    log_n = np.log([1.0, 20.0, 1000.0])
    assert np.allclose(columns[1:], natural_spline(log_n, np.array(coded.knots)))


@pytest.mark.parametrize(
    ("sizes", "counts", "columns", "story"),
    [
        ([4.0, 9.0, 20.0, 50.0], [25, 25, 25, 25], 3, "a curve, with 3 column(s), as asked for"),
        ([4.0, 9.0, 20.0], [40, 30, 30], 2, "a curve, with 2 column(s) in place of 3: too many"),
        ([4.0, 9.0, 20.0], [1, 990, 3], 1, "a straight line, with 1 column(s) in place of 3: too"),
        ([9.0], [50], 0, "left out, with 0 column(s) in place of 3: all stores with data are of"),
        ([0.0], [50], 0, "left out"),
    ],
)
def test_a_curve_says_what_ties_have_left_of_it(sizes, counts, columns, story):
    coded = Curve.of("n", np.array(sizes), np.array(counts), 3)
    assert coded.labels == tuple(f"spline_log_n_{k}" for k in range(1, columns + 1))
    assert coded.columns(np.array([0.0, 9.0, 1e6])).shape == (3, columns)
    assert coded.missing == 3 - columns
    assert f"the spline in log n is {story}" in coded.story
    assert coded.told()["asked"] == 3


def test_a_design_has_the_intercept_first_and_rows_known_or_not():
    design = Design((Categories.of("format", KINDS), Number.of("size", SIZES, "log")))
    x = design.matrix({"format": KINDS, "size": SIZES})
    assert design.labels == ("intercept", "format=kiosk", "format=mall", "log_size")
    assert np.flatnonzero(~is_known(x)).tolist() == [2, 3, 6]
    assert np.array_equal(x[[0, 1, 4, 5], 0], np.ones(4))
    assert np.isnan(x[2]).all()
    assert design.told()["format"] == {"reference": "street", "levels": ["kiosk", "mall"]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Categories.of("f", np.array(["a", "a", None], object)), "has 1 levels, a alone"),
        (lambda: Categories.of("f", np.array([None], object)), "has 0 levels"),
        (lambda: Categories.of("f", np.array([str(k) for k in range(101)], object)), "101 levels"),
        (lambda: Number.of("s", np.array([2.0, np.nan, 2.0])), "'s' is constant: 2"),
        (lambda: Number.of("s", np.array([0.0, -1.0]), "log"), "has no value that can be used"),
        (lambda: Number.of("s", np.array([1e9, 1e9 + 1e-6])), "is constant"),
    ],
)
def test_what_cannot_be_coded_is_named(make, message):
    with pytest.raises(FitError, match=message):
        make()


def test_columns_that_follow_from_others_are_named():
    rng = np.random.default_rng(4)
    a, b = rng.normal(1e4, 3.0, 50), rng.normal(size=50)
    labels = ["intercept", "a", "b", "c"]
    check_independent(np.column_stack([np.ones(50), a, b, a * b]), labels)
    with pytest.raises(FitError, match="'c' is a combination of intercept, a, b"):
        check_independent(np.column_stack([np.ones(50), a, b, a + b - 1e4]), labels)
    with pytest.raises(FitError, match="'b' is constant"):
        check_independent(np.column_stack([np.ones(50), a, np.full(50, 3.0), b]), labels)
    with pytest.raises(FitError, match="'b' is constant"):
        check_independent(np.column_stack([np.ones(50), a, np.zeros(50), b]), labels)
