"""Counts, means and centred cross-products, and what they lose nowhere."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hbpipe.errors import StatisticsError
from hbpipe.model.numerics.cross import cross_moments_of, fold_cross_moments


def drawn(seed, rows=300, groups=7, columns=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, columns)), rng.integers(0, groups - 1, rows), groups


def part(statistics, rows):
    return {name: values[rows] for name, values in statistics.items()}


def test_they_are_those_of_numpy():
    values, codes, groups = drawn(1)
    found = cross_moments_of(values, codes, groups)
    for g in range(groups):
        mine = values[codes == g]
        assert found["n"][g] == len(mine)
        if len(mine):
            np.testing.assert_allclose(found["means"][g], mine.mean(axis=0), rtol=1e-12)
            scatter = (len(mine) - 1) * np.cov(mine.T)
            np.testing.assert_allclose(found["cross"][g], scatter, rtol=1e-11, atol=1e-12)
    assert not found["means"][-1].any()  # the last group has no row
    assert not found["cross"][-1].any()


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_parts_merge_to_the_whole_in_one_pass(seed, parts):
    values, codes, groups = drawn(seed)
    whole = cross_moments_of(values, codes, groups)
    cut = np.random.default_rng(seed).integers(0, parts, len(values))
    pieces = [cross_moments_of(values[cut == p], codes[cut == p], groups) for p in range(parts)]
    rows = {name: np.concatenate([piece[name] for piece in pieces]) for name in whole}
    merged = fold_cross_moments(rows, np.tile(np.arange(groups), parts), groups)
    for name, expected in whole.items():
        np.testing.assert_allclose(merged[name], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shift", [2017.0, 1e8])
def test_a_distant_origin_costs_no_digits(shift):
    values, codes, groups = drawn(2)
    near = np.round(values, 6)
    far = near + shift
    exact = cross_moments_of(far - shift, codes, groups)["cross"]
    np.testing.assert_allclose(cross_moments_of(far, codes, groups)["cross"], exact, rtol=1e-9)
    halves = np.arange(len(far)) % 2
    rows = cross_moments_of(far, codes * 2 + halves, 2 * groups)
    merged = fold_cross_moments(rows, np.repeat(np.arange(groups), 2), groups)
    # The means of parts are stored to an ulp of the shift, which is all that a merge loses.
    np.testing.assert_allclose(merged["cross"], exact, rtol=1e-9 + 10 * np.spacing(shift))


def test_a_constant_column_is_exactly_constant():
    values, codes, groups = drawn(3)
    values[:, 0] = 1.0
    rows = cross_moments_of(values, codes * 3 + np.arange(len(codes)) % 3, 3 * groups)
    merged = fold_cross_moments(rows, np.repeat(np.arange(groups), 3), groups)
    for found in (rows, merged):
        np.testing.assert_array_equal(found["cross"][:, 0], 0.0)
        np.testing.assert_array_equal(found["means"][found["n"] > 0, 0], 1.0)


def test_a_groups_bits_do_not_depend_on_other_groups():
    values, codes, groups = drawn(4)
    whole = cross_moments_of(values, codes, groups)
    alone = cross_moments_of(values[codes == 3], np.zeros(np.sum(codes == 3), int), 1)
    for name in whole:
        np.testing.assert_array_equal(alone[name][0], whole[name][3])


def test_overflow_is_an_error():
    with pytest.raises(StatisticsError, match="not a finite number"):
        cross_moments_of(np.full((2, 2), [[1e200, 0.0], [-1e200, 0.0]]), np.zeros(2, int), 1)
