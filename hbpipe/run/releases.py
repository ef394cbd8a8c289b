"""Releases: rows that name one version of every table, so that readers never see half a night."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import pyarrow as pa

from hbpipe.data.lake import Lake
from hbpipe.data.schemas import RELEASES
from hbpipe.errors import LakeError

#: Tables whose versions a release names, in the order in which they are committed.
RELEASED = (
    "files",
    "days",
    "statistics",
    "quarantine",
    "hyperparameters",
    "fits",
    "posteriors",
    "new_stores",
    "audits",
)
#: Of these a release shows its own as-of day only; the others are shown whole.
_BY_AS_OF = ("hyperparameters", "fits", "posteriors", "new_stores")


def releases(lake: Lake, environment: str) -> list[dict[str, Any]]:
    """List the releases of an environment that can be read, oldest first."""
    return [row for row in _every(lake, environment) if not is_expired(row)]


def is_expired(row: Mapping[str, Any]) -> bool:
    """Tell whether retention, or a store that was forgotten, has ended a release."""
    return row.get("expired_at") is not None


def _every(lake: Lake, environment: str) -> list[dict[str, Any]]:
    if lake.version("releases") is None:
        return []
    rows = lake.read("releases").to_pylist()
    return [row for row in rows if row["environment"] == environment]


def require_kept(lake: Lake, row: Mapping[str, Any]) -> None:
    """Refuse a release that has expired: its files may be gone.

    Raises
    ------
    LakeError
        Says since when, why, and how to publish its day again.
    """
    if is_expired(row):
        raise LakeError(
            f"release {row['release']} expired on {row['expired_at']:%Y-%m-%d}: {row['note']}",
            where={"lake": lake.uri},
            expected="a release whose expired_at is null: see `hbpipe read releases`",
            remedy=f"`hbpipe backfill --start {row['as_of']} --end {row['as_of']}` publishes its "
            "day again, from the events as they are now",
        )


def current_release(
    lake: Lake, environment: str, as_of: date | None = None
) -> dict[str, Any] | None:
    """Return what readers of an environment see: the newest release of the latest as-of day.

    With ``as_of``, the newest release of that day. None when there is none.
    """
    return newest(
        row for row in releases(lake, environment) if as_of is None or row["as_of"] == as_of
    )


def newest(rows: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the newest release of the latest as-of day among some; None of none."""
    return max(rows, key=lambda row: (row["as_of"], _number(row)), default=None)


def _number(row: dict[str, Any]) -> int:
    """Return the number of a release among those of its day."""
    return int(row["release"].rpartition(".")[2])


def next_name(lake: Lake, as_of: date) -> str:
    """Name the next release of a day: ``2026-01-31.2`` is its second."""
    rows = [] if lake.version("releases") is None else lake.read("releases").to_pylist()
    count = sum(row["as_of"] == as_of for row in rows)
    return f"{as_of.isoformat()}.{count + 1}"


def publish_release(lake: Lake, row: dict[str, Any]) -> None:
    """Append one row to ``releases``: the moment at which readers see the night."""
    table = pa.Table.from_pylist([row], schema=RELEASES.schema)
    lake.upsert("releases", table, RELEASES.key, run_id=row["run_id"])


def read(
    lake: str | os.PathLike[str] | Lake,
    table: str,
    *,
    environment: str = "prod",
    columns: Sequence[str] | None = None,
    release: str | None = None,
) -> pa.Table:
    """Read a table as a release shows it.

    Parameters
    ----------
    lake
        The lake's path; a ``Lake`` where it needs storage options.
    table
        ``posteriors``, ``hyperparameters``, ``fits``, ``new_stores``, ``statistics``, ...
    environment
        Whose current release to follow.
    columns
        Columns to read; by default all.
    release
        A release by name instead of the current one.

    Raises
    ------
    LakeError
        When there is no such release, it has expired, or it names no such table.
    """
    store = lake if isinstance(lake, Lake) else Lake(os.fspath(lake))
    if table == "releases":
        return store.read("releases", columns=columns)
    row = _find(store, environment, release)
    versions = dict(row["versions"])
    if table not in versions:
        raise LakeError(
            f"release {row['release']} has no table {table!r}",
            where={"lake": store.uri},
            expected=f"one of {', '.join(sorted(versions))}",
        )
    filters = [("as_of", "==", row["as_of"])] if table in _BY_AS_OF else None
    return store.read(table, version=versions[table], columns=columns, filters=filters)


def _find(lake: Lake, environment: str, release: str | None) -> dict[str, Any]:
    if release is None:
        row = current_release(lake, environment)
        found = f"no release in environment {environment!r}"
    else:
        named = [row for row in _every(lake, environment) if row["release"] == release]
        row, found = (named[0] if named else None), f"no release {release!r} in {environment!r}"
    if row is None:
        raise LakeError(found, where={"lake": lake.uri}, remedy="publish one with `hbpipe run`")
    require_kept(lake, row)
    return row
