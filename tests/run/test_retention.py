"""Upkeep of a lake of nights: what expires, what goes, and what readers see of it throughout."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hbpipe.cli import main
from hbpipe.config import Settings
from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError, LeaseError
from hbpipe.run.history import read_history, read_releases
from hbpipe.run.keeping import seen_releases
from hbpipe.run.lease import Lease
from hbpipe.run.ledger import read_days
from hbpipe.run.promotion import promote, rollback
from hbpipe.run.releases import RELEASED, current_release, next_name, read, releases
from hbpipe.run.retention import maintain
from hbpipe.run.runs import read_runs
from tests.interrupted import COMMIT, Moment, killed
from tests.nights import (
    day,
    lake_of,
    night,
    rows_of,
    settings_for,
    visits,
    write,
    write_config,
    write_days,
)

INFERENCE = {"window": "2d"}


def settings_of(folder: Path, **retention: Any) -> Settings:
    return settings_for(folder, inference=INFERENCE, retention=retention)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four nights of one day each, the last of them twice: releases 1, 2, 3, 4, and 4 again."""
    folder = tmp_path_factory.mktemp("nights")
    for number in range(4):
        write_days(folder, 1, first=number)
        night(settings_of(folder))
    write(folder / "events" / "late.parquet", visits(3, seed=1))
    night(settings_of(folder))
    return folder


@pytest.fixture
def folder(nights: Path, tmp_path: Path) -> Path:
    shutil.copytree(nights, tmp_path, dirs_exist_ok=True)
    return tmp_path


def shown(lake: Lake, release: str) -> dict[str, list[str]]:
    return {table: rows_of(read(lake, table, release=release)) for table in RELEASED}


def kept(lake: Lake) -> list[str]:
    return [row["release"] for row in read_releases(lake) if row["expired_at"] is None]


ALL = [f"2026-01-0{k}.1" for k in (1, 2, 3, 4)] + ["2026-01-04.2"]
Shown = dict[str, dict[str, list[str]]]


@pytest.fixture(scope="module")
def before(nights: Path) -> Shown:
    """Every release as it was published."""
    lake = lake_of(settings_of(nights))
    return {name: shown(lake, name) for name in ALL}


def of(before: Shown, names: list[str]) -> Shown:
    return {name: before[name] for name in names}


def test_by_default_every_release_stays_as_it_was(folder: Path, before: Shown) -> None:
    lake = lake_of(settings_of(folder))
    found = maintain(settings_of(folder), keep_hours=0)
    assert found.releases == ()
    assert found.kept == 5
    assert {name: shown(lake, name) for name in ALL} == before
    again = maintain(settings_of(folder), keep_hours=0)
    assert [one.table for one in again.tables] == ["runs"]  # what the first wrote of itself
    night(settings_of(folder))


def test_releases_expire_and_say_so(folder: Path, before: Shown) -> None:
    settings = settings_of(folder, releases={"keep_last": 2})
    lake = lake_of(settings)
    files = sum(1 for path in Path(lake.uri).rglob("part-*"))
    soon = datetime.now(UTC) + timedelta(days=1)
    maintain(settings, now=soon, keep_hours=0)
    assert kept(lake) == ALL[3:]
    assert {name: shown(lake, name) for name in ALL[3:]} == of(before, ALL[3:])
    with pytest.raises(LakeError, match=r"release 2026-01-01.1 expired on .*retention.releases"):
        read(lake, "posteriors", release=ALL[0])
    maintain(settings, now=soon + timedelta(days=1), keep_hours=0)
    assert sum(1 for path in Path(lake.uri).rglob("part-*")) < files
    assert {name: shown(lake, name) for name in ALL[3:]} == of(before, ALL[3:])


def test_files_of_a_release_that_has_just_expired_stay_for_the_grace(folder: Path) -> None:
    settings = settings_of(folder, releases={"keep_last": 1})
    lake = lake_of(settings)
    versions = dict(read_releases(lake)[0]["versions"])
    maintain(settings, now=datetime.now(UTC) + timedelta(days=9))
    assert kept(lake) == ALL[4:]
    for table, version in versions.items():
        lake.read(table, version=version)


def test_what_readers_see_never_expires(folder: Path, before: Shown) -> None:
    """Pinned to the second release; another environment was given the first."""
    lake = lake_of(settings_of(folder))
    promote(lake, ALL[0], to="staging", reason="to look at", create=True)
    rollback(lake, "prod", ALL[1], reason="prices were wrong")
    safe = [ALL[0], ALL[1], ALL[4]]
    assert seen_releases(read_history(lake)) == set(safe)
    settings = settings_of(folder, releases={"days": "1d"}, posteriors="2d", statistics="2d")
    later = datetime.now(UTC) + timedelta(days=999)
    for k in range(2):
        maintain(settings, now=later + timedelta(days=k), keep_hours=0)
        assert kept(lake) == safe
        assert {name: shown(lake, name) for name in safe[1:]} == of(before, safe[1:])
        assert read(lake, "fits", environment="staging").num_rows > 0
        assert (current_release(lake, "prod") or {})["release"] == ALL[1]


def test_what_expired_is_gone_from_history_and_says_so_by_name(folder: Path) -> None:
    settings = settings_of(folder, releases={"keep_last": 1})
    lake = lake_of(settings)
    then = datetime.now(UTC)
    maintain(settings, now=then + timedelta(days=1), keep_hours=0)
    assert [row["release"] for row in releases(lake, "prod")] == ALL[4:]
    assert read_history(lake).previous("prod") is None
    for call in (
        lambda: read(lake, "fits", release=ALL[3]),
        lambda: rollback(lake, "prod", ALL[3], reason="prices"),
        lambda: promote(lake, ALL[3], to="prod", reason="prices"),
        lambda: read(lake, "fits", published_before=first_after(lake, ALL[1])),
    ):
        with pytest.raises(LakeError, match=r"expired on .*backfill --start"):
            call()
    assert next_name(lake, day(3)) == "2026-01-04.3"


def first_after(lake: Lake, release: str) -> datetime:
    """The moment just after a release was published."""
    (row,) = (row for row in read_releases(lake) if row["release"] == release)
    return row["released_at"] + timedelta(microseconds=1)


def test_the_next_run_is_numbered_above_every_run_that_went(folder: Path) -> None:
    settings = settings_of(folder, runs="1d")
    lake = lake_of(settings)
    last = max(one.attempt for one in read_runs(lake))
    maintain(settings, now=datetime.now(UTC) + timedelta(days=9), keep_hours=0)
    assert [(one.kind, one.attempt) for one in read_runs(lake)] == [("vacuum", last + 1)]
    write_days(folder, 1, first=4)
    night(settings_of(folder))
    assert [one.attempt for one in read_runs(lake)] == [last + 1, last + 2]


def test_days_of_results_and_statistics_leave_the_newest_version(folder: Path) -> None:
    settings = settings_of(folder, posteriors="2d", hyperparameters="3d", statistics="2d")
    lake = lake_of(settings)
    found = maintain(settings, now=datetime(2026, 1, 5, 12, tzinfo=UTC))
    gone = {one.table: one.partitions for one in found.expired}
    assert gone == {
        "statistics": ("2026-01-01", "2026-01-02"),
        "hyperparameters": ("2026-01-01",),
        "posteriors": ("2026-01-01", "2026-01-02"),
        "new_stores": ("2026-01-01", "2026-01-02"),
    }
    assert {row["as_of"] for row in lake.read("posteriors").to_pylist()} == {day(2), day(3)}
    assert len(read_days(lake)) == 2
    assert len(read(lake, "posteriors", release=ALL[0])) > 0
    report = night(settings)
    assert "up to date" in report.reason
    night(settings, as_of=day(1))
    assert read(lake, "posteriors", release="2026-01-02.2").num_rows > 0


def test_a_night_after_upkeep_is_the_night_it_would_have_been(
    folder: Path, nights: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    twin = tmp_path_factory.mktemp("twin")
    shutil.copytree(nights, twin, dirs_exist_ok=True)
    settings = settings_of(folder, releases={"keep_last": 1}, statistics="2d", posteriors="2d")
    for k in (1, 2):
        maintain(settings, now=datetime.now(UTC) + timedelta(days=k), keep_hours=0)
    for one in (folder, twin):
        write_days(one, 1, first=4)
        night(settings_of(one))
    found, right = (
        {t: rows_of(read(lake_of(settings_of(one)), t)) for t in ("posteriors", "hyperparameters")}
        for one in (folder, twin)
    )
    assert found == right


def test_quarantine_and_audits_go_by_row(folder: Path) -> None:
    lake = lake_of(settings_of(folder))
    audits = lake.read("audits").num_rows
    found = maintain(settings_of(folder, audits="1d"), now=datetime(2026, 1, 5, tzinfo=UTC))
    assert [one.table for one in found.expired] == ["audits"]
    assert lake.read("audits").num_rows == audits - found.expired[0].rows
    assert {row["as_of"] for row in lake.read("audits").to_pylist()} == {day(3)}


def test_a_dry_run_says_what_would_go_and_writes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    retention = {"releases": {"keep_last": 1}}
    config = write_config(folder, inference=INFERENCE, retention=retention)
    lake = lake_of(settings_of(folder))
    before = sorted(str(path) for path in Path(lake.uri).rglob("*"))
    with Lease(lake).acquire(run_id="a night"):
        assert main(["vacuum", "--config", str(config), "--dry-run", "--keep-hours", "0"]) == 10
    told = capsys.readouterr().out
    assert "1 release(s) kept; 4 would go" in told
    assert "2026-01-02.1 of 2026-01-02" in told
    assert sorted(str(path) for path in Path(lake.uri).rglob("*")) == before
    assert main(["vacuum", "--config", str(config), "--quiet"]) == 0
    assert "4 went" in capsys.readouterr().out


def test_upkeep_waits_for_nobody(folder: Path) -> None:
    settings = settings_of(folder)
    with Lease(lake_of(settings)).acquire(run_id="a night"), pytest.raises(LeaseError):
        maintain(settings)


@pytest.mark.parametrize(
    ("sections", "fault"),
    [
        ({"inference": {"window": "all"}}, "every day is needed"),
        ({"inference": {"window": "9d"}}, "8d are fewer than the 9d of inference.window"),
        ({"stores": {"keep_silent": "30d"}}, "fewer than the 30d of stores.keep_silent"),
        (
            {
                "metrics": {
                    "orders": {"family": "gamma_poisson", "count": "converted", "exposure": "days"}
                }
            },
            "count from a store's first day",
        ),
    ],
)
def test_statistics_that_releases_rest_on_cannot_expire(
    sections: dict[str, Any], fault: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=fault):
        settings_for(tmp_path, retention={"statistics": "8d"}, **sections)


STEPS = (COMMIT, "hbpipe.run.retention:vacuum_table")


#: Before the commits to runs, releases, days, posteriors, and between two tables of the vacuum.
@pytest.mark.parametrize("step", [1, 2, 3, 5, 8])
def test_killed_anywhere_every_kept_release_is_as_it_was(
    step: int, folder: Path, before: Shown
) -> None:
    retention = {"releases": {"keep_last": 2}, "statistics": "2d", "posteriors": "2d"}
    config = write_config(folder, inference=INFERENCE, retention=retention)
    lake = lake_of(settings_of(folder))
    arguments = ["vacuum", "--config", str(config), "--keep-hours", "0"]
    killed(Moment(step, STEPS), *arguments)
    assert {name: shown(lake, name) for name in ALL[3:]} == of(before, ALL[3:])
    maintain(settings_of(folder, **retention), keep_hours=0)
    assert {name: shown(lake, name) for name in ALL[3:]} == of(before, ALL[3:])
    assert current_release(lake, "prod") is not None
