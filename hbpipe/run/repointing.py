"""Which releases can name the newest versions of their tables, and which have been replaced since.

Tables by as-of day hold the results of one release of each day, the last published: every row says
by its ``run_id`` whose it is. Of the other tables a release shows the newest version afterwards:
what they held on its own day is deleted with the unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError
from hbpipe.run.history import read_history
from hbpipe.run.keeping import seen_releases
from hbpipe.run.releases import RELEASED
from hbpipe.run.traces import Unit

#: Tables that count the unit's rows, or may mention it.
_LEDGER = ("files", "days", "quarantine", "audits", "diagnostics")


@dataclass(frozen=True)
class Repointing:
    """``rewritten``: release -> its versions; ``expired``: the releases that end."""

    rewritten: Mapping[str, list[tuple[str, int]]]
    expired: tuple[str, ...]


def plan_repointing(lake: Lake, unit: Unit) -> Repointing:
    """Decide for every kept release; writes nothing.

    Raises
    ------
    LakeError
        A release that readers see now has been replaced by results that no release shows yet.
    """
    history = read_history(lake)
    present = [name for name in RELEASED if lake.version(name) is not None]
    newest = {name: lake.snapshot(name) for name in present}
    holding = [name for name in present if set(unit.named) <= set(newest[name].schema.names)]
    results = [name for name in holding if "as_of" in newest[name].partition_by]
    owners = {name: _owners(lake, name) for name in results}
    seen = seen_releases(history)
    rewritten, expired = {}, []
    for row in history.releases:
        if _is_replaced(lake, row, owners):
            if row["release"] in seen:
                raise _unpublished(lake, row)
            expired.append(row["release"])
            continue
        rewritten[row["release"]] = [
            (name, newest[name].version if name in (*holding, *_LEDGER) else version)
            for name, version in dict(row["versions"]).items()
        ]
    return Repointing(rewritten, tuple(expired))


def _owners(lake: Lake, table: str) -> dict[date, set[str]]:
    """Return whose results the newest version holds: as-of day -> run ids."""
    rows = lake.read(table, columns=["as_of", "run_id"])
    found: dict[date, set[str]] = {}
    for row in rows.group_by(["as_of", "run_id"], use_threads=False).aggregate([]).to_pylist():
        found.setdefault(row["as_of"], set()).add(row["run_id"])
    return found


def _is_replaced(
    lake: Lake, row: Mapping[str, Any], owners: Mapping[str, Mapping[date, Iterable[str]]]
) -> bool:
    """Tell whether the results of a release are no longer, or not wholly, the newest of its day."""
    partition = [{"as_of": row["as_of"].isoformat()}]
    for table, by_day in owners.items():
        found = set(by_day.get(row["as_of"], ()))
        if found - {row["run_id"]}:
            return True
        version = dict(row["versions"])[table]
        if not found and lake.files(table, version=version, partitions=partition):
            return True
    return False


def _unpublished(lake: Lake, row: Mapping[str, Any]) -> LakeError:
    return LakeError(
        f"the results of {row['as_of']} have been replaced since release {row['release']}, which "
        "readers see",
        where={"lake": lake.uri},
        expected="a current release whose results are the newest of its day",
        remedy="publish that day again, or point readers at another release; then forget",
    )
