"""The plan: which days are missing or stale and why, and what would be published.

The clock is read once, when stock is taken; from then on the as-of day is a value. Planning writes
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.data.lake import Lake
from hbpipe.run.as_of import choose_as_of, window_of
from hbpipe.run.due import DayPlan, due_days
from hbpipe.run.engine import Engine
from hbpipe.run.fingerprints import release_input, release_kernel_digest
from hbpipe.run.releases import latest_release, releases
from hbpipe.run.stale import affected
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
    #: Released as-of days whose window holds a due day.
    affects: tuple[date, ...]
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
            "affects": [day.isoformat() for day in self.affects],
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
    return plan_night(stock, lake, as_of=as_of, full_scan=full_scan)


def plan_night(
    stock: Stock, lake: Lake, *, as_of: date | None = None, full_scan: bool = False
) -> Plan:
    """Plan one as-of day from stock that was taken; options and errors as ``make_plan``."""
    settings = stock.settings
    as_of_day = choose_as_of(stock.form.calendar, stock.files, as_of, stock.now)
    window = window_of(settings, stock.files, as_of_day)
    horizon = None if full_scan else as_of_day - settings.events.horizon
    due, left = due_days(stock, window, horizon)
    kernel = release_kernel_digest(stock.metrics)
    release_due, reason = _release(stock, lake, as_of_day, window, due, kernel)
    if left and not release_due:
        reason = f"nothing can be done for the {len(left)} day(s) that the notes name"
    return Plan(
        stock=stock,
        as_of=as_of_day,
        window=window,
        days=tuple(due),
        release_reason=reason,
        release_due=release_due,
        affects=affected(releases(lake, settings.environment), settings, [day.day for day in due]),
        notes=(*left, *_vanished(stock), *_unseen_history(stock, window)),
        settings_digest=settings.digest(),
        kernel_digest=kernel,
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


def _release(
    stock: Stock,
    lake: Lake,
    as_of: int,
    window: tuple[int, ...],
    due: list[DayPlan],
    kernel: str,
) -> tuple[bool, str]:
    settings = stock.settings
    current = latest_release(lake, settings.environment, to_date(as_of))
    if current is None:
        return True, f"no release of {to_date(as_of)} in {settings.environment} yet"
    if due:
        return True, f"{len(due)} day(s) of its window change"
    if current["input"] != release_input(as_of, stock.ledger, settings):
        return True, "statistics changed since its release"
    if current["kernel"] != kernel:
        return True, "code changed since its release"
    if current["settings"] != settings.digest():
        return True, "inference settings changed since its release"
    return False, (
        f"release {current['release']} of {to_date(as_of)} is up to date: all "
        f"{len(window)} days of its window are done, and neither input, code nor settings changed"
    )
