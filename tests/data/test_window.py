"""The window: days folded by month into units, their first days, parents and exposures."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from kernel import event_format, parse, run_kernel, snapshot_of, write

from hbpipe.data import units as units_module
from hbpipe.data.clock import to_number
from hbpipe.data.units import shard_of
from hbpipe.data.window import Folded, WindowOrder, fold_window
from hbpipe.errors import LakeError
from hbpipe.model.families import get_family

METRICS = {
    "value": {"family": "normal", "value": "x"},
    "share": {"family": "beta_binomial", "successes": "n", "trials": "rows"},
    "weekly": {"family": "gamma_poisson", "count": "n", "exposure": "days", "per": "7d"},
    "active": {"family": "gamma_poisson", "count": "n", "exposure": "active_days"},
    "rate": {"family": "gamma_poisson", "count": "n", "exposure": "x"},
    "line": {"family": "normal_regression", "response": "x", "predictors": [1, "n", "x"]},
}
FIRST, LAST = date(2026, 1, 20), date(2026, 3, 10)
TABLE = list[tuple[int, str, str, float]]


def rows_of(table: TABLE) -> list[dict]:
    """Turn (day of the window, chain, store, x) into events."""
    noon = datetime(FIRST.year, FIRST.month, FIRST.day, 12)
    return [
        {"ts": noon + timedelta(days=day), "chain": chain, "store": store, "x": x, "n": 1}
        for day, chain, store, x in table
    ]


class Night:
    """Daily statistics of some events, and the orders to fold them."""

    def __init__(self, folder: Path, table: TABLE, metrics: dict = METRICS) -> None:
        self.folder, self.metrics = folder, metrics
        write(folder / "events" / "a.parquet", rows_of(table))
        self.form = event_format(folder / "events")
        self.counted = run_kernel(self.form, metrics, folder / "lake")
        self.snapshot = snapshot_of(self.form, metrics, folder / "lake", self.counted)

    def order(self, first: int = 0, last: int = 49, **changes) -> WindowOrder:
        days = [(FIRST + timedelta(days=n)).isoformat() for n in (first, last)]
        settings = {
            "metrics": parse(self.metrics),
            "levels": self.form.levels,
            "window": self.snapshot.select(lambda f: days[0] <= f.partition["day"] <= days[1]),
            "history": self.snapshot.select(lambda f: f.partition["day"] < days[0]),
            "listed": None,
            "within_parent": False,
            "first_day": to_number(FIRST) + first,
            "as_of": to_number(FIRST) + last,
            "silent_since": to_number(FIRST) + first,
        }
        return WindowOrder(**{**settings, **changes})

    def fold(self, *arguments, **changes) -> Folded:
        return fold_window(self.order(*arguments, **changes))


def units_of(folded: Folded) -> dict[tuple, dict]:
    """Return, by key, the events and statistics of each unit."""
    keys = zip(*(key.to_pylist() for key in folded.keys), strict=True)
    return {
        key: {
            "n_events": int(folded.n_events[k]),
            **{
                metric: {name: values[k].tolist() for name, values in found.items()}
                for metric, found in folded.statistics.items()
            },
        }
        for k, key in enumerate(keys)
    }


def bits(folded: Folded) -> list:
    arrays = [folded.n_events, *(a for s in folded.statistics.values() for a in s.values())]
    return [folded.keys[0].to_pylist(), folded.keys[1].to_pylist(), *(a.tobytes() for a in arrays)]


@pytest.fixture(scope="module")
def busy(tmp_path_factory) -> Night:
    rng = np.random.default_rng(7)
    table = [
        (int(rng.integers(50)), f"C{store % 3}", f"S{store}", float(rng.normal(50, 3)))
        for store in rng.integers(0, 12, 600)
    ]
    return Night(tmp_path_factory.mktemp("busy"), table)


def test_a_window_holds_the_events_of_its_days(busy):
    for first, last in ((0, 49), (10, 37), (30, 30), (5, 11)):
        folded = units_of(busy.fold(first, last))
        inside = {
            key: n
            for key, n in busy.counted.accepted.items()
            if first <= (key[0] - FIRST).days <= last
        }
        expected: dict[tuple, int] = {}
        for (_, *unit), n in inside.items():
            expected[tuple(unit)] = expected.get(tuple(unit), 0) + n
        assert {unit: found["n_events"] for unit, found in folded.items()} == expected
        for unit, found in folded.items():
            days = [busy.counted.statistics["value"][key] for key in inside if key[1:] == unit]
            n = sum(one["n"] for one in days)
            mean = math.fsum(one["n"] * one["mean"] for one in days) / n
            m2 = math.fsum(one["m2"] + one["n"] * (one["mean"] - mean) ** 2 for one in days)
            assert found["value"]["n"] == n == found["share"]["trials"]
            assert found["value"]["mean"] == pytest.approx(mean, rel=1e-12)
            assert found["value"]["m2"] == pytest.approx(m2, rel=1e-11)
            # The events' n is 1, and x is both the last predictor and the response.
            assert found["line"]["n"] == n
            assert found["line"]["means"] == pytest.approx([1.0, 1.0, mean, mean], rel=1e-12)
            cross = np.zeros((4, 4))
            cross[2:, 2:] = m2
            np.testing.assert_allclose(found["line"]["cross"], cross, rtol=1e-11, atol=1e-12)
            assert found["active"]["exposure"] == len(days)


def test_days_fold_into_months_and_months_into_the_window(busy):
    family = get_family("normal")
    whole = busy.fold()
    months = []
    for first, last in ((0, 11), (12, 39), (40, 49)):  # January, February, March
        part = units_of(busy.fold(first, last))
        assert len(part) == whole.n
        ordered = [part[key]["value"] for key in units_of(whole)]
        months.append(
            {name: np.array([one[name] for one in ordered]) for name in ("n", "mean", "m2")}
        )
    total = family.combine(family.combine(months[0], months[1]), months[2])
    for name, values in whole.statistics["value"].items():
        assert values.tobytes() == total[name].tobytes(), name


def test_nothing_depends_on_the_order_of_files(busy):
    order = busy.order(10, 49)
    shuffled = replace(order.history, files=order.history.files[::-1])
    assert bits(fold_window(replace(order, history=shuffled))) == bits(fold_window(order))
    keys = [tuple(row) for row in zip(*(k.to_pylist() for k in order_keys(order)), strict=True)]
    assert [key[::-1] for key in keys] == sorted(key[::-1] for key in keys)


def order_keys(order: WindowOrder) -> tuple[pa.Array, ...]:
    return fold_window(order).keys


def test_shards_nest_and_add_up_to_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(units_module, "SHARD_ROWS", 20)
    table = [(day, "A", f"S{n}", float(n)) for day in range(3) for n in range(25 * (day + 1))]
    night = Night(tmp_path, table)
    shards = sorted({result.shards for result in night.counted.results.values()})
    assert shards == [2, 4]
    whole = units_of(night.fold())
    parts = [
        night.fold(
            window=night.snapshot.select(lambda f, s=shard: f.statistics["shard"][0] % 2 == s),
            history=None,
        )
        for shard in range(2)
    ]
    together = units_of(parts[0]) | units_of(parts[1])
    assert together == whole
    assert parts[0].n + parts[1].n == len(whole) == 75
    for shard, part in enumerate(parts):
        assert set(shard_of(part.keys[-1], 2).tolist()) == {shard}


def test_calendar_exposure_counts_from_the_first_day_seen(tmp_path):
    table = [(2, "A", "old", 1.0), (12, "A", "old", 1.0), (15, "A", "new", 1.0)]
    night = Night(tmp_path, table)
    folded = units_of(night.fold(10, 29))
    assert folded["A", "old"]["weekly"]["exposure"] == pytest.approx(20 / 7)
    assert folded["A", "new"]["weekly"]["exposure"] == pytest.approx(15 / 7)
    without = units_of(night.fold(10, 29, history=None))
    assert without["A", "old"]["weekly"]["exposure"] == pytest.approx(18 / 7)


def test_history_of_other_metrics_still_tells_first_days(tmp_path):
    old = {"before": {"family": "normal", "value": "x"}}
    table: TABLE = [(2, "A", "a", 1.0), (12, "A", "a", 1.0)]
    night = Night(tmp_path, table)
    write(tmp_path / "events" / "a.parquet", rows_of(table[:1]))
    earlier = run_kernel(night.form, old, tmp_path / "lake")
    history = snapshot_of(night.form, METRICS | old, tmp_path / "lake", earlier)
    folded = units_of(night.fold(10, 29, history=history))
    assert folded["A", "a"]["weekly"]["exposure"] == pytest.approx(20 / 7)


def test_silent_stores_are_listed_as_long_as_asked(tmp_path):
    night = Night(tmp_path, [(0, "A", "gone", 1.0), (5, "A", "silent", 1.0), (20, "A", "a", 1.0)])
    assert list(units_of(night.fold(10, 29))) == [("A", "a")]
    folded = units_of(night.fold(10, 29, silent_since=to_number(FIRST) + 5))
    assert list(folded) == [("A", "a"), ("A", "silent")]
    silent = folded["A", "silent"]
    assert silent["n_events"] == 0
    assert silent["value"] == {"n": 0, "mean": 0.0, "m2": 0.0}
    assert silent["weekly"] == {"count": 0, "exposure": pytest.approx(20 / 7)}


def test_a_store_that_moves_belongs_to_its_latest_chain(tmp_path):
    night = Night(tmp_path, [(2, "A", "s", 1.0), (12, "A", "s", 1.0), (14, "B", "s", 3.0)])
    folded = units_of(night.fold(10, 29))
    assert list(folded) == [("B", "s")]
    assert folded["B", "s"]["value"] == {"n": 2, "mean": 2.0, "m2": 2.0}
    assert folded["B", "s"]["weekly"]["exposure"] == pytest.approx(20 / 7)
    apart = units_of(night.fold(10, 29, within_parent=True))
    assert {key: found["n_events"] for key, found in apart.items()} == {
        ("A", "s"): 1,
        ("B", "s"): 1,
    }
    assert apart["B", "s"]["weekly"]["exposure"] == pytest.approx(16 / 7)


def test_two_chains_on_one_day_are_settled_by_name(tmp_path):
    for number, chains in enumerate((["B", "A"], ["A", "B"])):
        night = Night(tmp_path / str(number), [(12, chain, "s", 1.0) for chain in chains])
        assert list(units_of(night.fold(10, 29))) == [("B", "s")]


def test_the_dimension_table_lists_stores_and_yields_to_events(tmp_path):
    night = Night(tmp_path, [(9, "A", "old", 1.0), (12, "A", "seen", 1.0)])
    listed = pa.table({"chain": ["B", "B", "B"], "store": ["old", "seen", "never"]})
    folded = units_of(night.fold(10, 29, listed=listed))
    assert list(folded) == [("B", "never"), ("B", "old"), ("A", "seen")]
    assert folded["B", "never"]["weekly"] == {"count": 0, "exposure": 0.0}
    assert folded["B", "old"]["weekly"]["exposure"] == pytest.approx(20 / 7)
    assert folded["A", "seen"]["n_events"] == 1
    pairs = units_of(night.fold(10, 29, listed=listed, within_parent=True))
    assert set(pairs) == {("B", "old"), ("B", "seen"), ("B", "never"), ("A", "seen")}


def test_events_without_any_exposure_are_set_aside(tmp_path):
    night = Night(tmp_path, [(12, "A", "a", 0.0), (13, "A", "a", 0.0), (12, "A", "b", 2.0)])
    folded = night.fold(10, 29)
    assert folded.unusable == {name: int(name == "rate") for name in METRICS}
    found = units_of(folded)
    assert found["A", "a"]["rate"] == {"count": 0, "exposure": 0.0}
    assert found["A", "a"]["share"] == {"successes": 2, "trials": 2}
    assert found["A", "b"]["rate"] == {"count": 1, "exposure": 2.0}


def test_an_empty_window(tmp_path):
    night = Night(tmp_path, [(2, "A", "a", 1.0)])
    assert night.fold(10, 29).n == 0
    assert list(units_of(night.fold(10, 29, silent_since=0))) == [("A", "a")]
    listed = pa.table({"chain": ["B"], "store": ["b"]})
    assert list(units_of(night.fold(10, 29, history=None, listed=listed))) == [("B", "b")]


def test_days_that_lack_a_metric_are_refused_not_mixed_up(tmp_path):
    few = {"value": METRICS["value"]}
    table: TABLE = [(12, "A", "a", 1.0), (13, "A", "b", 2.0)]
    write(tmp_path / "events" / "a.parquet", rows_of(table[:1]))
    old = run_kernel(event_format(tmp_path / "events"), few, tmp_path / "lake")
    night = Night(tmp_path, table[1:])
    mixed = snapshot_of(night.form, METRICS, tmp_path / "lake", old, night.counted)
    with pytest.raises(LakeError, match="metric 'share' has 1 rows in the window") as caught:
        night.fold(10, 29, window=mixed)
    assert "deliver the events of the days that lack it" in str(caught.value)


def test_whole_numbers_as_levels(tmp_path):
    write(
        tmp_path / "events" / "a.parquet",
        [
            r | {"chain": 1, "store": k}
            for k, r in enumerate(rows_of([(n, "", "", 1.0) for n in (12, 13)]))
        ],
        chain=pa.int16(),
    )
    form = event_format(tmp_path / "events")
    counted = run_kernel(form, METRICS, tmp_path / "lake")
    window = snapshot_of(form, METRICS, tmp_path / "lake", counted)
    order = WindowOrder(
        parse(METRICS),
        form.levels,
        window,
        None,
        None,
        False,
        to_number(FIRST),
        to_number(LAST),
        to_number(FIRST),
    )
    assert list(units_of(fold_window(order))) == [(1, 0), (1, 1)]


def test_days_computed_for_other_terms_are_refused(tmp_path):
    night = Night(tmp_path, [(12, "A", "a", 1.0), (13, "A", "b", 2.0)])
    longer = {**METRICS, "line": {**METRICS["line"], "predictors": [1, "x"]}}
    with pytest.raises(LakeError, match="a row of 'means' has 4 numbers") as caught:
        night.fold(metrics=parse(longer))
    assert caught.value.where == {"metric": "line"}
    assert caught.value.expected == "3, as the metric has terms"


@pytest.mark.parametrize("last", [49, 39])  # 28 February, 39 days after the first, ends a month
def test_the_last_day_apart_is_the_window_of_one_day_and_that_before(busy, last):
    folded = busy.fold(0, last)
    before, alone = busy.fold(0, last - 1), busy.fold(last, last, history=None)
    for name, apart in folded.recent.apart.items():
        for found, expected in ((apart.rest, before), (apart.day, alone)):
            places = {key: k for k, key in enumerate(zip(*keys_of(expected), strict=True))}
            at = [
                (k, places[key])
                for k, key in enumerate(zip(*keys_of(folded), strict=True))
                if key in places
            ]
            assert len(at) == expected.n > 0
            mine, theirs = (np.array(side) for side in zip(*at, strict=True))
            for statistic, values in expected.statistics[name].items():
                np.testing.assert_allclose(
                    found[statistic][mine], values[theirs], rtol=1e-12, atol=1e-12
                )
                others = np.setdiff1d(np.arange(folded.n), mine)
                absent = found[statistic][others]
                assert np.all(absent == 0) or (name == "weekly" and statistic == "exposure")


def keys_of(folded):
    return [key.to_pylist() for key in folded.keys]


def test_a_unit_is_new_for_a_week(tmp_path):
    table = [(0, "a", "old", 1.0), (30, "a", "old", 1.0), (25, "a", "new", 1.0)]
    table += [(24, "a", "known", 1.0), (20, "a", "silent", 1.0)]
    night = Night(tmp_path, table)
    folded = night.fold(15, 31)
    units = {
        row[1]: row[2:]
        for row in zip(
            *keys_of(folded),
            folded.recent.is_new.tolist(),
            folded.recent.days.tolist(),
            strict=True,
        )
    }
    assert units == {
        "old": (False, 17),
        "new": (True, 7),
        "known": (False, 8),
        "silent": (False, 12),
    }
    assert night.fold(26, 31, history=None).recent.is_new is None, "nothing older is known"
