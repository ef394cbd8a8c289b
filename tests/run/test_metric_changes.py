"""A metric that is added, changed or removed: its own history alone is measured again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from hbpipe.config import Settings
from hbpipe.data.lake import Lake
from hbpipe.model.families import FAMILIES
from hbpipe.run import day_tasks
from hbpipe.run.engine import SerialEngine
from hbpipe.run.plan import Plan, make_plan
from hbpipe.run.releases import current_release, read
from hbpipe.run.verification.verify import verify
from tests.nights import (
    BASKET,
    BOTH,
    CONVERSION,
    NOW,
    day,
    lake_of,
    night,
    rows_of,
    settings_for,
    visits,
    write,
)

ORDERS = {"family": "gamma_poisson", "count": "converted", "exposure": "days"}
DAYS = 3


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(DAYS):
        rows = visits(number)
        rows[3]["amount"] = -1.0  # has no logarithm: rejected for the basket alone
        rows[5]["store_id"] = None  # rejected for all
        write(tmp_path / "events" / f"{day(number)}.parquet", rows)
    return tmp_path


def planned(settings: Settings) -> Plan:
    return make_plan(settings, lake_of(settings), SerialEngine(), now=NOW)


def due(settings: Settings) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {d.to_dict()["day"]: (d.reason, d.metrics) for d in planned(settings).days}


def of(lake: Lake, name: str, metric: str) -> list[str]:
    table = lake.read(name)
    rows = table.filter(pc.equal(table["metric"], metric))
    # Columns of another metric's family come with that metric, and are null here.
    empty = [one for one in rows.column_names if rows[one].null_count == rows.num_rows]
    return rows_of(rows, without=empty)


def settings(
    folder: Path, metrics: Any, lake: str = "lake", quantiles: tuple[float, ...] = (0.05, 0.95)
) -> Settings:
    return settings_for(
        folder,
        metrics=metrics,
        inference={"uncertainty": "auto", "quantiles": quantiles},
        audits={"max_rejected_share": 0.2},
        lake={"path": str(folder / lake)},
    )


def test_a_new_metric_is_measured_alone_and_changes_no_other(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = settings(folder, CONVERSION), settings(folder, BOTH)
    night(before)
    lake = lake_of(before)
    conversion = of(lake, "statistics", "conversion")
    expected = ("settings changed: basket", ("basket",))
    assert due(after) == {str(day(k)): expected for k in range(DAYS)}

    measured = []
    summarise = day_tasks.summarise_readings

    def watch(order: Any, readings: Any) -> Any:
        measured.append([metric.name for metric in order.metrics])
        return summarise(order, readings)

    monkeypatch.setattr(day_tasks, "summarise_readings", watch)
    night(after)
    assert measured == [["basket"]] * DAYS
    assert of(lake, "statistics", "conversion") == conversion
    assert not planned(after).work


def test_the_lake_is_that_of_somebody_who_always_had_the_metric(folder: Path) -> None:
    grown, twin = settings(folder, BOTH), settings(folder, BOTH, lake="twin")
    night(settings(folder, CONVERSION))
    night(grown)
    night(twin)
    for name in ("statistics", "posteriors", "hyperparameters", "quarantine", "days"):
        found, expected = (rows_of(lake_of(one).read(name)) for one in (grown, twin))
        if name == "days":  # why a day was measured last is its own story
            found, expected = (
                [row.replace("settings changed", "missing") for row in rows]
                for rows in (found, expected)
            )
        assert found == expected, name
    assert all(one.fine for one in verify(grown, lake_of(grown), full=True))


def test_a_changed_metric_is_measured_again_alone(folder: Path) -> None:
    night(settings(folder, BOTH))
    narrower = {**BOTH, "basket": {**BASKET, "where": [["converted", "==", True]]}}
    changed, twin = settings(folder, narrower), settings(folder, narrower, lake="twin")
    assert {names for _, names in due(changed).values()} == {("basket",)}
    night(changed)
    night(twin)
    found, expected = (rows_of(lake_of(one).read("statistics")) for one in (changed, twin))
    assert found == expected
    examples = lake_of(changed).read("quarantine")["metric"].to_pylist()
    assert examples.count("") == DAYS, "what was rejected for all metrics is kept"


def test_a_removed_metric_makes_nothing_stale_and_its_releases_stay(folder: Path) -> None:
    both, one = settings(folder, BOTH), settings(folder, CONVERSION)
    night(both)
    lake = lake_of(both)
    old = current_release(lake, "prod")
    assert old is not None
    found = planned(one)
    assert not found.days
    assert found.release_reason == "inference settings changed since its release"
    night(one)
    assert set(read(lake, "posteriors")["metric"].to_pylist()) == {"conversion"}
    was = read(lake, "posteriors", release=old["release"])
    assert set(was["metric"].to_pylist()) == {"conversion", "basket"}
    assert all(one.fine for one in verify(one, lake, full=True))
    assert not planned(both).days, "its statistics are still there, and still right"


def test_new_code_of_one_family_touches_its_metrics_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = settings(folder, BOTH)
    night(pair)
    family = FAMILIES["normal"]
    newer = replace(family, kernel_version=family.kernel_version + 1)
    monkeypatch.setitem(FAMILIES, "normal", newer)
    assert set(due(pair).values()) == {("code changed: basket", ("basket",))}


def test_changed_input_measures_every_metric_of_its_day(folder: Path) -> None:
    night(settings(folder, CONVERSION))
    write(folder / "events" / "late.parquet", visits(1, rows=4, seed=8))
    after = settings(folder, {**CONVERSION, "orders": ORDERS})
    assert due(after) == {
        str(day(0)): ("settings changed: orders", ("orders",)),
        str(day(1)): ("input changed: late.parquet", ("conversion", "orders")),
        str(day(2)): ("settings changed: orders", ("orders",)),
    }
    night(after)
    twin = settings(folder, {**CONVERSION, "orders": ORDERS}, lake="twin")
    night(twin)
    assert rows_of(read(lake_of(after), "posteriors")) == rows_of(read(lake_of(twin), "posteriors"))


def test_quantiles_make_no_day_stale_and_older_releases_keep_theirs(folder: Path) -> None:
    night(settings(folder, CONVERSION))
    other = settings(folder, CONVERSION, quantiles=(0.1, 0.9))
    assert not planned(other).days
    night(other)
    lake = lake_of(other)
    assert read(lake, "posteriors")["q0.1"].null_count == 0
    first = f"{day(DAYS - 1)}.1"
    assert read(lake, "posteriors", release=first)["q0.05"].null_count == 0
