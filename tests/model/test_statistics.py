"""What the library says about statistics that cannot be."""

import pickle

import numpy as np
import pytest

import hbpipe
from hbpipe.errors import StatisticsError
from hbpipe.model.families import get_family
from hbpipe.model.statistics import Effective, check_statistics


@pytest.mark.parametrize(
    ("family", "statistics", "words"),
    [
        ("beta_binomial", {"successes": [1]}, "lack trials"),
        ("beta_binomial", {"sucesses": [1], "trials": [2]}, "did you mean 'successes'"),
        ("beta_binomial", {"successes": [1, 2], "trials": [2]}, "different lengths"),
        ("beta_binomial", {"successes": [3], "trials": [2]}, "more than trials.*store 0"),
        ("beta_binomial", {"successes": [-1], "trials": [2]}, "impossible"),
        ("beta_binomial", {"successes": [0.5], "trials": [2]}, "not whole"),
        ("beta_binomial", {"successes": [0], "trials": [1e30]}, "too large"),
        ("beta_binomial", {"successes": ["a"], "trials": [2]}, "type <U1"),
        ("beta_binomial", {"successes": [[1]], "trials": [[2]]}, r"shape \(1, 1\)"),
        ("gamma_poisson", {"count": [1], "exposure": [np.nan]}, "not a number"),
        ("gamma_poisson", {"count": [0, 1], "exposure": [1, 0]}, "without exposure.*store 1"),
        ("gamma_poisson", {"count": [0], "exposure": [np.inf]}, "infinite"),
        ("normal", {"n": [1], "mean": [1.0], "m2": [-1.0]}, "impossible"),
        ("normal", {"n": [2, 1], "mean": [1.0, 2.0], "m2": [3.0, 4.0]}, "n above 1.*store 1"),
        ("normal_inverse_gamma", {"n": [0], "mean": [1.0], "m2": [3.0]}, "n above 1"),
        (
            "beta_binomial",
            {"successes": np.ma.masked_array([1, 2], [False, True]), "trials": [2, 2]},
            "1 values are masked",
        ),
        ("normal_known_variance", {"estimate": [1.0], "variance": [0.0]}, "values above 0"),
        ("normal_known_variance", {"estimate": [np.inf], "variance": [1.0]}, "infinite"),
    ],
)
def test_impossible_statistics_are_named(family, statistics, words):
    with pytest.raises(StatisticsError, match=words) as caught:
        check_statistics(get_family(family), statistics)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_values_divided_by_an_overdispersion_may_be_fewer_than_two():
    checked = check_statistics(
        get_family("normal"), Effective({"n": [0.8], "mean": [1.0], "m2": [3.0]})
    )
    assert checked["n"][0] == 0.8


def test_an_array_whose_mask_hides_nothing_is_as_good_as_any():
    whole = np.ma.masked_array([1, 2], [False, False])
    checked = check_statistics(get_family("beta_binomial"), {"successes": whole, "trials": [2, 2]})
    np.testing.assert_array_equal(checked["successes"], [1, 2])


def test_statistics_that_are_no_mapping_are_refused():
    with pytest.raises(StatisticsError, match="type NoneType"):
        hbpipe.fit("beta_binomial", None)


def test_good_statistics_come_back_typed():
    checked = check_statistics(
        get_family("normal_known_variance"), {"estimate": [1, 2], "variance": (4.0, np.inf)}
    )
    assert checked["estimate"].dtype == np.float64
    checked = check_statistics(
        get_family("beta_binomial"), {"successes": np.array([1.0]), "trials": [3]}
    )
    assert checked["successes"].dtype == checked["trials"].dtype == np.int64
