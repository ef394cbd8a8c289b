"""One night done and the input of a second, and what readers see before and after that one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hbpipe.run.releases import current_release, read
from tests.nights import first_night, lake_of, rows_of, settings_for, visits, write

TABLES = ("files", "days", "statistics", "quarantine", "hyperparameters", "fits", "posteriors")
#: A release, and the rows of its tables.
Seen = tuple[str, dict[str, list[str]]]


def prepare(folder: Path, **sections: Any) -> None:
    """Do a night of three days; then come a new day, a late row, and a row without an id."""
    first_night(folder, 3, **sections)
    nobody = {**visits(3)[0], "event_id": None}
    late = {**visits(1)[0], "event_id": "late"}
    write(folder / "events" / "next.parquet", [*visits(3), late, nobody])


def seen(folder: Path, **without: list[str]) -> Seen:
    """Return what a reader sees; ``without`` names the columns of a table that are left out."""
    lake = lake_of(settings_for(folder))
    release = current_release(lake, "prod")
    assert release is not None
    name = release["release"]
    return name, {
        table: rows_of(read(lake, table, release=name), without.get(table, ())) for table in TABLES
    }
