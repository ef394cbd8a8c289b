"""Each store's own regression against numpy's lstsq, and which coefficients it determines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hbpipe.model.numerics.cross import cross_moments_of, fold_cross_moments
from hbpipe.model.regression.least_squares import least_squares

Array = NDArray[np.float64]


def statistics(x: Any, y: Any, codes: Any = None, stores: int = 1) -> dict[str, NDArray[Any]]:
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    at = np.zeros(len(y), np.int64) if codes is None else codes
    return cross_moments_of(np.column_stack([x, y]), at, stores)


def own(x: Any, y: Any) -> list[float]:
    found: list[float] = least_squares(statistics(x, y))[0].tolist()
    return found


def test_it_is_lstsq_store_by_store() -> None:
    rng = np.random.default_rng(1)
    codes = np.repeat(np.arange(200), rng.integers(5, 40, 200))
    x = np.column_stack([np.ones(len(codes)), rng.normal(3.0, 1.0, (len(codes), 2))])
    y = rng.normal(0.0, 1.0, len(codes))
    found = least_squares(statistics(x, y, codes, 200))
    for store in range(200):
        mine = codes == store
        expected = np.linalg.lstsq(x[mine], y[mine], rcond=None)[0]
        np.testing.assert_allclose(found[store], expected, rtol=1e-9, atol=1e-10)


def test_without_a_constant_the_line_passes_through_the_origin() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(5.0, 1.0, (30, 2))
    y = rng.normal(0.0, 1.0, 30)
    expected = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(own(x, y), expected, rtol=1e-10)


def test_a_predictor_far_from_zero_costs_no_digits() -> None:
    t = np.arange(20.0)
    y = 0.25 * t + np.sin(t)
    near, far = (own(np.column_stack([np.ones(20), x]), y) for x in (t, t + 2.0**40))
    assert far[1] == pytest.approx(near[1], rel=1e-9)


def test_any_constant_column_carries_the_level() -> None:
    x = np.column_stack([[1.0, 2.0, 4.0], [0.1, 0.1, 0.1]])
    assert own(x, [3.0, 5.0, 9.0]) == pytest.approx([2.0, 10.0], rel=1e-12)


@pytest.mark.parametrize(
    ("columns", "determined"),
    [
        pytest.param(["one", "t"], [True, True], id="everything"),
        pytest.param(["one", "zero"], [True, False], id="never on display"),
        pytest.param(["one", "half"], [False, False], id="always half on display"),
        pytest.param(["one", "t", "t"], [True, False, False], id="the same twice"),
        pytest.param(["one", "t", "double"], [True, False, False], id="twice as large"),
        pytest.param(["one", "t", "shifted"], [False, False, False], id="shifted"),
        pytest.param(["one", "t", "shifted", "u"], [False, False, False, True], id="and another"),
        pytest.param(["t", "shifted"], [True, True], id="shifted, without a constant"),
        pytest.param(["t", "double"], [False, False], id="twice, without a constant"),
        pytest.param(["zero"], [False], id="nothing"),
    ],
)
def test_what_a_design_determines(columns: list[str], determined: list[bool]) -> None:
    rng = np.random.default_rng(3)
    t, u = rng.normal(7.0, 2.0, (2, 12))
    known = {
        "one": np.ones(12),
        "zero": np.zeros(12),
        "half": np.full(12, 0.5),
        "t": t,
        "u": u,
        "double": 2.0 * t,
        "shifted": t - 3.0,
    }
    x = np.column_stack([known[name] for name in columns])
    y = rng.normal(0.0, 1.0, 12)
    found = own(x, y)
    assert [np.isfinite(value) for value in found] == determined
    solution = np.linalg.lstsq(x, y, rcond=None)[0]  # of all solutions that of least norm
    for value, expected, fine in zip(found, solution, determined, strict=True):
        assert not fine or value == pytest.approx(expected, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize(("rows", "determined"), [(0, 0), (1, 0), (2, 0), (3, 3)])
def test_fewer_events_than_coefficients(rows: int, determined: int) -> None:
    rng = np.random.default_rng(4)
    x = np.column_stack([np.ones(rows), rng.normal(0.0, 1.0, (rows, 2))])
    assert np.isfinite(own(x, np.arange(rows))).sum() == determined


def test_parts_merged_determine_what_the_whole_does() -> None:
    """Rounding of the merge must not make a collinear design look like a good one."""
    rng = np.random.default_rng(5)
    t = rng.normal(1e6, 1.0, 400)
    x = np.column_stack([np.ones(400), t, 3.0 * t])
    days = np.repeat(np.arange(20), 20)
    parts = statistics(x, rng.normal(0.0, 1.0, 400), days, 20)
    whole = fold_cross_moments(parts, np.zeros(20, np.int64), 1)
    assert np.isfinite(least_squares(whole)).tolist() == [[True, False, False]]


def test_many_stores_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    codes = np.repeat(np.arange(10), 5)
    x = np.column_stack([np.ones(50), rng.normal(0.0, 1.0, 50)])
    together = statistics(x, rng.normal(0.0, 1.0, 50), codes, 10)
    whole = least_squares(together)
    monkeypatch.setattr("hbpipe.model.regression.least_squares._BLOCK", 3)
    np.testing.assert_array_equal(least_squares(together), whole)
