"""Backfill: what the nights of a range of days would have published, where that is missing.

Three words say how much is done again. ``missing``: days without statistics or with stale ones,
and as-of days without a release or with a stale one; what has failed a gate is left alone, for it
would fail again. ``failed``: these too. ``all``: everything in the range.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, Literal

import pyarrow.compute as pc

from hbpipe.config import Settings
from hbpipe.data.clock import to_date, to_number
from hbpipe.data.lake import Lake
from hbpipe.errors import ConfigError, LateError
from hbpipe.run.as_of import is_complete, window_of
from hbpipe.run.due import DayPlan, due_days, held_as_before, left_out
from hbpipe.run.history import newest
from hbpipe.run.plan import release_reason
from hbpipe.run.rebuild import open_rebuild, run_rebuild
from hbpipe.run.rebuild_plan import DueNight, RebuildPlan
from hbpipe.run.rebuild_report import RebuildReport
from hbpipe.run.releases import releases
from hbpipe.run.stock import Stock

Reprocess = Literal["missing", "failed", "all"]


@dataclass(frozen=True)
class Range:
    """Business days from ``start`` to ``end``, both included."""

    start: date
    end: date

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ConfigError(
                f"the range {self.start} to {self.end} ends before it begins",
                expected=f"{self.end} to {self.start}",
            )

    def __contains__(self, day: int) -> bool:
        return self.start <= to_date(day) <= self.end


def backfill(
    settings: Settings,
    *,
    start: date,
    end: date,
    reprocess: Reprocess = "missing",
    max_active: int = 30,
    newest_first: bool = False,
    **options: Any,
) -> RebuildReport:
    """Publish the nights of a range of as-of days, as far as they are missing.

    Parameters
    ----------
    start, end
        The first and the last as-of day. Statistics of the days before, which the first windows
        reach back to, are measured too.
    reprocess
        ``missing``, ``failed`` or ``all``; see above.
    max_active
        At most so many days are worked on, and committed, at once.
    newest_first
        Measure the latest days first. Releases are published in the order of their days.
    options
        ``observer``, ``now``, ``accept_missing`` and ``accept``, as ``open_rebuild``.

    Raises
    ------
    ConfigError
        When the range ends before it begins.
    LateError
        When there is no complete day of events in the range.
    HbpipeError
        As ``run_night``; a failed gate is no error here: the report tells of it, ``runs`` and
        whoever watches are told that the run failed.
    """
    chosen = partial(
        decide, within=Range(start, end), reprocess=reprocess, newest_first=newest_first
    )
    with open_rebuild(settings, chosen, batch=max_active, kind="backfill", **options) as rebuild:
        return run_rebuild(rebuild)


def decide(
    stock: Stock, lake: Lake, *, within: Range, reprocess: Reprocess, newest_first: bool
) -> RebuildPlan:
    """Plan a backfill; writes nothing. Parameters and errors as ``backfill``."""
    windows = {day: window_of(stock.settings, stock.files, day) for day in nights_of(stock, within)}
    if not windows:
        raise LateError(
            f"no complete day of events lies between {within.start} and {within.end}",
            remedy="choose another range, or wait for the delivery",
        )
    needed = sorted({day for window in windows.values() for day in window})
    again = {day: "asked for" for day in needed if reprocess == "all" and day in within}
    due, notes = due_days(stock, needed, None, again)
    if reprocess == "missing":
        held = held_as_before(stock, due)
        due = [day for day in due if day.day not in held]
        notes += [f"{note}, or --reprocess failed" for note in left_out(held)]
    nights, alone = _due_nights(stock, lake, windows, due, reprocess)
    return RebuildPlan(
        stock=stock,
        days=tuple(reversed(due) if newest_first else due),
        nights=tuple(nights),
        notes=(*notes, *alone),
    )


def nights_of(stock: Stock, within: Range) -> list[int]:
    """List the as-of days of a range: those that have events and are complete."""
    days = sorted({day for entry in stock.files.values() for day in entry.days if day in within})
    return [day for day in days if is_complete(stock, day)]


def _due_nights(
    stock: Stock,
    lake: Lake,
    windows: Mapping[int, tuple[int, ...]],
    due: Iterable[DayPlan],
    reprocess: Reprocess,
) -> tuple[list[DueNight], list[str]]:
    """List the as-of days to be published, in their order, and notes on those left alone."""
    changed = {day.day for day in due}
    rows = releases(lake, stock.settings.environment)
    failed = _failed(lake) if reprocess == "missing" else {}
    nights, notes = [], []
    for as_of, window in windows.items():
        current = newest(row for row in rows if row["as_of"] == to_date(as_of))
        touched = [day for day in window if day in changed]
        wanted, reason = release_reason(stock, current, as_of, touched)
        if reprocess == "all" and not wanted:
            wanted, reason = True, "asked for"
        if not wanted:
            continue
        if as_of in failed and not touched:
            notes.append(
                f"{to_date(as_of)} failed its gate ({failed[as_of]}), and nothing has changed "
                "since: left alone; --reprocess failed"
            )
            continue
        nights.append(DueNight(as_of, reason, window))
    return nights, notes


def _failed(lake: Lake) -> dict[int, str]:
    """Return the as-of days whose last run failed the release gate: day -> names of the checks."""
    if lake.version("audits") is None:
        return {}
    table = lake.read("audits", columns=["as_of", "gate", "name", "status", "run_id", "checked_at"])
    table = table.filter(pc.equal(table["gate"], "release"))
    last: dict[date, tuple[Any, str]] = {}
    for row in table.select(["as_of", "checked_at", "run_id"]).to_pylist():
        found = (row["checked_at"], row["run_id"])
        last[row["as_of"]] = max(last.get(row["as_of"], found), found)
    names: dict[int, list[str]] = {}
    for row in table.filter(pc.equal(table["status"], "fail")).to_pylist():
        if last[row["as_of"]][1] == row["run_id"]:
            names.setdefault(to_number(row["as_of"]), []).append(row["name"])
    return {day: ", ".join(sorted(set(found))) for day, found in names.items()}
