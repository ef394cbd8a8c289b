"""The days of a window one by one: together they are the window, whatever else was made of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel import event_format, parse, run_kernel, snapshot_of, write

from hbpipe.data import units as units_module
from hbpipe.data.by_day import Day, Days
from hbpipe.data.clock import to_number
from hbpipe.data.window import Folded, WindowOrder, fold_window

METRICS: dict[str, Any] = {
    "value": {"family": "normal", "value": "x"},
    "share": {"family": "beta_binomial", "successes": "hit", "trials": "rows"},
    "effect": {"family": "normal_known_variance", "estimate": "x", "variance": "v"},
    "line": {"family": "normal_regression", "response": "x", "predictors": [1, "v"]},
}
FIRST, DAYS = date(2026, 1, 24), 16
BEGIN = to_number(FIRST)


def random_rows(shared: bool) -> list[dict[str, Any]]:
    """Events of 9 stores that move between chains; with ``shared`` ids some have two at once."""
    rng = np.random.default_rng(3)
    moves, rows = rng.integers(0, DAYS, 9), []
    for _ in range(300):
        store, day = int(rng.integers(9)), int(rng.integers(DAYS))
        chain = int(rng.integers(2)) if shared and store % 4 == 0 else int(day >= moves[store])
        rows.append(
            {
                "ts": datetime(FIRST.year, FIRST.month, FIRST.day, 12) + timedelta(days=day),
                "chain": f"C{chain}",
                "store": f"S{store}",
                "hit": bool(rng.integers(2)),
                "x": float(rng.normal(50.0, 3.0)),
                "v": float(rng.gamma(2.0)) + 0.1,
            }
        )
    return rows


class Lake:
    """Daily statistics of some events in several shards."""

    def __init__(self, folder: Path, shared: bool) -> None:
        write(folder / "events" / "a.parquet", random_rows(shared))
        self.form = event_format(folder / "events")
        counted = run_kernel(self.form, METRICS, folder / "lake")
        self.shards = min(result.shards for result in counted.results.values())
        self.days = snapshot_of(self.form, METRICS, folder / "lake", counted)

    def order(
        self, first: int, within_parent: bool, shard: int = 0, shards: int = 1
    ) -> WindowOrder:
        begin = (FIRST + timedelta(days=first)).isoformat()
        window = self.days.select(
            lambda file: (
                file.partition["day"] >= begin and file.statistics["shard"][0] % shards == shard
            )
        )
        return WindowOrder(
            metrics=parse(METRICS),
            levels=self.form.levels,
            window=window,
            history=None,
            listed=None,
            within_parent=within_parent,
            first_day=BEGIN + first,
            as_of=BEGIN + DAYS - 1,
            silent_since=BEGIN + first,
            by_day=window,
        )


def days_of(order: WindowOrder, folded: Folded) -> Days:
    assert order.by_day is not None
    return Days(order.by_day, order.levels, folded.keys, order.within_parent, order.as_of)


@pytest.fixture(scope="module", params=[False, True], ids=["moves", "two_parents"])
def lake(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units_module, "SHARD_ROWS", 4)
        return Lake(tmp_path_factory.mktemp("by_day"), request.param)


@pytest.mark.parametrize("within_parent", [False, True])
def test_the_days_together_are_the_window(lake: Lake, within_parent: bool) -> None:
    order = lake.order(3, within_parent)
    folded = fold_window(order)
    for metric in order.metrics:
        family, found = metric.measured, list(days_of(order, folded).of(metric))
        ages = [day.age for day in found]
        assert ages == list(range(DAYS - 4, -1, -1))
        assert all(np.all(np.diff(day.units) > 0) for day in found)
        units = np.concatenate([day.units for day in found])
        joined = {
            name: np.concatenate([day.statistics[name] for day in found])
            for name in found[0].statistics
        }
        total = family.fold(joined, units, folded.n)
        for name, values in folded.statistics[metric.name].items():
            np.testing.assert_allclose(total[name], values, rtol=1e-12, atol=1e-9, err_msg=name)


def bits(days: list[Day], keys: list[tuple[str, ...]]) -> dict[Any, bytes]:
    return {
        (day.age, keys[unit], name): values[row].tobytes()
        for day in days
        for row, unit in enumerate(day.units)
        for name, values in day.statistics.items()
    }


def named(folded: Folded) -> list[tuple[str, ...]]:
    return list(zip(*(key.to_pylist() for key in folded.keys), strict=True))


@pytest.mark.parametrize("within_parent", [False, True])
def test_shards_and_the_order_of_files_change_no_bit(lake: Lake, within_parent: bool) -> None:
    order = lake.order(3, within_parent)
    folded = fold_window(order)
    assert lake.shards > 1
    for metric in order.metrics:
        expected = bits(list(days_of(order, folded).of(metric)), named(folded))
        files = order.window.files[::-1]
        turned = replace(order, by_day=replace(order.window, files=files))
        assert bits(list(days_of(turned, folded).of(metric)), named(folded)) == expected
        parts = {}
        for shard in range(lake.shards):
            one = lake.order(3, within_parent, shard, lake.shards)
            mine = fold_window(one)
            parts |= bits(list(days_of(one, mine).of(metric)), named(mine))
        assert parts == expected
