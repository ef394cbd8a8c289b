"""The doctor finds what stands in the way, and leaves nothing behind."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hbpipe.config import Settings
from hbpipe.run.verification.doctor import examine
from tests.nights import CONVERSION, day, settings_for, visits, write, write_days


def failed(settings: Settings) -> dict[str, str]:
    return {one.name: one.message for one in examine(settings) if not one.fine}


def everything_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def test_all_is_well_and_nothing_is_left_behind(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    before = everything_below(tmp_path)
    findings = {one.name: one for one in examine(settings_for(tmp_path))}
    assert all(one.fine for one in findings.values())
    assert "2 file(s)" in findings["events"].message
    assert "serial answers with 1 worker" in findings["cluster"].message
    assert everything_below(tmp_path) == before


def test_events_that_are_not_there(tmp_path: Path) -> None:
    found = failed(settings_for(tmp_path))
    assert set(found) == {"events"}
    assert "no events at" in found["events"]


def test_a_column_that_is_missing(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    metrics = {"basket": {"family": "normal", "value": "amounts"}}
    found = failed(settings_for(tmp_path, metrics=metrics))
    assert "did you mean 'amount'?" in found["events"]


def test_a_table_of_stores_that_is_not_there(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    found = failed(settings_for(tmp_path, stores={"path": str(tmp_path / "none.parquet")}))
    assert set(found) == {"stores"}
    assert "none.parquet" in found["stores"]


def test_a_table_of_totals(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    known = {"totals": str(tmp_path / "totals.parquet"), "mean": "rate"}
    metrics = {"conversion": {**CONVERSION["conversion"], "reconcile": known}}
    settings = settings_for(tmp_path, metrics=metrics)
    assert "totals.parquet" in failed(settings)["totals"]
    for rate, fine in ((0.3, True), (1.3, False)):
        pq.write_table(pa.table({"chain_id": ["near"], "rate": [rate]}), known["totals"])
        (found,) = [one for one in examine(settings) if one.name == "totals"]
        assert found.fine == fine
        assert ("1 groups" if fine else "the mean of near is 1.3") in found.message


def test_a_lake_that_cannot_be_written(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    (tmp_path / "file").write_text("not a folder")
    found = failed(settings_for(tmp_path, lake={"path": str(tmp_path / "file" / "lake")}))
    assert set(found) == {"lake"}


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2**40, 2**40 - 2**20, 2**20))
    write(tmp_path / "events" / f"{day(0)}.parquet", visits(0))
    found = failed(settings_for(tmp_path))
    assert set(found) == {"disk"}
    assert "0.00 GiB free" in found["disk"]


def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    cluster = {"kind": "address", "address": "tcp://127.0.0.1:1", "no_workers_timeout_s": 0.3}
    found = failed(settings_for(tmp_path, cluster=cluster))
    assert set(found) == {"cluster"}
    assert "no scheduler answers" in found["cluster"]
