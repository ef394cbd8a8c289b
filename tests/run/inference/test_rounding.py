"""What rounding explains between two sums of the same values, and what it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hbpipe.model.numerics.cross import cross_moments_of, fold_cross_moments
from hbpipe.run.inference.rounding import equal, numbers, roundings


def moments(values: Any) -> dict[str, Any]:
    found = cross_moments_of(values, np.zeros(len(values), np.int64), 1)
    return {name: np.ravel(one[0]).tolist() for name, one in found.items()} | {"n": len(values)}


def test_counts_are_equal_or_not() -> None:
    assert equal(3, 3, 1.0)
    assert not equal(4, 3, 1.0)
    assert not equal(None, 3, 1.0)
    assert not equal(None, 0.0, 1.0)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e9])
def test_parts_merged_in_any_cut_are_equal(offset: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(offset, 1.0, (300, 3)) * [1.0, 1e-3, 1e3]
    whole = moments(values)
    for parts in (2, 30, 150):
        codes = np.arange(300) % parts
        merged = fold_cross_moments(
            cross_moments_of(values, codes, parts), np.zeros(parts, np.int64), 1
        )
        for name in ("means", "cross"):
            pairs = zip(np.ravel(merged[name][0]), whole[name], roundings(name, whole), strict=True)
            assert all(equal(found, right, allowed) for found, right, allowed in pairs)


def test_a_product_near_zero_is_judged_by_its_factors() -> None:
    x = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]) * [1e6, 1e6]
    expected = moments(x)
    assert expected["cross"][1] == 0.0
    allowed = roundings("cross", expected)
    assert equal(1e2, 0.0, allowed[1])
    assert not equal(1e4, 0.0, allowed[1])


@pytest.mark.parametrize("place", range(4))
def test_a_millionth_part_is_no_rounding(place: int) -> None:
    rng = np.random.default_rng(2)
    expected = moments(rng.normal(5.0, 1.0, (50, 2)))
    wrong = list(expected["cross"])
    wrong[place] += 1e-6 * expected["cross"][0]
    pairs = zip(wrong, expected["cross"], roundings("cross", expected), strict=True)
    assert [equal(*pair) for pair in pairs].count(False) == 1


def test_one_variable_is_a_matrix_of_one() -> None:
    one = {"n": 9, "mean": 3.0, "m2": 2.0}
    same = {"n": 9, "means": [3.0], "cross": [2.0]}
    assert roundings("m2", one) == roundings("cross", same)
    assert roundings("mean", one) == [0.0]
    assert numbers(3.0) == [3.0]
