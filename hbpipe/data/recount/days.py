"""The business day of a time value, by the rules alone; see ``recount.py``."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from hbpipe.data.recount.spec import RecountSpec, RefusedError
from hbpipe.errors import EventsError

_ISO_TEXT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ](?!24)[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)
_TICKS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = datetime(1970, 1, 1)


def business_day(value: Any, kind: pa.DataType, spec: RecountSpec) -> date:
    """Return the business day of a time value.

    Timestamps and dates come as the integers that the file holds, text as text. A value that is
    a whole date is that day. A naive time is local; a day begins at ``day_start`` by the wall
    clock. An instant belongs to the day between whose beginning and the next day's it lies.
    """
    if value is None:
        raise RefusedError(spec.time, "missing time")
    try:
        moment = _moment(value, kind, spec)
        day = _day_of(moment, spec)
    except OverflowError:  # before the year 1 or after 9999
        raise RefusedError(spec.time, "day out of range") from None
    if not spec.earliest <= day <= spec.latest:
        raise RefusedError(spec.time, "day out of range")
    return day


def _moment(value: Any, kind: pa.DataType, spec: RecountSpec) -> date | datetime:
    if pa.types.is_timestamp(kind):
        since = timedelta(microseconds=value * 10**6 // _TICKS_PER_SECOND[kind.unit])
        return _EPOCH + since if kind.tz is None else _EPOCH.replace(tzinfo=UTC) + since
    if pa.types.is_date32(kind):
        return _EPOCH.date() + timedelta(days=value)
    if pa.types.is_date64(kind):
        return _EPOCH.date() + timedelta(days=value // 86_400_000)
    if isinstance(value, str):
        return _parse(value, spec)
    raise EventsError(
        f"Time column {spec.time!r} is {kind}",
        expected="a timestamp, a date or ISO text",
        remedy="name another column as events.time or events.day",
    )


def _parse(text: str, spec: RecountSpec) -> date | datetime:
    if not _ISO_TEXT.fullmatch(text):
        raise RefusedError(spec.time, "unreadable time")
    try:
        return date.fromisoformat(text) if len(text) == 10 else datetime.fromisoformat(text)
    except ValueError:
        raise RefusedError(spec.time, "unreadable time") from None


def _day_of(moment: date | datetime, spec: RecountSpec) -> date:
    if not isinstance(moment, datetime):
        return moment
    shift = timedelta(minutes=spec.day_start_minutes if spec.time_kind == "timestamp" else 0)
    if moment.tzinfo is None:
        return (moment - shift).date()
    day = moment.astimezone(ZoneInfo(spec.timezone)).date()
    while moment < _beginning(day, shift, spec):
        day -= timedelta(days=1)
    while moment >= _beginning(day + timedelta(days=1), shift, spec):
        day += timedelta(days=1)
    return day


def _beginning(day: date, shift: timedelta, spec: RecountSpec) -> datetime:
    wall_clock = datetime.combine(day, time()) + shift
    return wall_clock.replace(tzinfo=ZoneInfo(spec.timezone)).astimezone(UTC)
