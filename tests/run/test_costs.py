"""What a plan costs, from footers and from the runs before."""

from __future__ import annotations

from pathlib import Path

import pytest

from hbpipe.run.costs import bytes_of, expected_seconds
from hbpipe.run.engine import SerialEngine
from hbpipe.run.plan import make_plan
from hbpipe.run.runs import RunEntry
from tests.nights import NOW, lake_of, settings_for, visits, write


def ran(rows: int, state: str = "done", **seconds: float) -> RunEntry:
    return RunEntry("r", 1, "night", "prod", state=state, rows=rows, seconds=seconds)


def test_seconds_are_medians_of_the_runs_that_were_done() -> None:
    runs = [
        ran(100, aggregate=1.0, fit=5.0),
        ran(200, aggregate=4.0, fit=6.0),
        ran(100, aggregate=3.0, fit=20.0),
        ran(100, state="failed", aggregate=500.0),
        ran(0, state="nothing"),
    ]
    assert expected_seconds(runs, 1000) == pytest.approx(1000 * 0.02 + 6.0)
    assert expected_seconds(runs, 0) == pytest.approx(6.0), "a release of days that are done"


def test_without_history_nothing_is_promised() -> None:
    assert expected_seconds([], 10) is None
    assert expected_seconds([ran(5, state="failed", aggregate=1.0)], 10) is None
    only_releases = [ran(0, aggregate=0.1, fit=1.0)]
    assert expected_seconds(only_releases, 10) is None
    assert expected_seconds(only_releases, 0) == pytest.approx(1.0)


def test_old_runs_are_forgotten() -> None:
    runs = [ran(1, aggregate=100.0)] * 30 + [ran(1, aggregate=2.0)] * 20
    assert expected_seconds(runs, 3) == pytest.approx(6.0)


def test_a_row_group_that_feeds_two_days_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "events" / "a.parquet", [*visits(0), *visits(1)])
    write(tmp_path / "events" / "b.parquet", visits(2))
    settings = settings_for(tmp_path)
    plan = make_plan(settings, lake_of(settings), SerialEngine(), now=NOW)
    first, second, third = (bytes_of(plan.stock, [day]) for day in plan.days)
    assert first == second > 0
    assert plan.bytes == first + third
