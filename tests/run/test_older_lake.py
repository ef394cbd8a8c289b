"""A lake that an older hbpipe made: refused before anything is written, and told what to do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hbpipe.cli import main
from hbpipe.data.audit_tables import AUDITS
from hbpipe.data.lake import Lake
from hbpipe.run.releases import read
from tests.nights import day, lake_of, night, rows_of, settings_for, write_config, write_days


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """One night, whose checks lie in a table without partitions."""
    write_days(tmp_path, 1)
    night(settings_for(tmp_path))
    lake = lake_of(settings_for(tmp_path))
    rows = lake.read("audits").select(AUDITS.schema.names)
    shutil.rmtree(Path(lake.path("audits")))
    lake.create("audits", AUDITS.schema)
    lake.append("audits", rows, run_id="then")
    return lake


def versions(lake: Lake) -> dict[str, int | None]:
    names = ("files", "days", "statistics", "audits", "posteriors", "releases")
    return {name: lake.version(name) for name in names}


def test_audits_without_partitions_are_refused_with_a_way_out(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen, before = rows_of(read(lake, "posteriors")), versions(lake)
    write_days(tmp_path, 1, first=1)
    config = str(write_config(tmp_path))
    assert main(["run", "--config", config, "--quiet"]) == 1
    told = capsys.readouterr().err.strip()
    assert told == (
        f"hbpipe: the table has no partitions (lake {lake.uri}, table audits); expected: one that "
        "is partitioned by as_of; what to do: another version of hbpipe made it, and partitions "
        "never change within a lake: run and `hbpipe backfill` into a new lake.path; this lake "
        "stays readable as it is"
    )
    assert versions(lake) == before
    assert rows_of(read(lake, "posteriors")) == seen
    assert main(["status", "--config", config]) == 0

    moved = str(tmp_path / "new")
    span = ("--start", str(day(0)), "--end", str(day(1)), "--yes", "--quiet")
    assert main(["backfill", "--config", config, "--set", f"lake.path={moved}", *span]) == 0
    assert set(rows_of(read(moved, "posteriors", as_of=day(0)))) == set(seen)
