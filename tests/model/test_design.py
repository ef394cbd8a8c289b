"""Attributes as columns: levels, knots, and rows that cannot be coded."""

import pickle

import numpy as np
import pytest

import hbpipe
from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.design import learn_coding

ATTRIBUTES = {
    "format": np.array(["express", "super", "super", "hyper", "super", "express"], dtype=object),
    "size": np.array([100.0, 400.0, 500.0, 9000.0, 300.0, 150.0]),
    "region": np.array([1, 2, 2, 1, 3, 2]),
    "late": np.array([True, False, True, False, True, False]),
}


def test_the_most_frequent_level_is_the_base():
    coded = learn_coding(ATTRIBUTES, ["format"]).apply(ATTRIBUTES)
    assert coded.names == ("intercept", "format=express", "format=hyper")
    np.testing.assert_array_equal(coded.matrix[:, 0], 1.0)
    np.testing.assert_array_equal(coded.matrix[:, 1], [1, 0, 0, 0, 0, 1])
    np.testing.assert_array_equal(coded.matrix[:, 2], [0, 0, 0, 1, 0, 0])
    assert coded.usable.all()
    assert not coded.reasons


def test_numbers_logarithms_splines_and_numbers_that_are_labels():
    columns = [
        {"column": "size", "transform": "log"},
        {"column": "size", "spline": 2},
        {"column": "region", "categories": True},
        "late",
    ]
    coded = learn_coding(ATTRIBUTES, columns).apply(ATTRIBUTES)
    assert coded.names == (
        "intercept",
        "log(size)",
        "size[0]",
        "size[1]",
        "region=1",
        "region=3",
        "late",
    )
    np.testing.assert_allclose(coded.matrix[:, 1], np.log(ATTRIBUTES["size"]))
    np.testing.assert_array_equal(coded.matrix[:, 6], ATTRIBUTES["late"])


def test_the_coding_is_the_same_for_shards_and_new_stores():
    coding = learn_coding(ATTRIBUTES, ["format", {"column": "size", "spline": 3}])
    again = pickle.loads(pickle.dumps(coding))
    whole = coding.apply(ATTRIBUTES).matrix
    for rows in (slice(0, 2), slice(2, 6)):
        part = {name: values[rows] for name, values in ATTRIBUTES.items()}
        np.testing.assert_array_equal(again.apply(part).matrix, whole[rows])


def test_rows_that_cannot_be_coded_are_flagged_and_not_zero():
    coding = learn_coding(ATTRIBUTES, ["format", {"column": "size", "transform": "log"}])
    coded = coding.apply(
        {
            "format": ["super", "kiosk", None, "express", ""],
            "size": [100.0, 100.0, 100.0, -1.0, None],
        }
    )
    np.testing.assert_array_equal(coded.usable, [True, False, False, False, False])
    assert {reason: rows.tolist() for reason, rows in coded.reasons.items()} == {
        "format is missing": [2, 4],
        "format has the unknown level 'kiosk'": [1],
        "size is missing": [4],
        "size is not positive": [3],
    }
    assert np.isnan(coded.matrix[1:]).all()
    data = {"successes": [1, 2, 3, 1, 0], "trials": [9] * 5}
    with pytest.raises(StatisticsError, match="a covariate is nan"):
        hbpipe.fit("beta_binomial", data, covariates=coded.matrix)


def test_missing_values_do_not_count_as_a_level():
    attributes = {"format": np.array([None, None, None, "a", "b"], dtype=object)}
    coding = learn_coding(attributes, ["format"])
    assert coding.names == ("intercept", "format=b")
    numbers = {"region": np.array([np.nan, 3.0, 3.0, 4.0])}
    coding = learn_coding(numbers, [{"column": "region", "categories": True}])
    coded = coding.apply(numbers)
    assert coded.names == ("intercept", "region=4.0")
    np.testing.assert_array_equal(coded.usable, [False, True, True, True])


def test_what_cannot_be_learnt_is_said():
    for columns, message in (
        (["size", "fromat"], "did you mean 'format'"),
        ([{"column": "size", "transfrom": "log"}], "did you mean 'transform'"),
        ([{"column": "size", "transform": "sqrt"}], "no transform 'sqrt'"),
        ([{"column": "size", "spline": 9}], "distinct values"),
        ([{"column": "format", "transform": "log", "categories": False}], "is text"),
    ):
        with pytest.raises(FitError, match=message):
            learn_coding(ATTRIBUTES, columns).apply(ATTRIBUTES)
    with pytest.raises(FitError, match="missing for every store"):
        learn_coding({"format": [None, ""]}, ["format"])
    coding = learn_coding(ATTRIBUTES, ["size"])
    with pytest.raises(FitError, match="is text"):
        coding.apply({"size": ["large"]})


def test_a_coded_design_is_fitted():
    rng = np.random.default_rng(1)
    attributes = {
        "format": rng.choice(["a", "b", "c"], 200),
        "size": np.exp(rng.normal(5.0, 1.0, 200)),
    }
    coding = learn_coding(attributes, ["format", {"column": "size", "transform": "log"}])
    x = coding.apply(attributes).matrix
    n = rng.integers(20, 200, 200)
    mean = 1.0 / (1.0 + np.exp(2.0 - 0.3 * (np.log(attributes["size"]) - 5.0)))
    data = {"successes": rng.binomial(n, rng.beta(50 * mean, 50 * (1 - mean))), "trials": n}
    found = hbpipe.fit("beta_binomial", data, covariates=x)
    slope = found.hyperparameters["coefficients"][coding.names.index("log(size)")]
    assert abs(slope - 0.3) < 0.1
    law = hbpipe.posterior(found, data, covariates=x)
    new = coding.apply({"format": ["a"], "size": [1000.0]})
    silent = {"successes": [0], "trials": [0]}
    assert hbpipe.posterior(found, silent, covariates=new.matrix)["mean"][0] > np.mean(law["mean"])
