"""Covariates in the configuration, and attributes of units from the table of stores."""

import numpy as np
import pyarrow as pa
import pytest

from hbpipe.data.attributes import is_categorical, look_up, to_values
from hbpipe.data.covariates import Covariate, attributes
from hbpipe.data.parsing import parse_metric

CONVERSION = {"family": "beta_binomial", "successes": "converted", "trials": "rows"}


def test_an_item_is_a_column_a_logarithm_categories_or_a_curve():
    raw = [
        "format",
        {"column": "size_m2", "transform": "log"},
        {"column": "region", "categorical": True},
        {"spline": "n", "df": 4},
    ]
    metric = parse_metric("m", {**CONVERSION, "covariates": raw})
    assert metric.covariates == (
        Covariate("format"),
        Covariate("size_m2", transform="log"),
        Covariate("region", categorical=True),
        Covariate("n", columns=4),
    )
    assert attributes(metric.covariates) == ("format", "size_m2", "region")
    assert metric.measured_by() == parse_metric("m", CONVERSION).measured_by()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("format", "covariates is a list"),
        ([], "covariates is a list"),
        ([1], "the intercept is always there"),
        ([{"colum": "format"}], "an item is a column"),
        ([{"column": "format", "transfrom": "log"}], "did you mean 'transform'"),
        ([{"column": "size", "transform": "sqrt"}], "unknown transform 'sqrt'"),
        ([{"column": "f", "categorical": 1}], "categorical is true or false"),
        ([{"column": "f", "categorical": True, "transform": "log"}], "have no logarithm"),
        (["format", "format"], "'format' is there 2 times"),
        (["n"], "write {spline: n}"),
        ([{"spline": "size"}], "spline is about n"),
        ([{"spline": "n", "df": 0}], "from 1 to 10, found 0"),
        ([{"spline": "n", "df": True}], "from 1 to 10, found True"),
        ([{"spline": "n", "knots": 3}], "unknown key 'knots'"),
    ],
)
def test_what_is_no_covariate_is_named(raw, message):
    with pytest.raises(ValueError, match=message):
        parse_metric("m", {**CONVERSION, "covariates": raw})


def test_a_family_without_one_mean_takes_none():
    raw = {"family": "normal_inverse_gamma", "value": "amount", "covariates": ["format"]}
    with pytest.raises(ValueError, match="normal_inverse_gamma takes none"):
        parse_metric("m", raw)


def test_with_covariates_only_what_is_beside_the_location_may_be_fixed():
    raw = {**CONVERSION, "covariates": ["format"]}
    metric = parse_metric("m", {**raw, "fixed": {"concentration": 40}})
    assert metric.fixed == {"concentration": 40.0}
    with pytest.raises(ValueError, match="unknown 'alpha'; known: concentration"):
        parse_metric("m", {**raw, "fixed": {"alpha": 5}})


LISTED = pa.table(
    {
        "chain": ["a", "a", "b"],
        "store": ["s1", "s2", "s1"],
        "format": ["mall", None, "street"],
        "size": pa.array([10, 20, 30], pa.int32()),
    }
)


def test_units_bring_their_own_row_and_nulls_where_they_have_none():
    keys = (pa.array(["b", "a", "c", "a"]), pa.array(["s1", "s1", "s1", "s2"]))
    found = look_up(keys, LISTED, ("chain", "store"), ("size", "format"))
    assert found.column_names == ["size", "format"]
    assert found["format"].to_pylist() == ["street", "mall", None, None]
    assert found["size"].to_pylist() == [30, 10, None, 20]


def test_nobody_is_found_in_an_empty_table():
    found = look_up((pa.array(["s1"]),), LISTED.slice(0, 0), ("store",), ("size",))
    assert found["size"].to_pylist() == [None]


@pytest.mark.parametrize(
    ("kind", "categorical", "expected"),
    [
        (pa.string(), False, True),
        (pa.large_string(), True, True),
        (pa.bool_(), False, True),
        (pa.dictionary(pa.int8(), pa.string()), False, True),
        (pa.int64(), False, False),
        (pa.int16(), True, True),
        (pa.float32(), False, False),
        (pa.float64(), True, None),
        (pa.decimal128(9, 2), False, False),
        (pa.date32(), False, None),
        (pa.list_(pa.string()), False, None),
    ],
)
def test_types_decide_what_is_a_category(kind, categorical, expected):
    assert is_categorical(Covariate("x", categorical=categorical), kind) is expected


def test_values_are_text_or_numbers():
    boolean = pa.chunked_array([[True, None], [False]])
    assert to_values(boolean, True).tolist() == ["true", None, "false"]
    coded = pa.chunked_array([pa.array(["x", None]).dictionary_encode()])
    assert to_values(coded, True).tolist() == ["x", None]
    numbers = to_values(pa.chunked_array([[3, None]]), False)
    assert numbers[0] == 3.0
    assert np.isnan(numbers[1])
    assert to_values(pa.chunked_array([pa.array([7, 8], pa.int8())]), True).tolist() == ["7", "8"]


def test_with_covariates_estimators_are_those_of_the_regression():
    raw = {**CONVERSION, "covariates": ["format"]}
    assert "kleinman" in parse_metric("m", raw).fitted.moments
    assert "raw_rates" not in parse_metric("m", raw).fitted.moments
    assert "raw_rates" in parse_metric("m", CONVERSION).fitted.moments
