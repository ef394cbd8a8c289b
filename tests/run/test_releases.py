"""Readers follow releases: one row names the version of every table."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import hbpipe
from hbpipe.data.lake import Lake
from hbpipe.errors import ConfigError, LakeError
from hbpipe.run.history import newest
from hbpipe.run.releases import (
    RELEASED,
    current_release,
    latest_release,
    next_name,
    read,
    releases,
)
from tests.nights import day, lake_of, night, settings_for, visits, write, write_days
from tests.published import empty_lake, publish, word


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return empty_lake(tmp_path)


def test_releases_of_a_day_are_numbered(lake: Lake) -> None:
    names = [publish(lake, day(k)) for k in (0, 1, 0)]
    assert names == ["2026-01-01.1", "2026-01-02.1", "2026-01-01.2"]
    numbers = read(lake, "releases", columns=["release", "number"]).to_pylist()
    assert {row["release"]: row["number"] for row in numbers} == dict(
        zip(names, (1, 2, 3), strict=True)
    )
    assert next_name(lake, day(0)) == "2026-01-01.3"
    assert next_name(lake, day(9)) == "2026-01-10.1"


def test_readers_see_the_newest_release(lake: Lake) -> None:
    publish(lake, day(0), "first")
    publish(lake, day(0), "second")
    assert word(lake) == "second"


def test_the_tenth_release_is_newer_than_the_ninth(lake: Lake) -> None:
    for k in range(10):
        publish(lake, day(0), f"number {k + 1}")
    assert word(lake) == "number 10"


def test_what_is_written_later_is_not_seen_before_its_release(lake: Lake) -> None:
    publish(lake, day(0), "released")
    lake.replace("days", pa.table({"state": ["half a night"]}), run_id="run")
    assert word(lake) == "released"


def test_an_older_day_does_not_move_readers_back(lake: Lake) -> None:
    publish(lake, day(5), "new")
    publish(lake, day(3), "old")
    assert word(lake) == "new"
    assert word(lake, release="2026-01-04.1") == "old"
    found = latest_release(lake, "prod", day(3))
    assert found is not None
    assert found["release"] == "2026-01-04.1"


def test_environments_do_not_see_each_other(lake: Lake) -> None:
    publish(lake, day(0), "of prod")
    publish(lake, day(9), "of dev", environment="dev")
    assert word(lake) == "of prod"
    assert word(lake, environment="dev") == "of dev"
    assert [row["release"] for row in releases(lake, "dev")] == ["2026-01-10.1"]
    with pytest.raises(LakeError, match=r"no release '2026-01-10\.1' in 'prod': it is .*'dev'"):
        read(lake, "days", release="2026-01-10.1")
    with pytest.raises(LakeError, match="no release in environment 'prot'; did you mean 'prod'"):
        read(lake, "days", environment="prot")


def test_a_misspelt_release_is_answered_with_the_nearest(lake: Lake) -> None:
    publish(lake, day(0), "x")
    publish(lake, day(1), "y")
    with pytest.raises(LakeError, match=r"no release '2026-01-02\.2' in 'prod'.*'2026-01-02\.1'"):
        read(lake, "days", release="2026-01-02.2")
    with pytest.raises(LakeError, match=r"no release 'x' in 'prod'; the newest is '2026-01-02\.1'"):
        read(lake, "days", release="x")


def test_two_runs_that_publish_at_once_get_two_names(lake: Lake) -> None:
    """Without a lease, as on an object store, only the commit keeps them apart."""
    barrier = threading.Barrier(4)

    def run(said: str) -> None:
        barrier.wait()
        publish(lake, day(0), said)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, "abcd"))
    rows = read(lake, "releases").to_pylist()
    assert [row["release"] for row in rows] == [f"{day(0)}.{k}" for k in (1, 2, 3, 4)]
    assert [row["number"] for row in rows] == [1, 2, 3, 4]


@pytest.fixture
def told(lake: Lake) -> Lake:
    """Releases of 5 and 6 January, and on the 8th the 5th once more, each at noon the day after."""
    for number, at, said in ((4, 6, "first"), (5, 7, "second"), (4, 8, "the fifth again")):
        publish(lake, day(number), said, at=datetime(2026, 1, at, 12, tzinfo=UTC))
    return lake


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({}, "second"),
        ({"as_of": day(4)}, "the fifth again"),
        ({"as_of": "2026-01-06"}, "second"),
        ({"published_before": "2026-01-07T12:00:00Z"}, "first"),
        ({"published_before": datetime(2026, 1, 7, 12, 0, 1, tzinfo=UTC)}, "second"),
        ({"published_before": "2026-01-09T00:00+01:00", "as_of": day(4)}, "the fifth again"),
        ({"published_before": "2026-01-08T00:00+01:00", "as_of": day(4)}, "first"),
    ],
)
def test_the_past_is_read_as_it_was(told: Lake, asked: dict[str, Any], found: str) -> None:
    assert word(told, **asked) == found


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"as_of": day(6)}, "no release of 2026-01-07 .*from 2026-01-05 to 2026-01-06"),
        ({"published_before": "2026-01-06T00:00Z"}, "no release in environment 'prod' before"),
    ],
)
def test_a_past_without_a_release_says_what_there_is(
    told: Lake, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(LakeError, match=message):
        read(told, "days", **asked)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"as_of": "soon"}, "a day such as"),
        ({"as_of": datetime(2026, 1, 5, tzinfo=UTC)}, "a day such as"),
        ({"published_before": "2026-01-07"}, "a moment with its zone"),
        ({"published_before": day(4)}, "a moment with its zone"),
        ({"published_before": "lately"}, "a moment with its zone"),
        ({"release": "2026-01-05.1", "as_of": day(4)}, "beside it"),
    ],
)
def test_a_moment_that_means_nothing_certain_is_refused(
    told: Lake, asked: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read(told, "days", **asked)


def test_nothing_is_the_newest_of_nothing() -> None:
    assert newest([]) is None


def test_a_lake_without_release_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"no release in environment 'prod'.*hbpipe run"):
        read(str(tmp_path / "nowhere"), "posteriors")


def test_a_table_that_is_not_released_is_named(lake: Lake) -> None:
    publish(lake, day(0), "x")
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
