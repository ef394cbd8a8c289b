"""The as-of day of a run, and the window of days that ends with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

from hbpipe.config import Settings, window_days
from hbpipe.data.clock import Calendar, to_date, to_number
from hbpipe.errors import LateError
from hbpipe.run.ledger import FileEntry


def choose_as_of(
    calendar: Calendar, files: Mapping[str, FileEntry], asked: date | None, now: datetime
) -> int:
    """Choose the last business day included: the one asked for, or the latest that is over.

    Raises
    ------
    LateError
        When the day is not over, or nothing of it has arrived.
    """
    days = sorted({day for entry in files.values() for day in entry.days})
    over = [day for day in days if calendar.end_of(day) <= now]
    if asked is None:
        if not over:
            found = f"its first day is {to_date(days[0])}" if days else "no row has a valid time"
            raise LateError(f"no day of events is over: {found}", remedy="wait, or check the times")
        return over[-1]
    day = to_number(asked)
    if calendar.end_of(day) > now:
        end = calendar.end_of(day).isoformat()
        raise LateError(f"the day {asked} is not over", expected=f"a run after {end}")
    if not days or days[-1] < day:
        last = to_date(days[-1]) if days else "none"
        raise LateError(
            f"no events of {asked} or later have arrived",
            expected=f"events up to {asked}; the last day found is {last}",
            remedy="wait for the delivery, or choose an earlier --as-of",
        )
    return day


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
