"""The days that are due: missing or stale, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from hbpipe.data.clock import to_date
from hbpipe.run.fingerprints import kernel_digest, statistics_digest
from hbpipe.run.ledger import DayEntry, FileEntry, input_fingerprint
from hbpipe.run.stock import Stock


@dataclass(frozen=True)
class DayPlan:
    """One day to process: why, and from what. ``entry`` is its ledger row before the work."""

    day: int
    reason: str
    files: tuple[str, ...]
    rows: int
    entry: DayEntry

    def to_dict(self) -> dict[str, Any]:
        """Describe the day for ``plan --json``."""
        return {
            "day": to_date(self.day).isoformat(),
            "reason": self.reason,
            "files": list(self.files),
            "rows": self.rows,
        }


def due_days(
    stock: Stock, days: Iterable[int], horizon: int | None
) -> tuple[list[DayPlan], list[str]]:
    """List which of some days are missing or stale, in their order; and notes on those left alone.

    ``horizon`` is the last day whose changed input is too old to be looked at; None for no end.
    """
    wanted = tuple(days)
    feeding: dict[int, list[FileEntry]] = {day: [] for day in wanted}
    for entry in stock.files.values():
        if entry.state != "duplicate":
            for day in entry.days.keys() & feeding.keys():
                feeding[day].append(entry)
    kernel = kernel_digest(stock.metrics)
    settings = statistics_digest(stock.form, stock.metrics)
    due: list[DayPlan] = []
    notes: list[str] = []
    for day in wanted:
        feeds = feeding[day]
        fresh = DayEntry(day, "complete", "", input_fingerprint(day, feeds), kernel, settings)
        reason = _reason(stock.ledger.get(day), fresh, feeds)
        if reason is None:
            continue
        if any(entry.state == "gone" for entry in feeds):
            notes.append(
                f"{to_date(day)} is stale ({reason}) but input has vanished: left alone; "
                "--accept-missing takes its rows out"
            )
        elif _beyond(horizon, day, reason, stock.ledger.get(day)):
            notes.append(
                f"{to_date(day)} is stale ({reason}) but beyond events.horizon: use --full-scan"
            )
        else:
            rows = sum(entry.days[day].rows for entry in feeds)
            paths = tuple(entry.path for entry in feeds)
            # The ledger keeps the kind alone: which files were new, a run cut off can no more tell.
            before = replace(fresh, reason=reason.partition(":")[0])
            due.append(DayPlan(day, reason, paths, rows, before))
    return due, notes


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
    if before.settings != now.settings:
        return "settings changed"  # asked first: other metrics may bring other code
    if before.kernel != now.kernel:
        return "code changed"
    return "input changed: its last run was cut off" if before.state == "begun" else None
