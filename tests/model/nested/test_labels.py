"""Labels of nested groups: numbers by path, new groups, what is refused."""

import numpy as np
import pytest

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.nested.labels import Labels

CHAIN = ["b", "a", "b", "a", "b"]
REGION = [1, 1, 2, 1, 1]


def test_a_group_is_known_by_its_whole_path():
    labels = Labels.of({"chain": CHAIN, "region": REGION}, 5)
    chain, region = labels.levels
    assert labels.names == ("chain", "region")
    np.testing.assert_array_equal(chain.labels, ["a", "b"])
    np.testing.assert_array_equal(region.labels, [1, 1, 2])
    np.testing.assert_array_equal(region.parents, [0, 1, 1])
    found = labels.find({"chain": CHAIN, "region": REGION}, 5)
    np.testing.assert_array_equal(found[0], [1, 0, 1, 0, 1])
    np.testing.assert_array_equal(found[1], [1, 0, 2, 0, 1])


def test_what_is_not_known_is_new_and_so_is_all_within_it():
    labels = Labels.of({"chain": CHAIN, "region": REGION}, 5)
    found = labels.find({"chain": ["a", "a", "c", "zz"], "region": [1, 2, 1, 9]}, 4)
    np.testing.assert_array_equal(found[0], [0, 0, -1, -1])
    np.testing.assert_array_equal(found[1], [0, -1, -1, -1])


@pytest.mark.parametrize(
    ("nesting", "error"),
    [
        ({}, FitError),
        (CHAIN, FitError),
        ({"chain": CHAIN[:4]}, StatisticsError),
        ({"chain": [1.0, 2.0, np.nan, 1.0, 2.0]}, StatisticsError),
        ({"chain": ["a", None, "b", "a", "b"]}, StatisticsError),
        ({"chain": [CHAIN]}, StatisticsError),
    ],
)
def test_labels_that_are_refused(nesting, error):
    with pytest.raises(error, match="expected"):
        Labels.of(nesting, 5)


def test_levels_must_be_those_of_the_fit():
    labels = Labels.of({"chain": CHAIN, "region": REGION}, 5)
    for wrong in (None, {"chain": CHAIN}, {"region": REGION, "chain": CHAIN}):
        with pytest.raises(FitError, match="nesting with chain, region"):
            labels.find(wrong, 5)
    with pytest.raises(StatisticsError, match="labels like"):
        labels.find({"chain": REGION, "region": REGION}, 5)
