"""The days that are due: missing or stale, and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hbpipe.data.clock import to_date
from hbpipe.run.fingerprints import makings
from hbpipe.run.ledger import DayEntry, FileEntry, input_fingerprint
from hbpipe.run.stock import Stock

#: States of a day whose statistics are in the lake.
_DONE = ("complete", "gone", "empty")


@dataclass(frozen=True)
class DayPlan:
    """One day to process: why, and from what. ``entry`` is its ledger row before the work.

    ``metrics`` are those to be measured; ``keeps`` those whose statistics of the day stay as they
    are, because neither input nor their own definition has changed.
    """

    day: int
    reason: str
    files: tuple[str, ...]
    rows: int
    entry: DayEntry
    metrics: tuple[str, ...]
    keeps: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Describe the day for ``plan --json``."""
        return {
            "day": to_date(self.day).isoformat(),
            "reason": self.reason,
            "files": list(self.files),
            "rows": self.rows,
            "metrics": list(self.metrics),
        }


def due_days(
    stock: Stock,
    days: Iterable[int],
    horizon: int | None,
    again: Mapping[int, str] | None = None,
) -> tuple[list[DayPlan], list[str]]:
    """List which of some days are missing or stale, in their order; and notes on those left alone.

    Parameters
    ----------
    horizon
        The last day whose changed input is too old to be looked at; None for no end.
    again
        Days that are done whether stale or not, with the reason.
    """
    asked = again or {}
    wanted = tuple(days)
    feeding: dict[int, list[FileEntry]] = {day: [] for day in wanted}
    for entry in stock.files.values():
        if entry.state != "duplicate":
            for day in entry.days.keys() & feeding.keys():
                feeding[day].append(entry)
    wanted_makings = makings(stock.form, stock.metrics)
    due: list[DayPlan] = []
    notes: list[str] = []
    for day in wanted:
        feeds = feeding[day]
        known = stock.ledger.get(day)
        fresh = DayEntry(day, "complete", "", input_fingerprint(day, feeds), wanted_makings)
        reason = asked.get(day) or _reason(known, fresh, feeds)
        if reason is None:
            continue
        if any(entry.state == "gone" for entry in feeds):
            notes.append(
                f"{to_date(day)} is stale ({reason}) but input has vanished: left alone; "
                "--accept-missing takes its rows out"
            )
        elif _beyond(horizon, day, reason, known):
            notes.append(
                f"{to_date(day)} is stale ({reason}) but beyond events.horizon: use --full-scan"
            )
        else:
            # Which files were new, a run that is cut off can no more tell: the kind alone is kept.
            told = asked.get(day) or reason.partition(":")[0]
            before = None if day in asked else known
            due.append(_day_plan(before, replace(fresh, reason=told), reason, feeds))
    return due, notes


def held_as_before(stock: Stock, due: Iterable[DayPlan]) -> list[int]:
    """List those of some due days that failed the data gate as they are now."""
    return [day.day for day in due if _is_held(stock.ledger.get(day.day), day.entry)]


def _is_held(known: DayEntry | None, now: DayEntry) -> bool:
    return known is not None and known.state == "held" and known.fingerprint == now.fingerprint


def left_out(held: Iterable[int]) -> list[str]:
    """Tell which held days are left as they are."""
    remedy = "correct its input, or take it as it is with --accept-audit"
    return [f"{to_date(day)} is held, and nothing has changed since: {remedy}" for day in held]


def _day_plan(
    known: DayEntry | None, fresh: DayEntry, reason: str, feeds: list[FileEntry]
) -> DayPlan:
    """Plan a day that is due: whole, or only the metrics whose definition has changed."""
    metrics: tuple[str, ...] = tuple(fresh.makings)
    keeps: tuple[str, ...] = ()
    made = fresh.makings
    if known is not None and known.state in _DONE and known.input == fresh.input:
        metrics = tuple(_redefined(known, fresh))
        keeps = tuple(name for name in known.makings if name not in metrics)
        made = {**{name: known.makings[name] for name in keeps}, **made}
    return DayPlan(
        day=fresh.day,
        reason=reason,
        files=tuple(entry.path for entry in feeds),
        rows=sum(entry.days[fresh.day].rows for entry in feeds),
        entry=replace(fresh, makings=made),
        metrics=metrics,
        keeps=keeps,
    )


def _redefined(known: DayEntry, fresh: DayEntry) -> list[str]:
    """Name the metrics that the day lacks, or has by other settings or code."""
    return [name for name, made in fresh.makings.items() if known.makings.get(name) != made]


def _beyond(horizon: int | None, day: int, reason: str, before: DayEntry | None) -> bool:
    """Tell whether a changed day is too old to be looked at; one that a run began is not."""
    begun = before is not None and before.state == "begun"
    changed = reason.startswith("input changed")
    return horizon is not None and day <= horizon and changed and not begun


def _reason(before: DayEntry | None, now: DayEntry, feeds: list[FileEntry]) -> str | None:
    """Say why a day must be processed, or None when it is done."""
    if before is None:
        return "missing"
    if before.state == "held":
        return f"held: {before.reason}"
    if before.input != now.input:
        new = [entry.path for entry in feeds if entry.days[now.day].account is None]
        if not new:
            return "input changed: rows left the day, or its last run was cut off"
        more = f" and {len(new) - 3} more" if len(new) > 3 else ""
        return f"input changed: {', '.join(new[:3])}{more}"
    if before.state == "begun":
        return "input changed: its last run was cut off"
    return _changed_definition(before, now)


def _changed_definition(before: DayEntry, now: DayEntry) -> str | None:
    """Say which metrics are new, or are defined or computed otherwise; None when none is."""
    redefined = _redefined(before, now)
    if not redefined:
        return None
    code = [
        name
        for name in redefined
        if name in before.makings and before.makings[name].settings == now.makings[name].settings
    ]
    which = "" if len(redefined) == len(now.makings) else f": {', '.join(redefined)}"
    return f"{'code' if code == redefined else 'settings'} changed{which}"
