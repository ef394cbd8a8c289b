"""Which releases are kept: those that readers see now, those pointed at, and those retention names.

Rows of ``releases`` stay for ever; one that has expired says since when and why.

People move readers at any time, without the lease, so a release that upkeep ends may be the one
that somebody promotes just then. Two tables cannot change in one commit; ``end_releases`` makes
``pointers`` the judge. First the releases are marked, which whoever decides from then on sees.
Then ``pointers`` gets a version of its own: what was decided before the mark has landed by then, or
loses its race and is decided again. So whoever is pointed to a marked release now is all there will
be; the others end, and readers never meet a release that has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from hbpipe.config import ReleaseRetention
from hbpipe.data.commit import outdate
from hbpipe.data.lake import Lake
from hbpipe.run.history import History, is_expiring, newest, read_history, read_releases
from hbpipe.run.pointers import POINTERS
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
    """List the releases that neither key of ``rule`` keeps, and that nobody sees, oldest first.

    What an upkeep that was cut off has marked is due, whatever the rule says by now.
    """
    begun = {row["release"] for row in history.releases if is_expiring(row)}
    kept = (_kept_by(history, rule, now) - begun) | seen_releases(history)
    return [row for row in history.releases if row["release"] not in kept]


def _kept_by(history: History, rule: ReleaseRetention, now: datetime) -> set[str]:
    if rule.keep_last is None and rule.days is None:
        return {row["release"] for row in history.releases}
    kept: set[str] = set()
    if rule.keep_last is not None:
        for name in history.environments:
            kept |= {row["release"] for row in history.of(name)[-rule.keep_last :]}
    if rule.days is not None:
        since = now - timedelta(days=rule.days)
        kept |= {row["release"] for row in history.releases if row["released_at"] >= since}
    return kept


def end_releases(
    lake: Lake, notes: Mapping[str, str], now: datetime, run_id: str
) -> frozenset[str]:
    """Let releases expire, but for those that readers are pointed to meanwhile.

    Parameters
    ----------
    notes
        Release to why it ends.

    Returns
    -------
    frozenset
        Those that have expired.
    """
    if not notes:
        return frozenset()
    rewrite_releases(lake, {name: {"expiring_since": now} for name in notes}, run_id)
    lake.create("pointers", POINTERS.schema)
    outdate(lake.storage, "pointers")
    ended = frozenset(notes) - seen_releases(read_history(lake))
    changed: dict[str, dict[str, Any]] = {name: {"expiring_since": None} for name in notes}
    for name in ended:
        changed[name] |= {"expired_at": now, "note": notes[name]}
    rewrite_releases(lake, changed, run_id)
    return ended


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
