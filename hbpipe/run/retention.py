"""Upkeep of a lake: expire what is old, delete what nothing needs, keep the logs short."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.lake import Lake
from hbpipe.data.log import list_tables
from hbpipe.data.vacuum import TablePlan, abandoned_spools, plan_table, vacuum_table
from hbpipe.run.attempt import open_run
from hbpipe.run.expiry import Expiry, expire, plan_expiry
from hbpipe.run.history import read_history
from hbpipe.run.keeping import due_to_expire, end_releases, needed_by_releases, seen_releases
from hbpipe.run.night import new_run_id, open_lake
from hbpipe.run.observe import Observer, Opening, Silent, watched


@dataclass(frozen=True)
class Upkeep:
    """What upkeep does, or would do.

    Attributes
    ----------
    releases
        Releases that expire: name, and as-of day.
    expired
        Days and rows that leave the newest version of a table.
    tables
        What goes from disk, table by table.
    spools
        Files that dead processes left in the staging folder.
    kept
        The number of releases that stay readable.
    """

    releases: tuple[dict[str, str], ...]
    expired: tuple[Expiry, ...]
    tables: tuple[TablePlan, ...]
    spools: tuple[str, ...]
    kept: int

    @property
    def work(self) -> bool:
        """Tell whether there is anything to do."""
        return bool(self.releases or self.expired or self.tables or self.spools)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as one JSON object."""
        return {
            "releases": {"kept": self.kept, "expired": list(self.releases)},
            "expired": [one.to_dict() for one in self.expired],
            "tables": [
                {
                    "table": one.table,
                    "files": len(one.files),
                    "bytes": one.size,
                    "log_entries": one.entries,
                    "checkpoints": list(one.checkpoints),
                    "oldest_version": one.oldest,
                }
                for one in self.tables
            ],
            "staging": len(self.spools),
        }


def maintain(
    settings: Settings,
    *,
    now: datetime | None = None,
    keep_hours: float | None = None,
    dry_run: bool = False,
    observer: Observer | None = None,
) -> Upkeep:
    """Expire what ``retention`` says, then vacuum; under the lease, beside any number of readers.

    Parameters
    ----------
    now
        The moment from which ages count, aware; by default the present.
    keep_hours
        How long files that no release needs stay; by default ``retention.staging``.
    dry_run
        Only look, without the lease.

    Raises
    ------
    LeaseError
        When a run holds the lease, or takes this one's place.
    LakeError
        When a table cannot be read or written. What is left, the next upkeep does.
    """
    lake, moment = open_lake(settings), now or datetime.now(UTC)
    grace = timedelta(days=settings.retention.staging)
    before = moment - (grace if keep_hours is None else timedelta(hours=keep_hours))
    if dry_run:
        return plan_upkeep(settings, lake, moment, before)
    run_id, watcher = new_run_id(), observer or Silent()
    opening = Opening(
        run_id, settings.pipeline, settings.environment, datetime.now(UTC), kind="vacuum"
    )
    with (
        watched(watcher, opening),
        open_run(lake, settings, run_id=run_id, kind="vacuum") as attempt,
    ):
        plan = plan_upkeep(settings, attempt.lake, moment, before)
        if plan.work:
            attempt.record()
        with _stage(watcher, "expire", {"releases": len(plan.releases)}):
            ended = _expire(attempt.lake, plan, moment, run_id)
        # Looked at again: what has just expired wrote versions of its own.
        after = plan_upkeep(settings, attempt.lake, moment, before)
        with _stage(watcher, "vacuum", {"files": sum(len(one.files) for one in after.tables)}):
            vacuum(attempt.lake, after.tables, after.spools)
    return Upkeep(ended, plan.expired, after.tables, after.spools, after.kept)


def _expire(lake: Lake, plan: Upkeep, now: datetime, run_id: str) -> tuple[dict[str, str], ...]:
    """Expire what is planned; return the releases that have, for one may be promoted meanwhile."""
    notes = {one["release"]: "expired by retention.releases" for one in plan.releases}
    ended = end_releases(lake, notes, now, run_id)
    for one in plan.expired:
        expire(lake, one, run_id)
    return tuple(one for one in plan.releases if one["release"] in ended)


@contextmanager
def _stage(observer: Observer, name: str, summary: dict[str, Any]) -> Iterator[None]:
    observer.stage_started(name)
    yield
    observer.stage_finished(name, summary)


def plan_upkeep(settings: Settings, lake: Lake, now: datetime, before: datetime | None) -> Upkeep:
    """Find what upkeep would do; writes nothing. ``before`` is the end of the grace."""
    history = read_history(lake)
    seen = seen_releases(history)
    ending = due_to_expire(history, settings.retention.releases, now)
    names = {row["release"] for row in ending}
    # What expires now is needed until the grace is over, as if it had just expired.
    needed = needed_by_releases(
        [
            {**row, "expired_at": now} if row["release"] in names else row
            for row in (*history.releases, *history.ended)
        ],
        before,
    )
    tables = [
        plan_table(lake.storage, table, needed.get(table, ()), before)
        for table in list_tables(lake.storage)
    ]
    return Upkeep(
        releases=tuple(
            {"release": row["release"], "as_of": row["as_of"].isoformat()} for row in ending
        ),
        expired=tuple(
            plan_expiry(
                lake,
                settings.retention,
                [row for row in history.releases if row["release"] in seen],
                now,
            )
        ),
        tables=tuple(table for table in tables if table.work),
        spools=tuple(abandoned_spools(lake.storage, before)),
        kept=len(history.releases) - len(ending),
    )


def vacuum(lake: Lake, tables: tuple[TablePlan, ...], spools: tuple[str, ...]) -> None:
    """Delete what was found."""
    for table in tables:
        vacuum_table(lake.storage, table)
    for path in spools:
        lake.storage.filesystem().delete_file(path)
