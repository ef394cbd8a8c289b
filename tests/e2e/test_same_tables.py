"""The same files give the same tables: whoever works, however often, however they came."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from hbpipe.data.lake import Lake
from hbpipe.run.releases import read
from tests.nights import day, lake_of, night, rows_of, settings_for, visits, write, write_days

METRICS = {
    "conversion": {"family": "beta_binomial", "successes": "converted", "trials": "rows"},
    "basket": {"family": "normal", "value": "amount", "transform": "log"},
    "orders": {"family": "gamma_poisson", "count": "converted", "exposure": "days"},
}
RESULTS = ("statistics", "hyperparameters", "diagnostics", "posteriors", "new_stores")
RELEASED = (*RESULTS, "fits", "files", "days", "quarantine", "audits")
OPTIONS: dict[str, Any] = {"metrics": METRICS, "inference": {"uncertainty": "auto"}}


def write_dirty_days(folder: Path) -> None:
    """Four days in several row groups, with late, repeated and faulty rows."""
    for k in range(4):
        rows = visits(k, rows=60)
        rows[3]["amount"] = float("nan")
        rows[4]["amount"] = None
        rows[5]["store_id"] = None
        rows.append(rows[10])
        rows.append({**rows[11], "amount": 1.0})
        rows += [{**row, "event_id": f"late-{k}"} for row in visits(max(k - 1, 0), rows=1, seed=7)]
        write(folder / "events" / f"{day(k)}.parquet", rows, row_group_size=25)
        write(folder / "events" / f"again-{day(k)}.parquet", [rows[12], rows[0]])


def tables(lake: Lake, names: tuple[str, ...] = RELEASED) -> dict[str, list[str]]:
    return {name: rows_of(read(lake, name)) for name in names}


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serial")
    write_dirty_days(folder)
    night(settings_for(folder, **OPTIONS))
    return folder


CLUSTERS = {
    "one thread": {"workers": 1, "processes": False},
    "two threads": {"workers": 2, "processes": False},
    "one process": {"workers": 1, "processes": True},
    "two processes": {"workers": 2, "processes": True},
}


@pytest.mark.parametrize("who", CLUSTERS)
def test_any_number_of_workers(who: str, serial: Path, tmp_path: Path) -> None:
    shutil.copytree(serial / "events", tmp_path / "events")
    cluster = {"kind": "local", **CLUSTERS[who]}
    settings = settings_for(tmp_path, cluster=cluster, **OPTIONS)
    night(settings)
    found, expected = tables(lake_of(settings)), tables(Lake(str(serial / "lake")))
    assert all(expected.values())
    for name in RELEASED:
        assert found[name] == expected[name], name


def test_after_a_rerun_of_everything(serial: Path, tmp_path: Path) -> None:
    """Statistics and posteriors are computed again, of the same files, into the same lake."""
    shutil.copytree(serial, tmp_path, dirs_exist_ok=True)
    lake = Lake(str(tmp_path / "lake"))
    before = tables(lake, (*RESULTS, "fits", "files"))
    held = {"conversion": METRICS["conversion"] | {"where": [["amount", ">", 0]]}}
    other = settings_for(tmp_path, **OPTIONS | {"metrics": METRICS | held})
    assert len(night(other).days) == 4
    assert tables(lake, ("posteriors",))["posteriors"] != before["posteriors"]
    again = night(settings_for(tmp_path, **OPTIONS))
    assert len(again.days) == 4
    assert tables(lake, (*RESULTS, "fits", "files")) == before


def test_a_second_run_changes_nothing_at_all(serial: Path, tmp_path: Path) -> None:
    shutil.copytree(serial, tmp_path, dirs_exist_ok=True)
    lake = Lake(str(tmp_path / "lake"))
    names = (*RELEASED, "releases")
    before = [lake.version(name) for name in names]
    report = night(settings_for(tmp_path, **OPTIONS))
    assert report.days == []
    assert report.rows == {"in": 0, "accepted": 0, "rejected": 0, "repeated": 0}
    assert [lake.version(name) for name in names] == before


def test_files_delivered_night_after_night(serial: Path, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, **OPTIONS)
    for path in sorted((serial / "events").iterdir(), key=lambda path: path.name[-18:]):
        (tmp_path / "events").mkdir(exist_ok=True)
        shutil.copy2(path, tmp_path / "events")
        night(settings)
    found, expected = lake_of(settings), Lake(str(serial / "lake"))
    for name in ("statistics", "hyperparameters", "new_stores", "quarantine", "files"):
        assert rows_of(read(found, name)) == rows_of(read(expected, name)), name
    # What tells of earlier nights differs by right: why a day was done, how far a fit or a store
    # moved.
    stories = {"days": ["reason"], "fits": ["drift"], "posteriors": ["change", "change_sd"]}
    for name, story in stories.items():
        one, other = (rows_of(read(lake, name), without=story) for lake in (found, expected))
        assert one == other, name
    one, other = (
        rows_of(read(lake, "diagnostics").filter(pc.field("check") != "drift"))
        for lake in (found, expected)
    )
    assert one == other


def compare(found: pa.Table, expected: pa.Table, key: list[str]) -> int:
    """Assert equal rows, floats to 1e-12; return how many numbers were compared."""
    compared = 0
    left, right = (
        {tuple(row[k] for k in key): row for row in t.to_pylist()} for t in (found, expected)
    )
    assert left.keys() == right.keys()
    for one, row in right.items():
        for name, value in row.items():
            if name == "run_id":
                continue
            compared += 1
            if isinstance(value, float):
                close = math.isclose(left[one][name], value, rel_tol=1e-12, abs_tol=1e-12)
                assert close, (one, name, left[one][name], value)
            else:
                assert left[one][name] == value, (one, name)
    return compared


def test_one_flat_file_against_hive_folders(tmp_path: Path) -> None:
    flat, hive = tmp_path / "flat", tmp_path / "hive"
    rows = [row for k in range(4) for row in visits(k, rows=50)]
    write(flat / "events" / "all.parquet", rows, row_group_size=70)
    for k in range(4):
        for chain in ("near", "far"):
            mine = [row for row in visits(k, rows=50) if row["chain_id"] == chain]
            table = pa.Table.from_pylist(mine).drop_columns(["chain_id"])
            place = hive / "events" / f"chain_id={chain}" / f"day={day(k)}"
            place.mkdir(parents=True)
            pq.write_table(table, place / "part-0.parquet")
    for folder in (flat, hive):
        night(settings_for(folder, **OPTIONS))
    one, other = (Lake(str(folder / "lake")) for folder in (flat, hive))
    levels = ["metric", "chain_id", "store_id"]
    key = ["day", *levels]
    assert compare(read(one, "statistics"), read(other, "statistics"), key) > 100


def test_files_that_become_one(tmp_path: Path) -> None:
    """Small files are compacted by whoever delivers: new bytes, same rows, same counts."""
    paths = write_days(tmp_path, 3)
    settings = settings_for(tmp_path, **OPTIONS)
    night(settings)
    before = read(lake_of(settings), "statistics")
    for path in paths:
        path.unlink()
    write(tmp_path / "events" / "compacted.parquet", [row for k in range(3) for row in visits(k)])
    report = night(settings)
    assert any("vanished" in note for note in report.notes)
    after = read(lake_of(settings), "statistics")
    assert rows_of(after) == rows_of(before), "no event counts twice"
