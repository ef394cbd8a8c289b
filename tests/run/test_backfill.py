"""Backfill: what is missing is published, in any order the same, and nothing twice."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hbpipe.config import Settings
from hbpipe.errors import ConfigError, LateError
from hbpipe.run import stages
from hbpipe.run.backfill import Range, backfill, decide
from hbpipe.run.rebuild import plan_rebuild
from hbpipe.run.rebuild_plan import RebuildPlan
from hbpipe.run.releases import read, releases
from hbpipe.run.verification.verify import verify
from tests.nights import NOW, day, lake_of, night, rows_of, settings_for, visits, write, write_days

DAYS = 8
WINDOW = {"window": "3d", "uncertainty": "plug_in"}
TABLES = ("statistics", "hyperparameters", "fits", "diagnostics", "posteriors")
TABLES += ("new_stores", "days", "files")


class CutOffError(BaseException):
    """The process dies here."""


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All days of events, and the lake ``twin`` after a backfill that nothing disturbs."""
    folder = tmp_path_factory.mktemp("nights")
    write_days(folder, DAYS)
    fill(settings(folder, lake="twin"))
    return folder


@pytest.fixture
def folder(nights: Path, tmp_path: Path) -> Path:
    """The days of events, and no lake yet."""
    shutil.copytree(nights / "events", tmp_path / "events")
    return tmp_path


@pytest.fixture(scope="module")
def twin(nights: Path) -> Settings:
    """The lake that was filled undisturbed, to compare with."""
    return settings(nights, lake="twin")


@pytest.fixture
def filled(nights: Path, folder: Path) -> Settings:
    """A copy of the filled lake, to go on with."""
    shutil.copytree(nights / "twin", folder / "lake")
    return settings(folder)


def settings(folder: Path, lake: str = "lake", **sections: Any) -> Settings:
    sections = {"inference": WINDOW, **sections}
    return settings_for(folder, lake={"path": str(folder / lake)}, **sections)


def fill(one: Settings, first: int = 0, last: int = DAYS - 1, **options: Any) -> Any:
    return backfill(one, start=day(first), end=day(last), now=NOW, **options)


def planned(one: Settings, first: int = 0, last: int = DAYS - 1, **options: Any) -> RebuildPlan:
    chosen = {"reprocess": "missing", "newest_first": False, **options}
    within = Range(day(first), day(last))
    return plan_rebuild(one, partial(decide, within=within, **chosen), now=NOW)


def published(one: Settings) -> list[str]:
    return [row["release"] for row in releases(lake_of(one), "prod")]


def contents(one: Settings) -> dict[str, list[str]]:
    return {name: rows_of(lake_of(one).read(name)) for name in TABLES}


def test_each_night_is_what_it_would_have_been(folder: Path) -> None:
    one, nightly = settings(folder), settings(folder, lake="nightly")
    report = fill(one)
    assert report.measured == DAYS
    assert [one["as_of"] for one in report.released] == [str(day(k)) for k in range(DAYS)]
    for number in range(DAYS):
        night(nightly, as_of=day(number))
    assert contents(one) == contents(nightly)
    assert published(one) == published(nightly) == [f"{day(k)}.1" for k in range(DAYS)]
    assert all(found.fine for found in verify(one, lake_of(one), full=True))


@pytest.mark.parametrize("options", [{"newest_first": True}, {"max_active": 1}, {"max_active": 3}])
def test_order_and_batches_change_nothing(
    folder: Path, twin: Settings, options: dict[str, Any]
) -> None:
    one = settings(folder)
    fill(one, **options)
    assert contents(one) == contents(twin)


def test_a_second_backfill_has_nothing_to_do(filled: Settings) -> None:
    assert not planned(filled).work
    again = fill(filled)
    assert (again.measured, again.released, again.failed) == (0, [], [])
    assert len(published(filled)) == DAYS


def test_a_range_measures_what_its_windows_reach_back_to(folder: Path) -> None:
    found = planned(settings(folder), 4, 5)
    assert [one.to_dict()["day"] for one in found.days] == [str(day(k)) for k in (2, 3, 4, 5)]
    assert [one.to_dict()["as_of"] for one in found.nights] == [str(day(4)), str(day(5))]


def test_nights_that_ran_are_left_alone_and_the_gaps_filled(folder: Path) -> None:
    one = settings(folder)
    night(one, as_of=day(3))
    night(one, as_of=day(6))
    report = fill(one)
    assert [r["as_of"] for r in report.released] == [str(day(k)) for k in (0, 1, 2, 4, 5, 7)]
    assert all(name.endswith(".1") for name in published(one))


def test_late_rows_make_stale_what_rests_on_their_day(folder: Path, filled: Settings) -> None:
    one = filled
    write(folder / "events" / "late.parquet", visits(2, rows=6, seed=5))
    found = planned(one)
    assert [d.to_dict()["day"] for d in found.days] == [str(day(2))]
    assert [n.to_dict()["as_of"] for n in found.nights] == [str(day(k)) for k in (2, 3, 4)]
    fill(one)
    twin = settings(folder, lake="twin")
    fill(twin)
    # The night after the last that is published anew has moved since what readers saw then.
    since = {"change", "change_sd"}
    for name in ("statistics", "posteriors", "hyperparameters"):
        found, expected = (lake_of(each).read(name) for each in (one, twin))
        assert rows_of(found, without=since) == rows_of(expected, without=since)


@pytest.mark.parametrize("place", ["commit_days", "commit_results", "commit_release", "write_days"])
@pytest.mark.parametrize("times", [2])
def test_cut_off_anywhere_it_goes_on_with_what_is_finished(
    folder: Path, twin: Settings, place: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = settings(folder)
    from hbpipe.run import commits

    original, calls = getattr(commits, place), []

    def dies(*arguments: Any) -> Any:
        calls.append(place)
        if len(calls) == times:
            raise CutOffError
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(commits, place, dies)
        with pytest.raises(CutOffError):
            fill(one, max_active=2)
    fill(one, max_active=2)
    assert published(one) == published(twin)
    found, expected = contents(one), contents(twin)
    for name in ("statistics", "posteriors", "hyperparameters", "fits", "files"):
        assert found[name] == expected[name], name


def test_a_held_day_blocks_only_the_windows_that_hold_it(folder: Path) -> None:
    rows = visits(2)
    for row in rows[:20]:
        row["store_id"] = None
    write(folder / "events" / f"{day(2)}.parquet", rows)
    one = settings(folder)
    report = fill(one)
    assert [r["as_of"] for r in report.released] == [str(day(k)) for k in (0, 1, 5, 6, 7)]
    assert [f["as_of"] for f in report.failed] == [str(day(k)) for k in (2, 3, 4)]
    assert "rejected_share" in report.failed[0]["reason"]
    left = planned(one)
    assert not left.days
    assert any(f"{day(2)} is held" in note for note in left.notes)
    assert [d.to_dict()["day"] for d in planned(one, reprocess="failed").days] == [str(day(2))]
    write(folder / "events" / f"{day(2)}.parquet", visits(2))
    report = fill(one)
    assert [r["as_of"] for r in report.released] == [str(day(k)) for k in (2, 3, 4)]


def test_a_night_that_failed_its_gate_is_tried_again_only_when_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = settings(folder)
    from hbpipe.run import audits

    check = audits.check_window

    def fails(*arguments: Any) -> list[audits.Check]:
        return [audits.at_most("release", "odd", "window", 2, 1, "is odd", "fail")]

    with monkeypatch.context() as patch:
        patch.setattr(stages.audits, "check_window", fails)
        report = fill(one, 5, 6)
    assert len(report.failed) == 2
    assert check is audits.check_window
    left = planned(one, 5, 6)
    assert not left.work
    assert any("failed its gate (odd)" in note for note in left.notes)
    assert len(fill(one, 5, 6, reprocess="failed").released) == 2
    assert not planned(one, 5, 6, reprocess="failed").work


def test_all_does_everything_of_the_range_again(filled: Settings) -> None:
    one = filled
    before = contents(one)
    report = fill(one, 3, 4, reprocess="all")
    assert report.measured == 2
    assert [r["release"] for r in report.released][:2] == [f"{day(3)}.2", f"{day(4)}.2"]
    after = contents(one)
    for name in ("statistics", "posteriors", "hyperparameters", "fits"):
        assert after[name] == before[name]


def test_days_without_events_are_no_nights(folder: Path) -> None:
    (folder / "events" / f"{day(4)}.parquet").unlink()
    one = settings(folder)
    report = fill(one)
    assert str(day(4)) not in {r["as_of"] for r in report.released}
    states = dict(
        zip(*lake_of(one).read("days").select(["day", "state"]).to_pydict().values(), strict=True)
    )
    assert states[day(4)] == "empty"


def test_a_wrong_range_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match="ends before it begins"):
        fill(settings(folder), 5, 2)
    with pytest.raises(LateError, match="no complete day of events"):
        fill(settings(folder), 40, 50)


def test_readers_of_the_latest_night_never_see_an_older_one(folder: Path) -> None:
    one = settings(folder)
    night(one, as_of=day(7))
    seen = read(lake_of(one), "posteriors")
    fill(one)
    assert read(lake_of(one), "posteriors").equals(seen)
