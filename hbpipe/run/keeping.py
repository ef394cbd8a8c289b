"""Which releases are kept: those that readers see now, those pointed at, and those retention names.

Rows of ``releases`` stay for ever; one that has expired says since when and why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from hbpipe.config import ReleaseRetention
from hbpipe.data.lake import Lake
from hbpipe.data.schemas import RELEASES
from hbpipe.run.releases import is_expired, newest

Row = Mapping[str, Any]


def release_rows(lake: Lake) -> list[dict[str, Any]]:
    """Return the releases of all environments, oldest first; those that have expired too."""
    if lake.version("releases") is None:
        return []
    return sorted(lake.read("releases").to_pylist(), key=_published)


def _published(row: Row) -> tuple[datetime, str]:
    return row["released_at"], row["release"]


def seen_releases(lake: Lake, rows: Iterable[Row]) -> set[str]:
    """Name the releases that can never expire: the current ones, and those pointed at."""
    kept = [dict(row) for row in rows if not is_expired(row)]
    environments = {row["environment"] for row in kept}
    current = [newest(one for one in kept if one["environment"] == name) for name in environments]
    return {row["release"] for row in current if row is not None} | _pointed_at(lake)


def _pointed_at(lake: Lake) -> set[str]:
    """Name the release that each environment's last pointer names."""
    if lake.version("pointers") is None:
        return set()
    rows = lake.read("pointers", columns=["number", "environment", "release"]).to_pylist()
    last = {row["environment"]: row["release"] for row in sorted(rows, key=lambda r: r["number"])}
    return set(last.values())


def due_to_expire(
    rows: Sequence[Row], seen: set[str], rule: ReleaseRetention, now: datetime
) -> list[Row]:
    """List the releases that neither key of ``rule`` keeps, and that nobody sees."""
    if rule.keep_last is None and rule.days is None:
        return []
    kept = set(seen)
    living = [row for row in rows if not is_expired(row)]
    for name in {row["environment"] for row in living}:
        of_it = [row["release"] for row in living if row["environment"] == name]
        kept |= set(of_it[-rule.keep_last :] if rule.keep_last is not None else ())
    if rule.days is not None:
        since = now - timedelta(days=rule.days)
        kept |= {row["release"] for row in living if row["released_at"] >= since}
    return [row for row in living if row["release"] not in kept]


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
        for row in release_rows(lake)
        if row["release"] in changed
    ]
    lake.upsert("releases", pa.Table.from_pylist(rows, schema=schema), RELEASES.key, run_id=run_id)
