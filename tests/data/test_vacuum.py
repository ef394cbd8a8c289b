"""Vacuum: files and log entries go when no needed version is opened from them."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from hbpipe.data import checkpoints
from hbpipe.data.checkpoints import write_checkpoint
from hbpipe.data.durable import Storage
from hbpipe.data.lake import Lake
from hbpipe.data.log import LOG, checkpoint_name, list_log, list_tables
from hbpipe.data.record import create_record, read_record, swap_record
from hbpipe.data.rewrite import drop_partitions, rewrite_rows
from hbpipe.data.vacuum import abandoned_spools, plan_table, vacuum_table
from hbpipe.errors import LakeError, LeaseError
from tests.data.lake_samples import FIRST, SECOND, counts_lake, put, statistics_lake, write
from tests.processes import die, forked


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint every fifth version, so that a few commits will do."""
    monkeypatch.setattr(checkpoints, "EVERY", 5)


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of twelve commits: version v holds v rows on the first day, in one file."""
    folder = tmp_path_factory.mktemp("twelve")
    lake = counts_lake(folder)
    for number in range(1, 13):
        put(lake, number, number)
    return folder


@pytest.fixture
def lake(twelve: Path, tmp_path: Path) -> Lake:
    """A copy of it; file times are kept."""
    shutil.copytree(twelve, tmp_path, dirs_exist_ok=True)
    return Lake(str(tmp_path / "lake"))


def vacuum(lake: Lake, *named: int, before: datetime | None = None) -> int:
    plan = plan_table(lake.storage, "statistics", named, before)
    vacuum_table(lake.storage, plan)
    return len(plan.files)


def soon() -> datetime:
    """A moment before which everything that is there was written."""
    return datetime.now(UTC) + timedelta(hours=1)


def log_of(lake: Lake) -> Path:
    return Path(lake.path("statistics", LOG))


def test_what_named_versions_need_stays_and_the_rest_goes(lake: Lake) -> None:
    before = {version: lake.read("statistics", version=version) for version in (7, 9, 12)}
    assert vacuum(lake, 7, 9, before=soon()) == 9
    for version, rows in before.items():
        assert lake.read("statistics", version=version).equals(rows)
    assert plan_table(lake.storage, "statistics", [7, 9], soon()).work is False


def test_the_log_before_the_oldest_needed_version_goes(lake: Lake) -> None:
    vacuum(lake, 7)
    log = list_log(lake.storage, "statistics")
    assert min(log.commits) == 5
    assert log.checkpoints == (5, 10)
    with pytest.raises(LakeError, match="version 3 is no longer kept"):
        lake.read("statistics", version=3)
    assert [entry["version"] for entry in lake.history("statistics")][:2] == [12, 11]


def test_commits_after_a_vacuum_build_on_it(lake: Lake) -> None:
    numbers = DeltaTable(lake.path("statistics")).transaction_version("statistics/2026-01-01")
    vacuum(lake)
    assert put(lake, 3, 77, SECOND) == 13
    assert put(lake, 2, 78) == 14
    after = DeltaTable(lake.path("statistics")).transaction_version("statistics/2026-01-01")
    assert (after or 0) >= (numbers or 0)
    assert sorted(lake.read("statistics")["n"].to_pylist()) == [77, 77, 77, 78, 78]


def test_the_fence_outlives_the_log_that_carried_it(lake: Lake) -> None:
    put(replace(lake, fence=7), 13, 13)
    for number in range(14, 22):
        put(lake, number, number)
    vacuum(lake)
    assert min(list_log(lake.storage, "statistics").commits) > 13
    with pytest.raises(LeaseError, match="attempt 7 has taken the place"):
        put(replace(lake, fence=6), 1, 1)
    assert put(replace(lake, fence=8), 1, 1) == 22


def test_the_log_of_a_lease_that_was_renewed_all_night_is_trimmed(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    create_record(lake.storage, "lease")
    for version in range(13):
        assert swap_record(lake.storage, "lease", version, {"run_id": str(version)})
    assert list_tables(lake.storage) == ["lease"]
    vacuum_table(lake.storage, plan_table(lake.storage, "lease", (), None))
    assert min(list_log(lake.storage, "lease").commits) == 10
    assert read_record(lake.storage, "lease") == (13, {"run_id": "12"})
    assert swap_record(lake.storage, "lease", 13, {})


def test_what_is_younger_than_the_grace_stays(lake: Lake) -> None:
    assert vacuum(lake, before=datetime.now(UTC) - timedelta(hours=1)) == 0
    for version in range(1, 13):
        assert lake.read("statistics", version=version).num_rows == version


def test_a_version_is_needed_for_the_grace_after_it_was_superseded(lake: Lake) -> None:
    """Files and entries are old, but version 11 was the newest until a moment ago."""
    ago = (datetime.now(UTC) - timedelta(days=9)).timestamp()
    for path in Path(lake.path("statistics")).rglob("*"):
        if path.is_file() and path.name != f"{12:020d}.json":
            os.utime(path, (ago, ago))
    assert vacuum(lake, before=datetime.now(UTC) - timedelta(days=7)) == 10
    assert lake.read("statistics", version=11).num_rows == 11


def test_staged_files_of_a_crash_go_after_the_grace(tmp_path: Path) -> None:
    lake = statistics_lake(tmp_path)
    write(lake, 3, FIRST)
    spool = Path(lake.private_path("staging", "dead.parquet"))
    spool.write_bytes(b"half a file")
    young = datetime.now(UTC) - timedelta(hours=1)
    assert plan_table(lake.storage, "statistics", [], young).files == ()
    assert abandoned_spools(lake.storage, young) == []
    assert len(plan_table(lake.storage, "statistics", [], soon()).files) == 1
    assert abandoned_spools(lake.storage, soon()) == [str(spool)]


def test_a_version_without_files_can_be_checkpointed(lake: Lake) -> None:
    drop_partitions(lake.storage, "statistics", lambda _: True, metadata={})
    write_checkpoint(lake.storage, "statistics", 13)
    assert lake.read("statistics").num_rows == 0


def test_a_wrong_checkpoint_is_never_moved_into_place(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of another table, as whole as its own."""
    other = statistics_lake(tmp_path / "other")
    write_checkpoint(other.storage, "statistics", 0)
    wrong = Path(other.path("statistics", LOG, checkpoint_name(0))).read_bytes()

    def damage(copy: Storage, name: str, version: int) -> None:
        Path(copy.path(name, LOG, checkpoint_name(version))).write_bytes(wrong)
        for commit in Path(copy.path(name, LOG)).glob("*.json"):
            commit.unlink()

    monkeypatch.setattr(checkpoints, "_forget_commits", damage)
    with pytest.raises(LakeError, match="differ from the log's"):
        vacuum(lake)
    assert list_log(lake.storage, "statistics").checkpoints == ()
    assert lake.read("statistics").num_rows == 12
    assert list(Path(lake.private_path("staging")).iterdir()) == []


def test_tables_are_found_and_nothing_else(tmp_path: Path) -> None:
    lake = counts_lake(tmp_path)
    Path(lake.path("notes")).mkdir()
    Path(lake.path("readme.txt")).write_text("hello")
    assert list_tables(lake.storage) == ["files", "statistics"]
    assert list_tables(Lake(str(tmp_path / "nowhere")).storage) == []


def test_rows_are_taken_out_and_other_files_stay(lake: Lake) -> None:
    put(lake, 2, 9, SECOND)
    kept = lake.files("statistics", partitions=[SECOND])
    rewrite_rows(
        lake.storage,
        "statistics",
        lambda rows: rows if 9 in rows["n"].to_pylist() else rows.slice(1),
        run_id="r",
    )
    assert sorted(lake.read("statistics")["n"].to_pylist()) == [9, 9, *[12] * 11]
    assert lake.files("statistics", partitions=[SECOND]) == kept
    version = lake.version("statistics")
    assert rewrite_rows(lake.storage, "statistics", lambda rows: rows, run_id="r") == version


def vacuum_until_killed(lake: Lake, step: int) -> None:
    """Vacuum, and die before the ``step``-th call that changes something on the disk."""
    checkpoints.EVERY = 5
    plan = plan_table(lake.storage, "statistics", [7], None)
    calls = {"rename", "delete_file", "fsync", "link", "unlink", "create_checkpoint"}
    left = step

    def watch(_: Any, event: str, function: Any) -> None:
        nonlocal left
        if event == "c_call" and getattr(function, "__name__", "") in calls:
            left -= 1
            if left == 0:
                die()

    sys.setprofile(watch)
    vacuum_table(lake.storage, plan)


@pytest.mark.parametrize("step", [2, 9, 16, 23, 30, 37])
def test_killed_anywhere_every_needed_version_is_readable(step: int, lake: Lake) -> None:
    with forked(vacuum_until_killed, lake, step) as other:
        assert other.wait() == -signal.SIGKILL, other.said()
    for version in (7, 12):
        assert lake.read("statistics", version=version).num_rows == version
    vacuum(lake, 7)
    for spool in abandoned_spools(lake.storage, None):
        Path(spool).unlink()
    for version in (7, 12):
        assert lake.read("statistics", version=version).num_rows == version
    assert len(list(Path(lake.path("statistics", "day=2026-01-01")).iterdir())) == 2
    assert min(list_log(lake.storage, "statistics").commits) == 5
