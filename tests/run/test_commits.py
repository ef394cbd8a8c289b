"""What a night writes, in which order, and what the rows of the ledger then say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hbpipe.data import publish
from hbpipe.data.clock import to_number
from hbpipe.data.lake import Lake
from hbpipe.data.schemas import FILES, QUARANTINE
from hbpipe.run.ledger import read_days, read_files
from tests.nights import day, first_night, lake_of, night, settings_for, visits, write, write_days


def dirty(number: int, **changes: Any) -> list[dict[str, Any]]:
    """A day whose first row is changed."""
    rows = visits(number)
    rows[0] |= changes
    return rows


def test_the_order_in_which_a_night_becomes_true(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, seen = publish.compare_and_swap, []

    def watched(storage: Any, name: str, *arguments: Any, **options: Any) -> int:
        seen.append(name)
        return commit(storage, name, *arguments, **options)

    monkeypatch.setattr(publish, "compare_and_swap", watched)
    write(tmp_path / "events" / "a.parquet", dirty(0, store_id=None))
    night(settings_for(tmp_path))
    assert seen == [
        "runs",
        "statistics",
        "quarantine",
        "files",
        "days",
        "audits",
        "hyperparameters",
        "fits",
        "diagnostics",
        "posteriors",
        "new_stores",
        "releases",
        "runs",
    ]


def test_all_due_days_are_one_commit(tmp_path: Path) -> None:
    settings = first_night(tmp_path, 3)
    lake = lake_of(settings)
    history = lake.history("statistics")
    assert [entry["metadata"].get("days") for entry in history] == [3, None]
    assert len(lake.files("statistics")) == 3
    version = lake.version("statistics")
    assert {entry.statistics_version for entry in read_days(lake).values()} == {version}


def test_only_stale_days_are_replaced(tmp_path: Path) -> None:
    settings = first_night(tmp_path, 3)
    lake = lake_of(settings)
    before = {file.partition["day"]: file.path for file in lake.files("statistics")}
    write(tmp_path / "events" / "late.parquet", visits(1, rows=3, seed=5))
    night(settings)
    after = {file.partition["day"]: file.path for file in lake.files("statistics")}
    assert {one for one in after if after[one] != before[one]} == {str(day(1))}


def test_a_day_whose_rows_have_all_left_becomes_empty(tmp_path: Path) -> None:
    paths = write_days(tmp_path, 3)
    settings = settings_for(tmp_path)
    night(settings)
    write(paths[1], visits(2, seed=3))
    night(settings)
    lake = lake_of(settings)
    entry = read_days(lake)[to_number(day(1))]
    assert (entry.state, entry.account.rows, entry.units) == ("empty", 0, 0)
    assert set(lake.read("statistics")["day"].to_pylist()) == {day(0), day(2)}


def quarantined(lake: Lake) -> Counter[tuple[str, str]]:
    rows = lake.read("quarantine").to_pylist()
    return Counter((row["file"], row["reason"]) for row in rows)


def test_examples_follow_what_the_files_say_now(tmp_path: Path) -> None:
    write(tmp_path / "events" / "a.parquet", dirty(0, store_id=None))
    write(tmp_path / "events" / "b.parquet", dirty(1, ts=None))
    settings = settings_for(tmp_path)
    night(settings)
    lake = lake_of(settings)
    first = {("a.parquet", "missing level"): 1, ("b.parquet", "missing time"): 1}
    assert quarantined(lake) == first
    write(tmp_path / "events" / "c.parquet", dirty(2, chain_id=""))
    night(settings)
    assert quarantined(lake) == first | {("c.parquet", "empty level"): 1}
    write(tmp_path / "events" / "a.parquet", visits(0))
    write(tmp_path / "events" / "b.parquet", visits(1))
    night(settings)
    assert quarantined(lake) == {("c.parquet", "empty level"): 1}
    assert set(lake.read("quarantine").column_names) == set(QUARANTINE.schema.names)


def test_a_copy_is_not_quarantined_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "events" / "a.parquet", dirty(0, ts=None))
    (tmp_path / "events" / "b.parquet").write_bytes(path.read_bytes())
    settings = settings_for(tmp_path)
    report = night(settings)
    assert quarantined(lake_of(settings)) == {("a.parquet", "missing time"): 1}
    assert report.rows == {"in": 80, "accepted": 39, "rejected": 1, "repeated": 40}


def test_rows_of_files_always_add_up(tmp_path: Path) -> None:
    write(tmp_path / "events" / "a.parquet", [*dirty(0, ts=None), visits(0)[5]])
    write(tmp_path / "events" / "b.parquet", [*visits(1), visits(0)[6]])
    settings = settings_for(tmp_path)
    night(settings)
    rows = lake_of(settings).read("files").to_pylist()
    split = ("accepted", "rejected", "repeated", "pending")
    assert {row["path"]: tuple(row[name] for name in split) for row in rows} == {
        "a.parquet": (39, 1, 1, 0),
        "b.parquet": (40, 0, 1, 0),
    }
    assert all(sum(row[name] for name in split) == row["rows"] for row in rows)
    assert set(rows[0]) == set(FILES.schema.names)


def test_a_night_without_work_still_learns_of_files(tmp_path: Path) -> None:
    paths = write_days(tmp_path, 2)
    settings = settings_for(tmp_path)
    first = night(settings)
    (tmp_path / "events" / "copy.parquet").write_bytes(paths[0].read_bytes())
    paths[1].rename(tmp_path / "events" / "other.parquet")
    report = night(settings)
    assert report.release == first.release
    assert report.rows == {"in": 40, "accepted": 0, "rejected": 0, "repeated": 40}
    files = read_files(lake_of(settings))
    assert {path: entry.state for path, entry in files.items()} == {
        "2026-01-01.parquet": "read",
        "2026-01-02.parquet": "gone",
        "copy.parquet": "duplicate",
        "other.parquet": "read",
    }
    assert sum(night(settings).rows.values()) == 0


def test_a_release_row_tells_what_it_was_made_from(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    settings = settings_for(tmp_path)
    report = night(settings)
    (row,) = lake_of(settings).read("releases").to_pylist()
    assert row["run_id"] == report.run_id
    assert (row["pipeline"], row["environment"]) == ("tiny", "prod")
    assert (row["days"], row["rows"], row["accepted"], row["units"], row["pools"]) == (
        2,
        80,
        80,
        6,
        2,
    )
    assert all(len(row[name]) == 16 for name in ("input", "settings", "kernel"))
