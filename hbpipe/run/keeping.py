"""Which releases are kept: those that readers see now, those pointed at, and those retention names.

Rows of ``releases`` stay for ever; one that has expired says since when and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from hbpipe.config import ReleaseRetention
from hbpipe.data.lake import Lake
from hbpipe.run.history import History, newest, read_releases
from hbpipe.run.release_table import RELEASES

Row = Mapping[str, Any]


def seen_releases(history: History) -> set[str]:
    """Name the releases that can never expire.

    In each environment that is the one that readers see, the one that the last pointer names, and
    the newest, which a pin may hide.
    """
    kept: set[str] = set()
    for name in history.environments:
        pointer, rows = history.pointer(name), (history.current(name), newest(history.of(name)))
        kept |= {row["release"] for row in rows if row is not None}
        kept |= {pointer.release} if pointer is not None else set()
    return kept


def due_to_expire(history: History, rule: ReleaseRetention, now: datetime) -> list[Row]:
    """List the releases that neither key of ``rule`` keeps, and that nobody sees, oldest first."""
    if rule.keep_last is None and rule.days is None:
        return []
    kept = seen_releases(history)
    if rule.keep_last is not None:
        for name in history.environments:
            kept |= {row["release"] for row in history.of(name)[-rule.keep_last :]}
    if rule.days is not None:
        since = now - timedelta(days=rule.days)
        kept |= {row["release"] for row in history.releases if row["released_at"] >= since}
    return [row for row in history.releases if row["release"] not in kept]


def needed_by_releases(rows: Iterable[Row], before: datetime | None) -> dict[str, set[int]]:
    """Return the versions of each table that must stay: those that kept releases name.

    A release that expired since ``before``, the end of the grace, may have a reader still.
    """
    needed: dict[str, set[int]] = {}
    for row in rows:
        ended = row.get("expired_at")
        if ended is None or (before is not None and ended >= before):
            for table, version in dict(row["versions"]).items():
                needed.setdefault(table, set()).add(version)
    return needed


def rewrite_releases(lake: Lake, changed: Mapping[str, Mapping[str, Any]], run_id: str) -> None:
    """Change columns of releases: name -> column -> value; all in one commit."""
    if not changed:
        return
    lake.ensure_schema("releases", RELEASES.schema)
    schema = lake.snapshot("releases").schema
    rows = [
        {**row, **changed[row["release"]]}
        for row in read_releases(lake)
        if row["release"] in changed
    ]
    lake.upsert("releases", pa.Table.from_pylist(rows, schema=schema), RELEASES.key, run_id=run_id)
