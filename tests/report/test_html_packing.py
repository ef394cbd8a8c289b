"""Columns packed for a page: as many digits as asked for, nothing lost but the rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hbpipe.report.html.packing import MISSING, Pack, split_decimal
from tests.report.packed import unpack

NUMBERS = st.floats(-1e80, 1e80).filter(lambda x: x == 0 or abs(x) > 1e-80)


@given(st.lists(NUMBERS, max_size=30), st.integers(1, 4))
def test_numbers_come_back_with_the_digits_asked_for(values: list[float], digits: int) -> None:
    pack = Pack()
    column = pack.decimal(np.array(values), digits)
    found = unpack(pack.text(), column)
    for value, read in zip(values, found, strict=True):
        assert abs(read - value) <= 0.500001 * 10.0 ** -(digits - 1) * abs(value)


@given(st.lists(st.decimals(1, 9999, places=0), min_size=1), st.integers(-6, 3))
def test_four_digits_are_exactly_what_was_written(values: list[int], power: int) -> None:
    written = [float(f"{value}e{power}") for value in values]
    pack = Pack()
    column = pack.decimal(np.array(written), 4)
    assert unpack(pack.text(), column).tolist() == pytest.approx(written, rel=1e-15)


def test_what_is_not_a_number_is_missing() -> None:
    mantissa, _ = split_decimal(np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-200]), 4)
    assert mantissa.tolist() == [MISSING] * 3 + [0] * 3


def test_rounding_up_to_a_power_of_ten_keeps_its_digits() -> None:
    mantissa, exponent = split_decimal(np.array([9.9996, -0.99999, 999.96]), 4)
    assert mantissa.tolist() == [1000, -1000, 1000]
    assert exponent.tolist() == [-2, -3, 0]


def test_whole_numbers_steps_and_flags_come_back() -> None:
    pack = Pack()
    small, large = np.array([0, 7, 2**31 - 1]), np.array([2**40, 3])
    steps, flags = np.array([5, 6, 7, 3]), np.array([0, 255, 8], np.uint8)
    columns = [pack.whole(small), pack.whole(large), pack.steps(steps), pack.flags(flags)]
    text = pack.text()
    for written, column in zip((small, large, steps, flags), columns, strict=True):
        assert unpack(text, column).tolist() == written.tolist()


def test_empty_columns_are_columns() -> None:
    pack, none = Pack(), np.array([], np.float64)
    columns = [pack.decimal(none, 4), pack.whole(none), pack.steps(none.astype(np.int64))]
    text = pack.text()
    assert [len(unpack(text, column)) for column in columns] == [0, 0, 0]


def test_the_same_columns_are_the_same_text() -> None:
    texts = []
    for _ in range(2):
        pack = Pack()
        pack.decimal(np.linspace(0, 1, 100), 4)
        texts.append(pack.text())
    assert texts[0] == texts[1]
