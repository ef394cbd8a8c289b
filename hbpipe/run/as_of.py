"""The as-of day of a run, and the window of days that ends with it.

A business day is *complete* when it is over, the time for late files after it has passed
(``events.complete_after``), and its marker is there (``events.ready``). Markers are asked for from
the day after the last one that was done: history without markers does not stand in the way, and a
day that was left out does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from hbpipe.config import Settings, window_days
from hbpipe.data.clock import to_date, to_number
from hbpipe.data.events import has_marker
from hbpipe.errors import LateError
from hbpipe.run.ledger import FileEntry
from hbpipe.run.stock import Stock


@dataclass(frozen=True)
class Awaited:
    """What keeps a day from being complete: what was found, and what is expected."""

    day: int
    found: str
    expected: str

    def error(self) -> LateError:
        """Return the error of a run that asks for the day."""
        return LateError(self.found, expected=self.expected, remedy="run again when it is there")


def choose_as_of(stock: Stock, asked: date | None) -> int:
    """Choose the last business day included: the one asked for, or the latest that is complete.

    Raises
    ------
    LateError
        When the day is not complete, or nothing of it has arrived.
    """
    days = _days_of_events(stock)
    if asked is None:
        return _latest(stock, days)
    day = to_number(asked)
    missing = _awaited_time(stock, day) or _awaited_marker(stock, day)
    if missing is not None:
        raise missing.error()
    if not days or days[-1] < day:
        last = to_date(days[-1]) if days else "none"
        raise LateError(
            f"no events of {asked} or later have arrived",
            expected=f"events up to {asked}; the last day found is {last}",
            remedy="wait for the delivery, or choose an earlier --as-of",
        )
    return day


def is_complete(stock: Stock, day: int) -> bool:
    """Tell whether a day is over, and nothing of it is awaited any more."""
    return _awaited_time(stock, day) is None and _awaited_marker(stock, day) is None


def awaited(stock: Stock, as_of: int) -> list[str]:
    """Say of the next day of events, if it is over, why it is not taken yet."""
    later = [day for day in _days_of_events(stock) if day > as_of]
    if not later or stock.form.calendar.end_of(later[0]) > stock.now:
        return []
    missing = _awaited_time(stock, later[0]) or _awaited_marker(stock, later[0])
    return [] if missing is None else [f"{missing.found}; expected: {missing.expected}"]


def _latest(stock: Stock, days: list[int]) -> int:
    """Return the latest day that is complete; days of events are looked at, the last one first."""
    missing: Awaited | None = None
    for day in reversed(days):
        if missing is not None and missing.day < day:
            continue  # the same earlier day is awaited still
        missing = _awaited_time(stock, day) or _awaited_marker(stock, day)
        if missing is None:
            return day
    if missing is None:
        raise LateError("no row has a valid time", remedy="check the column of the time")
    raise LateError(
        f"no day of events is complete: {missing.found}",
        expected=missing.expected,
        remedy="wait, or check the times",
    )


def _awaited_time(stock: Stock, day: int) -> Awaited | None:
    """Return what a day waits for that is not over, or whose late files may still come."""
    over = stock.form.calendar.end_of(day)
    complete = over + stock.settings.events.complete_after
    if stock.now >= complete:
        return None
    then = f"a run after {complete.isoformat()}"
    if stock.now < over:
        return Awaited(day, f"the day {to_date(day)} is not over", then)
    return Awaited(day, f"late files of {to_date(day)} are still awaited", then)


def _awaited_marker(stock: Stock, day: int) -> Awaited | None:
    """Return the first marker that is missing, of a day and those since the last one done."""
    pattern = stock.settings.events.ready
    done = max(stock.ledger, default=day - 1)
    if pattern is None:
        return None
    for one in range(done + 1, day + 1):
        marker = pattern.replace("{day}", to_date(one).isoformat())
        if not has_marker(stock.form, marker):
            found = f"the day {to_date(one)} is not marked as complete"
            return Awaited(one, found, f"the file {marker} below {stock.form.root}")
    return None


def _days_of_events(stock: Stock) -> list[int]:
    return sorted({day for entry in stock.files.values() for day in entry.days})


def window_of(settings: Settings, files: Mapping[str, FileEntry], as_of: int) -> tuple[int, ...]:
    """List the days of the window, from the first day of events on: before it nothing is missing.

    Raises
    ------
    LateError
        When no events lie in the window.
    """
    days = {day for entry in files.values() for day in entry.days}
    dates = window_days(to_date(as_of), settings.inference.window, to_date(min(*days, as_of)))
    window = [to_number(one) for one in dates]
    seen = days.intersection(window)
    if not seen:
        raise LateError(
            f"no events lie between {dates[0]} and {dates[-1]}",
            expected=f"days such as {to_date(min(days))} to {to_date(max(days))}",
            remedy="choose another --as-of, or a longer inference.window",
        )
    return tuple(day for day in window if day >= min(days))
