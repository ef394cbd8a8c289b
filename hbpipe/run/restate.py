"""Restate: recompute what is published already, with the cascade shown before it happens."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from functools import partial
from typing import Any, Literal

from hbpipe.config import Settings
from hbpipe.data.clock import to_date, to_number
from hbpipe.data.lake import Lake
from hbpipe.errors import LateError
from hbpipe.run.as_of import window_of
from hbpipe.run.backfill import Range
from hbpipe.run.due import due_days
from hbpipe.run.rebuild import open_rebuild, run_rebuild
from hbpipe.run.rebuild_plan import DueNight, RebuildPlan
from hbpipe.run.rebuild_report import RebuildReport
from hbpipe.run.releases import releases
from hbpipe.run.stock import Stock

What = Literal["statistics", "posteriors"]


def restate(
    settings: Settings,
    *,
    start: date,
    end: date,
    reason: str,
    what: What = "statistics",
    max_active: int = 30,
    **options: Any,
) -> RebuildReport:
    """Measure a range of days again, and publish anew every night that rests on one of them.

    Parameters
    ----------
    start, end
        The first and the last business day.
    reason
        Kept with the days in the ledger.
    what
        ``statistics``: from the events on. ``posteriors``: only the nights of the range, from
        the statistics that are there.
    max_active, options
        As ``backfill``.

    Raises
    ------
    ConfigError, LateError, HbpipeError
        As ``backfill``.
    """
    chosen = partial(decide, within=Range(start, end), reason=reason, what=what)
    with open_rebuild(settings, chosen, batch=max_active, kind="restate", **options) as rebuild:
        return run_rebuild(rebuild)


def decide(
    stock: Stock, lake: Lake, *, within: Range, reason: str, what: What = "statistics"
) -> RebuildPlan:
    """Plan a restatement; writes nothing. Parameters and errors as ``restate``."""
    told = f"restated: {reason}"
    fed = {day for entry in stock.files.values() for day in entry.days}
    days = sorted(day for day in fed | set(stock.ledger) if day in within)
    if not days:
        raise LateError(
            f"no day between {within.start} and {within.end} has events or statistics",
            remedy="choose another range",
        )
    rows = releases(lake, stock.settings.environment)
    published = sorted({to_number(row["as_of"]) for row in rows})
    windows, empty = _windows(stock, published)
    if what == "posteriors":
        nights = [DueNight(at, told, window) for at, window in windows.items() if at in within]
        return RebuildPlan(stock, (), tuple(nights), tuple(empty))
    due, notes = due_days(stock, days, None, dict.fromkeys(days, told))
    changed = {day.day for day in due}
    nights = [
        DueNight(as_of, f"{told}; rests on {_told(touched)}", window)
        for as_of, window in windows.items()
        if (touched := changed.intersection(window))
    ]
    return RebuildPlan(stock, tuple(due), tuple(nights), (*notes, *empty))


def _windows(
    stock: Stock, published: Iterable[int]
) -> tuple[dict[int, tuple[int, ...]], list[str]]:
    """Return the window of each as-of day; and notes on those that have no events any more."""
    windows, notes = {}, []
    for as_of in published:
        try:
            windows[as_of] = window_of(stock.settings, stock.files, as_of)
        except LateError:  # what fed it has vanished, and was taken out
            notes.append(
                f"{to_date(as_of)} has no events in its window any more: its release stays as it is"
            )
    return windows, notes


def _told(days: set[int]) -> str:
    first = to_date(min(days))
    return str(first) if len(days) == 1 else f"{len(days)} restated days from {first} on"
