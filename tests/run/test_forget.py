"""A store is forgotten: gone from every table and release, proved, and no night brings it back."""

from __future__ import annotations

import shutil
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hbpipe.cli import main
from hbpipe.config import Settings
from hbpipe.data.forgotten import read_forgotten
from hbpipe.data.lake import Lake
from hbpipe.errors import ConfigError, GateError, LakeError, LeaseError
from hbpipe.run.forget import forget
from hbpipe.run.history import read_releases
from hbpipe.run.lease import Lease
from hbpipe.run.releases import read
from hbpipe.run.restate import restate
from hbpipe.run.traces import Unit, find_traces
from hbpipe.run.verification.verify import verify
from tests.interrupted import COMMIT, Moment, killed
from tests.nights import (
    BOTH,
    NOW,
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

INFERENCE = {"window": "3d", "uncertainty": "auto"}
SECTIONS: dict[str, Any] = {"inference": INFERENCE, "metrics": BOTH}
S4 = Unit({"store_id": "s4"})
WHOLE = ("statistics", "posteriors")


def settings_of(folder: Path) -> Settings:
    return settings_for(folder, **SECTIONS)


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three nights, the last of them twice; a row of s4 with a bad amount on every day."""
    folder = tmp_path_factory.mktemp("nights")
    for number in range(3):
        bad = {**visits(number)[0], "event_id": f"bad/{number}", "store_id": "s4", "amount": -1.0}
        bad["chain_id"] = "near"
        write(folder / "events" / f"{day(number)}.parquet", [*visits(number), bad])
        night(settings_of(folder))
    write(folder / "events" / "late.parquet", visits(2, seed=1))
    night(settings_of(folder))
    return folder


@pytest.fixture
def folder(nights: Path, tmp_path: Path) -> Path:
    shutil.copytree(nights, tmp_path, dirs_exist_ok=True)
    return tmp_path


ALL = ("2026-01-01.1", "2026-01-02.1", "2026-01-03.1", "2026-01-03.2")
KEPT = (ALL[0], ALL[1], ALL[3])


def others(table: pa.Table) -> list[str]:
    rows = table.filter(pa.compute.not_equal(table["store_id"], "s4"))
    return rows_of(rows)


def gone(folder: Path, **options: Any) -> Any:
    return forget(settings_of(folder), "s4", reason="asked on Monday", **options)


@pytest.fixture(scope="module")
def forgotten(nights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nights, and then s4 was forgotten."""
    folder = tmp_path_factory.mktemp("forgotten")
    shutil.copytree(nights, folder, dirs_exist_ok=True)
    gone(folder)
    return folder


@pytest.fixture
def without(forgotten: Path, tmp_path: Path) -> Path:
    """A copy of the nights without s4, to go on with."""
    shutil.copytree(forgotten, tmp_path, dirs_exist_ok=True)
    return tmp_path


def test_every_kept_release_is_as_it_was_without_the_store(folder: Path) -> None:
    lake = lake_of(settings_of(folder))
    before = {name: others(read(lake, "posteriors", release=name)) for name in KEPT}
    fits = {name: rows_of(read(lake, "hyperparameters", release=name)) for name in KEPT}
    statistics = others(read(lake, "statistics"))
    assert len(list(find_traces(lake, S4))) > 5
    report = gone(folder)
    assert report.traces == ()
    assert list(find_traces(lake, S4)) == []
    for name in KEPT:
        assert rows_of(read(lake, "posteriors", release=name)) == before[name]
        assert rows_of(read(lake, "hyperparameters", release=name)) == fits[name]
        assert rows_of(read(lake, "statistics", release=name)) == statistics
    assert report.expired == (ALL[2],)
    with pytest.raises(LakeError, match=r"expired on .*a store that was forgotten"):
        read(lake, "posteriors", release=ALL[2])
    notes = {row["release"]: row["note"] for row in read_releases(lake)}
    assert "without a store that was forgotten" in notes[ALL[0]]


def test_nothing_is_left_to_do_and_everything_adds_up(without: Path) -> None:
    settings = settings_of(without)
    lake = lake_of(settings)
    assert [str(one) for one in verify(settings, lake, full=True) if not one.fine] == []
    report = night(settings)
    assert report.days == []
    assert "up to date" in report.reason
    rows = sum(len(visits(k)) + 1 for k in range(3)) + len(visits(2, seed=1))
    files = lake.read("files").to_pylist()
    assert sum(row["accepted"] + row["rejected"] for row in files) == rows
    refused = [one for row in files for one in row["rejections"] if one["reason"] == "forgotten"]
    assert {one["column"] for one in refused} == {"store_id"}
    again = gone(without)
    assert not any(again.rows.values())
    assert len(read_forgotten(lake)) == 1


def test_no_night_brings_it_back(without: Path) -> None:
    settings = settings_of(without)
    lake = lake_of(settings)
    statistics = rows_of(lake.read("statistics"))
    restate(settings, start=day(0), end=day(2), reason="to see", now=NOW)
    assert rows_of(lake.read("statistics")) == statistics
    write_days(without, 1, first=3)
    report = night(settings)
    own = sum(row["store_id"] == "s4" for row in visits(3))
    assert own > 0
    assert report.rows["rejected"] == own
    assert list(find_traces(lake, S4)) == []
    assert "forgotten" not in lake.read("quarantine")["reason"].to_pylist()
    assert [str(one) for one in verify(settings, lake, full=True) if not one.fine] == []


def test_a_table_of_stores_does_not_bring_it_back(without: Path) -> None:
    stores = pa.table({"chain_id": ["near", "near", "far"], "store_id": ["s4", "s7", "s8"]})
    pa.parquet.write_table(stores, without / "stores.parquet")
    settings = settings_for(without, **SECTIONS, stores={"path": str(without / "stores.parquet")})
    night(settings)
    found = set(read(lake_of(settings), "posteriors")["store_id"].to_pylist())
    assert "s7" in found
    assert "s4" not in found


def test_many_rows_of_a_forgotten_store_hold_no_day(without: Path) -> None:
    rows = [{**row, "store_id": "s4", "chain_id": "near"} for row in visits(3)]
    write(without / "events" / "next.parquet", [*visits(3, seed=2)[:20], *rows])
    assert night(settings_of(without)).as_of == "2026-01-04"


def test_what_readers_see_must_be_writable_without_it(folder: Path) -> None:
    """The results of the current as-of day were replaced, and no release shows the new ones."""
    settings = settings_of(folder)
    lake = lake_of(settings)
    partition = {"as_of": "2026-01-03"}
    rows = lake.read("posteriors", filters=[("as_of", "==", day(2))]).drop_columns(["as_of"])
    place = rows.column_names.index("run_id")
    rows = rows.set_column(place, "run_id", pa.array(["another"] * rows.num_rows))
    lake.replace("posteriors", rows, run_id="another", partition=partition)
    with pytest.raises(LakeError, match=r"have been replaced since release 2026-01-03\.2"):
        gone(folder)
    assert lake.version("forgotten") is None


@pytest.mark.parametrize(
    ("unit", "options", "fault"),
    [
        ("s4", {"reason": "s4 asked"}, "the reason names the unit"),
        ("s4", {"reason": "x", "level": "shop"}, "'shop' is not a level"),
    ],
)
def test_a_wrong_call_does_nothing(
    unit: str, options: dict[str, str], fault: str, folder: Path
) -> None:
    with pytest.raises(ConfigError, match=fault):
        forget(settings_of(folder), unit, **options)  # type: ignore[arg-type]


def test_an_id_in_the_path_of_a_file_is_told(folder: Path) -> None:
    write(folder / "events" / "of s4.parquet", visits(2, seed=5))
    night(settings_of(folder))
    with pytest.raises(GateError, match=r"trace\(s\) of the unit are left, the first in files/"):
        gone(folder)


def test_numbers_that_two_stores_share(tmp_path: Path) -> None:
    rows = [
        {**row, "store_id": int(row["store_id"][1:]) // 2 + 7}
        for k in range(2)
        for row in visits(k)
    ]
    write(tmp_path / "events" / "all.parquet", rows)
    settings = settings_of(tmp_path)
    night(settings)
    with pytest.raises(ConfigError, match="2 units have this id"):
        forget(settings, "9", reason="asked")
    with pytest.raises(ConfigError, match="a whole number"):
        forget(settings, "nine", reason="asked")
    lake = lake_of(settings)
    far = len(read(lake, "posteriors"))
    report = forget(settings, "9", parents={"chain_id": "near"}, reason="asked")
    assert report.rows["posteriors"] == 2
    assert len(read(lake, "posteriors")) == far - 2
    assert {"chain_id": "far", "store_id": 9} in (
        read(lake, "posteriors").select(["chain_id", "store_id"]).to_pylist()
    )
    assert [str(one) for one in verify(settings, lake, full=True) if not one.fine] == []


def test_a_dry_run_and_a_question(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(write_config(folder, **SECTIONS))
    lake = lake_of(settings_of(folder))
    arguments = ["forget", "s4", "--config", config, "--reason", "asked", "--quiet"]
    with Lease(lake).acquire(run_id="a night"):
        assert main([*arguments, "--dry-run"]) == 10
        assert main([*arguments, "--yes"]) == LeaseError.exit_code
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert "posteriors: 6 row(s) would go" in told.out
    assert "no terminal to say yes" in told.err
    assert lake.version("forgotten") is None
    assert main([*arguments, "--yes"]) == 0
    told = capsys.readouterr()
    assert "no file left in the lake holds the id" in told.out
    assert "s4" not in told.out
    assert main([*arguments, "--dry-run"]) == 0


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("s4 and others", True),
        ("events/of s4.parquet", True),
        ("store=s4/part", True),
        ("s41", False),
        ("s4.1", False),
        ("s4-b", False),
        (None, False),
    ],
)
def test_an_id_is_a_word(text: str | None, named: bool) -> None:
    assert S4.mentioned(text) is named


def test_a_short_number_is_no_mention() -> None:
    assert not Unit({"store_id": 7}).mentioned("7 of 7 days")
    assert Unit({"store_id": 1234567}).mentioned("store 1234567 is new")


def seen(lake: Lake, release: str) -> dict[str, list[str]]:
    return {table: rows_of(read(lake, table, release=release)) for table in WHOLE}


STEPS = (COMMIT, "hbpipe.run.retention:vacuum_table")


@pytest.fixture(scope="module")
def old(nights: Path) -> dict[str, dict[str, list[str]]]:
    """The kept releases as they were published."""
    lake = lake_of(settings_of(nights))
    return {name: seen(lake, name) for name in KEPT}


#: Before the commits: runs, forgotten, files, days, three tables, releases; while deleting.
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6, 8, 10])
def test_killed_anywhere_readers_see_one_or_the_other_and_a_second_call_ends_it(
    step: int, folder: Path, old: dict[str, dict[str, list[str]]]
) -> None:
    config = str(write_config(folder, **SECTIONS))
    lake = lake_of(settings_of(folder))
    arguments = ["forget", "s4", "--config", config, "--reason", "asked", "--yes"]
    killed(Moment(step, STEPS), *arguments)
    after = {name: seen(lake, name) for name in KEPT}
    whole = all(after[name] == old[name] for name in KEPT)
    without = not any("'s4'" in row for name in KEPT for t in WHOLE for row in after[name][t])
    assert whole or without
    assert gone(folder).traces == ()
    settings = settings_of(folder)
    assert [str(one) for one in verify(settings, lake, full=True) if not one.fine] == []
    refused = [one for row in lake.read("files").to_pylist() for one in row["rejections"]]
    rows = sum(one["rows"] for one in refused if one["reason"] == "forgotten")
    assert (
        rows
        == sum(
            row["store_id"] == "s4"
            for events in (visits(0), visits(1), visits(2), visits(2, seed=1))
            for row in events
        )
        + 3
    )
    assert lake.read("releases")["as_of"].to_pylist()[0] == date(2026, 1, 1)
