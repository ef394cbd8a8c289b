"""The plan: which days are missing or stale and why, and what would be published.

The clock is read once, when stock is taken; from then on the as-of day is a value. Planning writes
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.data.lake import Lake
from hbpipe.run.as_of import choose_as_of, window_of
from hbpipe.run.due import DayPlan, due_days, held_as_before, left_out
from hbpipe.run.engine import Engine
from hbpipe.run.fingerprints import release_input, release_kernel_digest
from hbpipe.run.releases import current_release
from hbpipe.run.stock import Stock, take_stock


@dataclass(frozen=True)
class Plan:
    """What a run would do, as values."""

    stock: Stock
    as_of: int
    window: tuple[int, ...]
    days: tuple[DayPlan, ...]
    #: Why a release is due, or why none is.
    release_reason: str
    release_due: bool
    notes: tuple[str, ...]
    settings_digest: str
    kernel_digest: str

    @property
    def work(self) -> bool:
        """Tell whether a run would publish anything."""
        return bool(self.days) or self.release_due

    def to_dict(self) -> dict[str, Any]:
        """Describe the plan for ``plan --json``."""
        return {
            "as_of": to_date(self.as_of).isoformat(),
            "window": [to_date(self.window[0]).isoformat(), to_date(self.window[-1]).isoformat()],
            "days": [day.to_dict() for day in self.days],
            "rows": sum(day.rows for day in self.days),
            "release": {"due": self.release_due, "reason": self.release_reason},
            "notes": list(self.notes),
        }


def make_plan(
    settings: Settings,
    lake: Lake,
    engine: Engine,
    *,
    as_of: date | None = None,
    now: datetime | None = None,
    full_scan: bool = False,
    accept_missing: bool = False,
    retry_held: bool = False,
) -> Plan:
    """Compare the events with the ledger, and plan one as-of day.

    Parameters
    ----------
    as_of
        The last business day included; by default the latest day of events that is over.
    now
        The moment of planning, aware; by default the present.
    full_scan
        Look for changed input beyond ``events.horizon`` too.
    accept_missing
        Take the rows of vanished files out, where their days are in the window.
    retry_held
        Measure days again that are held and left out of releases, though nothing has changed.

    Raises
    ------
    ConfigError
        When the lake belongs to another pipeline.
    EventsError
        When there are no events, or a file cannot be used.
    LateError
        When the as-of day is not over, or has no events yet.
    """
    stock = take_stock(settings, lake, engine, now=now, accept_missing=accept_missing)
    return plan_night(stock, lake, as_of=as_of, full_scan=full_scan, retry_held=retry_held)


def plan_night(
    stock: Stock,
    lake: Lake,
    *,
    as_of: date | None = None,
    full_scan: bool = False,
    retry_held: bool = False,
) -> Plan:
    """Plan one as-of day from stock that was taken; options and errors as ``make_plan``."""
    settings = stock.settings
    as_of_day = choose_as_of(stock.form.calendar, stock.files, as_of, stock.now)
    window = window_of(settings, stock.files, as_of_day)
    horizon = None if full_scan else as_of_day - settings.events.horizon
    due, left = due_days(stock, window, horizon)
    held = [] if retry_held or settings.audits.held == "block" else held_as_before(stock, due)
    due = [day for day in due if day.day not in held]
    current = current_release(lake, settings.environment, as_of=to_date(as_of_day))
    touched = [day.day for day in due]
    release_due, reason = release_reason(stock, current, as_of_day, touched)
    if left and not release_due:
        reason = f"nothing can be done for the {len(left)} day(s) that the notes name"
    return Plan(
        stock=stock,
        as_of=as_of_day,
        window=window,
        days=tuple(due),
        release_reason=reason,
        release_due=release_due,
        notes=(*left, *left_out(held), *_vanished(stock), *_unseen_history(stock, window)),
        settings_digest=settings.digest(),
        kernel_digest=release_kernel_digest(stock.metrics),
    )


def _unseen_history(stock: Stock, window: tuple[int, ...]) -> list[str]:
    """Say where an exposure in days starts too late, because older days were never processed."""
    counting = [metric.name for metric in stock.metrics if metric.calendar == "days"]
    older = {day for entry in stock.files.values() for day in entry.days if day < window[0]}
    unseen = older - stock.ledger.keys()
    if not counting or not unseen:
        return []
    return [
        f"{len(unseen)} day(s) of events before the window were never processed: for "
        f"{', '.join(counting)} a store counts from its first event in the window on"
    ]


def _vanished(stock: Stock) -> list[str]:
    gone = sorted(
        path for path, entry in stock.files.items() if entry.state == "gone" and entry.days
    )
    if not gone:
        return []
    return [
        f"{len(gone)} file(s) vanished and keep their statistics, e.g. {gone[0]}; "
        "--accept-missing takes their rows out"
    ]


def release_reason(
    stock: Stock, current: Mapping[str, Any] | None, as_of: int, touched: Collection[int]
) -> tuple[bool, str]:
    """Say whether a release of an as-of day is due, and why or why not.

    ``current`` is its newest release, None without one; ``touched`` the days of its window that
    will change.
    """
    settings = stock.settings
    if current is None:
        return True, f"no release of {to_date(as_of)} in {settings.environment} yet"
    if touched:
        return True, f"{len(touched)} day(s) of its window change"
    if current["input"] != release_input(as_of, stock.ledger, settings):
        return True, "statistics changed since its release"
    if current["settings"] != settings.digest():  # asked first: other metrics bring other code
        return True, "inference settings changed since its release"
    if current["kernel"] != release_kernel_digest(stock.metrics):
        return True, "code changed since its release"
    return False, (
        f"release {current['release']} of {to_date(as_of)} is up to date: all "
        f"{current['days']} days of its window are done, and neither input, code nor settings "
        "changed"
    )
