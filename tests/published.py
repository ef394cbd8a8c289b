"""A lake of releases without nights: each says one word in the table ``days``."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from hbpipe.data.lake import Lake
from hbpipe.run.release_table import RELEASES
from hbpipe.run.releases import publish_release, read


def empty_lake(folder: Path) -> Lake:
    """Make a lake with one small table beside its releases."""
    lake = Lake(str(folder / "lake"))
    lake.create("releases", RELEASES.schema)
    lake.create("days", pa.schema([("state", pa.string())]))
    return lake


def publish(
    lake: Lake,
    as_of: date,
    word: str = "",
    environment: str = "prod",
    at: datetime = datetime(2026, 2, 1, tzinfo=UTC),
) -> str:
    """Write a word and publish it; returns the name of the release."""
    lake.replace("days", pa.table({"state": [word]}), run_id="run")
    row = dict.fromkeys(RELEASES.schema.names) | {
        "environment": environment,
        "as_of": as_of,
        "run_id": "run",
        "released_at": at,
        "versions": [("days", lake.version("days"))],
    }
    return str(publish_release(lake, row)["release"])


def word(lake: Lake, **options: Any) -> str:
    """Read the word of a release."""
    (found,) = read(lake, "days", **options)["state"].to_pylist()
    return str(found)
