"""Restate: the cascade is shown before it happens, and nothing else is touched."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from hbpipe.config import Settings
from hbpipe.errors import LateError
from hbpipe.run.backfill import Range, backfill
from hbpipe.run.rebuild import plan_rebuild
from hbpipe.run.releases import releases
from hbpipe.run.restate import decide, restate
from tests.nights import NOW, day, lake_of, rows_of, settings_for, write_days

DAYS = 6


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_days(tmp_path, DAYS)
    one = settings_for(tmp_path, inference={"window": "3d", "uncertainty": "plug_in"})
    backfill(one, start=day(0), end=day(DAYS - 1), now=NOW)
    return one


def names(settings: Settings) -> list[str]:
    return sorted(row["release"] for row in releases(lake_of(settings), "prod"))


def test_the_plan_names_the_days_and_every_release_that_rests_on_them(settings: Settings) -> None:
    chosen = partial(decide, within=Range(day(1), day(2)), reason="prices were in cents")
    plan = plan_rebuild(settings, chosen, now=NOW)
    assert [one.to_dict()["day"] for one in plan.days] == [str(day(1)), str(day(2))]
    assert {one.reason for one in plan.days} == {"restated: prices were in cents"}
    assert [one.to_dict()["as_of"] for one in plan.nights] == [str(day(k)) for k in (1, 2, 3, 4)]
    assert f"rests on {day(2)}" in plan.nights[-1].reason
    assert names(settings) == [f"{day(k)}.1" for k in range(DAYS)], "planning changes nothing"


def test_restated_days_give_the_same_rows_and_a_new_release(settings: Settings) -> None:
    lake = lake_of(settings)
    before = {name: rows_of(lake.read(name)) for name in ("statistics", "posteriors")}
    report = restate(settings, start=day(1), end=day(2), reason="a doubt", now=NOW)
    assert report.measured == 2
    assert [one["release"] for one in report.released] == [f"{day(k)}.2" for k in (1, 2, 3, 4)]
    assert {name: rows_of(lake.read(name)) for name in before} == before
    reasons = dict(
        zip(*lake.read("days").select(["day", "reason"]).to_pydict().values(), strict=True)
    )
    assert reasons[day(1)] == "restated: a doubt"
    assert reasons[day(3)] == "missing"


def test_posteriors_alone_are_restated_from_the_statistics_that_are_there(
    settings: Settings,
) -> None:
    report = restate(
        settings, start=day(1), end=day(2), reason="a doubt", what="posteriors", now=NOW
    )
    assert report.measured == 0
    assert [one["release"] for one in report.released] == [f"{day(1)}.2", f"{day(2)}.2"]


def test_vanished_input_is_kept_until_its_loss_is_accepted(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "events" / f"{day(1)}.parquet").unlink()
    report = restate(settings, start=day(1), end=day(1), reason="gone", now=NOW)
    assert report.measured == 0
    assert any("input has vanished" in note for note in report.notes)
    report = restate(
        settings, start=day(1), end=day(1), reason="gone", now=NOW, accept_missing=True
    )
    assert report.measured == 1
    days = lake_of(settings).read("statistics")["day"].to_pylist()
    assert day(1) not in days


def test_a_day_can_be_withdrawn_that_was_a_window_by_itself(tmp_path: Path) -> None:
    paths = write_days(tmp_path, 2)
    one = settings_for(tmp_path, inference={"window": "1d", "uncertainty": "plug_in"})
    backfill(one, start=day(0), end=day(1), now=NOW)
    paths[0].unlink()
    report = restate(
        one, start=day(0), end=day(0), reason="withdrawn", now=NOW, accept_missing=True
    )
    assert (report.measured, report.released, report.failed) == (1, [], [])
    assert any(f"{day(0)} has no events in its window" in note for note in report.notes)
    assert lake_of(one).read("statistics")["day"].unique().to_pylist() == [day(1)]
    assert names(one) == [f"{day(0)}.1", f"{day(1)}.1"]


def test_a_range_without_days_is_refused(settings: Settings) -> None:
    with pytest.raises(LateError, match="has events or statistics"):
        restate(settings, start=day(50), end=day(60), reason="x", now=NOW)
