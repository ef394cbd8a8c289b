"""Merge rules and sums by group."""

from fractions import Fraction

import numpy as np
import pytest

from hbpipe.errors import StatisticsError
from hbpipe.model.numerics.grouped import (
    Rows,
    count_values,
    float_sums,
    fold_moments,
    fold_precision,
    group,
    integer_sums,
    merge_counts,
    moments_of,
)


def test_integers_stay_exact_above_two_to_the_53():
    values = np.array([2**53, 1, 1, 5], dtype=np.int64)
    np.testing.assert_array_equal(integer_sums(values, [0, 0, 0, 1], 3), [2**53 + 2, 5, 0])


def test_integer_overflow_is_found_before_adding():
    with pytest.raises(StatisticsError, match="does not fit 64 bits"):
        integer_sums(np.array([2**62, 2**62, 2**62]), np.array([0, 1, 2]), 3)


def test_booleans_and_whole_floats_are_counted():
    codes = np.array([0, 0, 1])
    np.testing.assert_array_equal(integer_sums(np.array([True, False, True]), codes, 2), [1, 1])
    np.testing.assert_array_equal(integer_sums(np.array([3.0, 4.0, 5.0]), codes, 2), [7, 5])


def test_float_overflow_is_an_error():
    with pytest.raises(StatisticsError, match="not a finite number"):
        float_sums(np.array([1e308, 1e308]), np.array([0, 0]), 1)
    with pytest.raises(StatisticsError, match="not a finite number"):
        moments_of(np.array([1e200, -1e200]), np.array([0, 0]), 1)


def exact_moments(values):
    fractions = [Fraction(float(v)) for v in values]
    mean = sum(fractions) / len(fractions)
    return float(mean), float(sum((v - mean) ** 2 for v in fractions))


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e4, 1e8, 1e10])
def test_moments_survive_an_offset(offset):
    rng = np.random.default_rng(4)
    values = offset + rng.standard_normal(600)
    codes = np.arange(600) % 3
    whole = moments_of(values, codes, 3)
    rows = moments_of(values, np.arange(600) // 20, 30)
    folded = fold_moments(rows, np.arange(30) // 10, 3)
    # At an offset of 1e10 the data themselves carry six digits of their spread.
    tolerance = 1e-9 if offset <= 1e8 else 1e-6
    for store in range(3):
        mean, m2 = exact_moments(values[codes == store])
        np.testing.assert_allclose(whole["mean"][store], mean, rtol=1e-15)
        np.testing.assert_allclose(whole["m2"][store], m2, rtol=tolerance)
        mean, m2 = exact_moments(values[200 * store : 200 * store + 200])
        np.testing.assert_allclose(folded["mean"][store], mean, rtol=1e-15)
        np.testing.assert_allclose(folded["m2"][store], m2, rtol=tolerance)


def test_one_value_has_no_spread():
    for found in (
        moments_of(np.array([1e10 / 3]), np.array([0]), 1),
        fold_moments(
            {"n": np.array([1, 0]), "mean": np.array([1e10 / 3, 0.0]), "m2": np.zeros(2)},
            np.array([0, 0]),
            1,
        ),
    ):
        assert found["mean"][0] == 1e10 / 3
        assert found["m2"][0] == 0.0


def test_the_mean_of_an_absent_part_is_never_read():
    rows = {
        "n": np.array([0, 2]),
        "mean": np.array([np.nan, 3.0]),
        "m2": np.array([np.nan, 1.0]),
    }
    folded = fold_moments(rows, np.array([0, 0]), 1)
    assert (folded["n"][0], folded["mean"][0], folded["m2"][0]) == (2, 3.0, 1.0)


def test_estimates_merge_by_precision():
    rows = {"estimate": np.array([1.0, 4.0, 9.0]), "variance": np.array([1.0, 0.5, np.inf])}
    folded = fold_precision(rows, np.array([0, 0, 1]), 3)
    np.testing.assert_allclose(folded["estimate"], [3.0, 0.0, 0.0])
    np.testing.assert_allclose(folded["variance"], [1 / 3, np.inf, np.inf])


def test_a_single_estimate_keeps_its_bits():
    rows = {"estimate": np.array([0.1, 7.0]), "variance": np.array([49.0, np.inf])}
    folded = fold_precision(rows, np.array([0, 0]), 1)
    assert folded["estimate"][0] == 0.1
    assert folded["variance"][0] == 49.0


@pytest.mark.parametrize("large", [5, 10**13])
def test_values_are_counted_by_pool(large):
    # The small case uses a dense histogram, the large one sorting.
    pool, values = np.array([1, 0, 1, 1]), np.array([large, 2, large, 0])
    rows = count_values(pool, values, 3)
    np.testing.assert_array_equal(rows.pool, [0, 1, 1])
    np.testing.assert_array_equal(rows["value"], [2, 0, large])
    np.testing.assert_array_equal(rows["count"], [1, 1, 2])
    doubled = merge_counts([rows, rows])
    np.testing.assert_array_equal(doubled["value"], rows["value"])
    np.testing.assert_array_equal(doubled["count"], 2 * rows["count"])


def test_counting_beyond_64_bit_codes():
    pool, values = np.array([0, 2**20 - 1, 2**20 - 1]), np.array([2**61, 3, 3])
    rows = count_values(pool, values, 2**20)
    np.testing.assert_array_equal(rows.pool, [0, 2**20 - 1])
    np.testing.assert_array_equal(rows["value"], [2**61, 3])
    np.testing.assert_array_equal(rows["count"], [1, 2])


def test_counting_nothing():
    nothing = np.zeros(0, np.int64)
    assert len(count_values(nothing, nothing, 2).pool) == 0


def test_pairs_are_found_and_select_renumbers():
    rows, inverse = group(np.array([2, 0, 2]), np.array([0.5, 0.5, 0.5]), 3)
    np.testing.assert_array_equal(rows.pool, [0, 2])
    np.testing.assert_array_equal(inverse, [1, 0, 1])
    cut = rows.select(np.array([2]))
    assert cut.n_pools == 1
    np.testing.assert_array_equal(cut.pool, [0])
    np.testing.assert_array_equal(Rows(2, np.array([1]), {}).sum(np.array([3.0])), [0.0, 3.0])


@pytest.mark.parametrize(
    "key",
    [
        [3.0, 1.0, 0.0, 3.0, 1.0],
        [3, 1, 7, 3, 1],
        [1e12, 1.0, 1e12, 2.0, 1.0],
        [-1.0, 2.0, -1.0, 0.5, 2.0],
        [],
    ],
)
def test_groups_are_the_distinct_pairs_however_they_are_found(key):
    pool, key = np.array([1, 0, 1, 1, 0])[: len(key)], np.array(key)
    rows, inverse = group(pool, key, 2)
    assert rows["key"].dtype == key.dtype
    assert list(zip(rows.pool, rows["key"], strict=True)) == sorted(
        set(zip(pool, key, strict=True))
    )
    np.testing.assert_array_equal(rows["key"][inverse], key)
    np.testing.assert_array_equal(rows.pool[inverse], pool)
