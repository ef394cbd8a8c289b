"""The plan: which days are missing or stale and why, and what would be published.

The clock is read once, when stock is taken; from then on the as-of day is a value. Planning writes
nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.data.lake import Lake
from hbpipe.errors import EventsError
from hbpipe.run.as_of import awaited, choose_as_of, window_of
from hbpipe.run.costs import bytes_of
from hbpipe.run.documents import PlanDocument
from hbpipe.run.due import DayPlan, due_days, held_as_before, left_out
from hbpipe.run.engine import Engine
from hbpipe.run.fingerprints import release_input, release_kernel_digest, statistics_digest
from hbpipe.run.releases import latest_release
from hbpipe.run.stock import Stock, take_stock
from hbpipe.run.totals import TotalsTables


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
    def rows(self) -> int:
        """Rows of the days to process."""
        return sum(day.rows for day in self.days)

    @property
    def bytes(self) -> int:
        """Bytes that are read for them."""
        return bytes_of(self.stock, self.days)

    @property
    def work(self) -> bool:
        """Tell whether a run would publish anything."""
        return bool(self.days) or self.release_due

    def to_dict(self) -> dict[str, Any]:
        """Describe the plan as a document that can be run again (``documents``)."""
        return {
            "as_of": to_date(self.as_of).isoformat(),
            "window": [to_date(self.window[0]).isoformat(), to_date(self.window[-1]).isoformat()],
            "days": [day.to_dict() | {"bytes": bytes_of(self.stock, [day])} for day in self.days],
            "rows": self.rows,
            "bytes": self.bytes,
            "release": {"due": self.release_due, "reason": self.release_reason},
            "notes": list(self.notes),
            "files": self._files(),
            "vanished": self._vanished(),
            "accept_missing": self.stock.accept_missing,
            "made_with": made_with(self.stock),
        }

    def _files(self) -> list[dict[str, Any]]:
        """List the files that feed the days to process."""
        paths = sorted({path for day in self.days for path in day.files})
        entries = [self.stock.files[path] for path in paths]
        return [{"path": e.path, "size": e.file.size, "sha256": e.sha256} for e in entries]

    def _vanished(self) -> list[str]:
        """List the files whose rows are taken out."""
        gone = [path for path in self.stock.changed_files if self.stock.files[path].state == "gone"]
        return gone if self.stock.accept_missing else []


def made_with(stock: Stock) -> dict[str, str]:
    """Name what a plan depends on beside events and lake: whose it is, settings, code."""
    return {
        "pipeline": stock.settings.pipeline,
        "environment": stock.settings.environment,
        "event settings": statistics_digest(stock.form, stock.metrics),
        "inference settings": stock.settings.digest(),
        "code": release_kernel_digest(stock.metrics),
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
    document: PlanDocument | None = None,
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
    document
        A plan that was made before, which is to be run as it is; the other options are its own.
    retry_held
        Measure days again that are held and left out of releases, though nothing has changed.

    Raises
    ------
    ConfigError
        When the lake belongs to another pipeline, or the document was made with other settings
        or code.
    EventsError
        When there are no events, or a file cannot be used or has changed since the document.
    LateError
        When the as-of day is not complete, or has no events yet.
    """
    if document is None:
        stock = take_stock(settings, lake, engine, now=now, accept_missing=accept_missing)
        return plan_night(stock, lake, as_of=as_of, full_scan=full_scan, retry_held=retry_held)
    missing, files = document.accept_missing, document.delivery
    stock = take_stock(settings, lake, engine, now=now, accept_missing=missing, delivery=files)
    return plan_again(stock, lake, document)


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
    as_of_day = choose_as_of(stock, as_of)
    window = window_of(settings, stock.files, as_of_day)
    horizon = None if full_scan else as_of_day - settings.events.horizon
    due, left = due_days(stock, window, horizon)
    held = [] if retry_held or settings.audits.held == "block" else held_as_before(stock, due)
    due = [day for day in due if day.day not in held]
    later = awaited(stock, as_of_day) if as_of is None else []
    return _assemble(stock, lake, window, due, [*left, *later], left_out(held))


def plan_again(stock: Stock, lake: Lake, document: PlanDocument) -> Plan:
    """Plan what a document says, from stock of its files: its days that are not done since.

    Raises
    ------
    ConfigError
        When it was made with other settings or code.
    EventsError
        When other files feed a day by now.
    """
    document.check(made_with(stock))
    first, last = document.window
    due, left = due_days(stock, sorted(document.days), None)
    for day in due:
        others = document.days[day.day].files.symmetric_difference(day.files)
        if others:
            raise EventsError(
                f"{to_date(day.day)} comes from other files by now, e.g. {min(others)}",
                where={"plan": document.name},
                expected=f"the {len(document.days[day.day].files)} file(s) that the plan names",
                remedy="plan again",
            )
    days = [replace(day, reason=document.days[day.day].reason) for day in due]
    return _assemble(stock, lake, tuple(range(first, last + 1)), days, left)


def _assemble(
    stock: Stock,
    lake: Lake,
    window: tuple[int, ...],
    due: list[DayPlan],
    left: list[str],
    held: Sequence[str] = (),
) -> Plan:
    """Decide whether a release is due; ``left`` and ``held`` note days that are left alone, out."""
    as_of = window[-1]
    current = latest_release(lake, stock.settings.environment, to_date(as_of))
    touched = [day.day for day in due]
    release_due, reason = release_reason(stock, current, as_of, touched)
    if left and not release_due:
        reason = f"nothing can be done for the {len(left)} day(s) that the notes name"
    return Plan(
        stock=stock,
        as_of=window[-1],
        window=window,
        days=tuple(due),
        release_reason=reason,
        release_due=release_due,
        notes=(*left, *held, *_vanished(stock), *_unseen_history(stock, window)),
        settings_digest=stock.settings.digest(),
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
        # Of the tables that it saw, which its days may still agree with.
        own = release_input(as_of, stock.ledger, settings, current.get("stores"))
        tables = current["input"] == own
        changed = TotalsTables(settings).named if tables else "statistics"
        return True, f"{changed} changed since its release"
    if current["settings"] != settings.digest():  # asked first: other metrics bring other code
        return True, "inference settings changed since its release"
    if current["kernel"] != release_kernel_digest(stock.metrics):
        return True, "code changed since its release"
    return False, (
        f"release {current['release']} of {to_date(as_of)} is up to date: all "
        f"{current['days']} days of its window are done, and neither input, code nor settings "
        "changed"
    )
