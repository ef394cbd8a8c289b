"""Readers follow releases: one row names the version of every table."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import hbpipe
from hbpipe.data.lake import Lake
from hbpipe.data.schemas import RELEASES
from hbpipe.errors import LakeError
from hbpipe.run.releases import (
    RELEASED,
    current_release,
    newest,
    next_name,
    publish_release,
    read,
    releases,
)
from tests.nights import day, lake_of, night, settings_for, visits, write, write_days


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """A lake with one small table beside its releases."""
    lake = Lake(str(tmp_path / "lake"))
    lake.create("releases", RELEASES.schema)
    lake.create("days", pa.schema([("state", pa.string())]))
    return lake


def release(lake: Lake, as_of: date, state: str, environment: str = "prod") -> dict[str, Any]:
    """Write a table and publish it."""
    lake.replace("days", pa.table({"state": [state]}), run_id="run")
    row = dict.fromkeys(RELEASES.schema.names) | {
        "release": next_name(lake, as_of),
        "environment": environment,
        "as_of": as_of,
        "run_id": "run",
        "released_at": datetime(2026, 2, 1, tzinfo=UTC),
        "versions": [("days", lake.version("days"))],
    }
    publish_release(lake, row)
    return row


def state(lake: Lake, **options: Any) -> str:
    (found,) = read(lake, "days", **options)["state"].to_pylist()
    return str(found)


def test_releases_of_a_day_are_numbered(lake: Lake) -> None:
    names = [release(lake, day(k), "x")["release"] for k in (0, 1, 0)]
    assert names == ["2026-01-01.1", "2026-01-02.1", "2026-01-01.2"]


def test_readers_see_the_newest_release(lake: Lake) -> None:
    release(lake, day(0), "first")
    release(lake, day(0), "second")
    assert state(lake) == "second"


def test_the_tenth_release_is_newer_than_the_ninth(lake: Lake) -> None:
    for k in range(10):
        release(lake, day(0), f"number {k + 1}")
    assert state(lake) == "number 10"


def test_what_is_written_later_is_not_seen_before_its_release(lake: Lake) -> None:
    release(lake, day(0), "released")
    lake.replace("days", pa.table({"state": ["half a night"]}), run_id="run")
    assert state(lake) == "released"


def test_an_older_day_does_not_move_readers_back(lake: Lake) -> None:
    release(lake, day(5), "new")
    release(lake, day(3), "old")
    assert state(lake) == "new"
    assert state(lake, release="2026-01-04.1") == "old"
    found = current_release(lake, "prod", as_of=day(3))
    assert found is not None
    assert found["release"] == "2026-01-04.1"


def test_environments_do_not_see_each_other(lake: Lake) -> None:
    release(lake, day(0), "of prod")
    release(lake, day(9), "of dev", environment="dev")
    assert state(lake) == "of prod"
    assert state(lake, environment="dev") == "of dev"
    assert [row["release"] for row in releases(lake, "dev")] == ["2026-01-10.1"]
    with pytest.raises(LakeError, match=r"no release '2026-01-10\.1' in 'prod'"):
        read(lake, "days", release="2026-01-10.1")


def test_nothing_is_the_newest_of_nothing() -> None:
    assert newest([]) is None


def test_a_lake_without_release_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"no release in environment 'prod'.*hbpipe run"):
        read(str(tmp_path / "nowhere"), "posteriors")


def test_a_table_that_is_not_released_is_named(lake: Lake) -> None:
    release(lake, day(0), "x")
    with pytest.raises(LakeError, match=r"release 2026-01-01\.1 has no table 'posterior'.*days"):
        read(lake, "posterior")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Releases of three days: the second, the third, and the second again after late input."""
    folder = tmp_path_factory.mktemp("releases")
    write_days(folder, 3)
    settings = settings_for(folder)
    night(settings, as_of=day(1))
    night(settings, as_of=day(2))
    write(folder / "events" / "late.parquet", visits(0, rows=5, seed=8))
    night(settings, as_of=day(1))
    return folder


def test_a_release_of_a_real_night_names_every_table(folder: Path) -> None:
    row = current_release(lake_of(settings_for(folder)), "prod")
    assert row is not None
    assert [name for name, _ in row["versions"]] == list(RELEASED)
    assert all(version is not None for _, version in row["versions"])
    assert (row["rows"], row["accepted"], row["days"], row["units"]) == (120, 120, 3, 6)


def test_a_night_of_an_older_day_leaves_readers_where_they_are(folder: Path) -> None:
    names = [row["release"] for row in releases(lake_of(settings_for(folder)), "prod")]
    assert sorted(names) == ["2026-01-02.1", "2026-01-02.2", "2026-01-03.1"]
    table = hbpipe.read(folder / "lake", "posteriors")
    assert set(table["as_of"].to_pylist()) == {day(2)}
    assert pa.compute.sum(table["n"]).as_py() == 120
    again = hbpipe.read(str(folder / "lake"), "posteriors", release="2026-01-02.2")
    assert set(again["as_of"].to_pylist()) == {day(1)}
    assert pa.compute.sum(again["n"]).as_py() == 85


def test_columns_can_be_chosen(folder: Path) -> None:
    table = read(folder / "lake", "posteriors", columns=["store_id", "mean"])
    assert table.column_names == ["store_id", "mean"]
    assert read(folder / "lake", "releases", columns=["release"]).num_rows == 3
