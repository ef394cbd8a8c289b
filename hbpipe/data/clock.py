"""Business days of time columns.

A business day is a date in the configured zone that begins at ``day_start``. Naive times are
local; aware times are converted. Days travel as int32 counts since 1970-01-01, as Arrow's
``date32`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

EPOCH = date(1970, 1, 1)
#: What keeps a row from having a business day; the index is the fault's code.
FAULTS = ("", "missing time", "unreadable time", "day out of range")
_MISSING, _UNREADABLE, _OUT_OF_RANGE = 1, 2, 3
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_ZONE = r"(Z|[+-]\d{2}(:?\d{2})?)"
_ISO = r"^\d{4}-\d{2}-\d{2}([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?" + _ZONE + r"?)?$"

Days = NDArray[np.int32]


@dataclass(frozen=True)
class Calendar:
    """How times become business days.

    ``day_start`` is in minutes after midnight; ``whole_days`` says that the column holds dates
    already, which no ``day_start`` shifts. Days outside [earliest, latest] are implausible.
    """

    timezone: str = "UTC"
    day_start: int = 0
    earliest: date = date(2000, 1, 1)
    latest: date = date(2099, 12, 31)
    whole_days: bool = False

    def end_of(self, day: int) -> datetime:
        """Return the instant at which business day ``day`` is over."""
        return self.start_of(day + 1)

    def start_of(self, day: int) -> datetime:
        """Return the instant at which business day ``day`` begins."""
        midnight = datetime.combine(to_date(day), time(), tzinfo=ZoneInfo(self.timezone))
        local = midnight + timedelta(minutes=0 if self.whole_days else self.day_start)
        return local.astimezone(UTC)


def to_date(day: int) -> date:
    """Return the date of a day number."""
    return EPOCH + timedelta(days=int(day))


def to_number(day: date) -> int:
    """Return the day number of a date."""
    return (day - EPOCH).days


def business_days(column: pa.ChunkedArray, calendar: Calendar) -> tuple[Days, NDArray[np.int8]]:
    """Return the business day and the fault code of each value.

    Parameters
    ----------
    column
        Timestamps of any unit, naive or aware; dates; or ISO 8601 text, (E,).

    Returns
    -------
    Days (E,) and fault codes (E,) that index ``FAULTS``; a day with a fault means nothing.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        days, faults = _text_days(column, calendar)
    else:
        faults = np.zeros(len(column), np.int8)
        days = _instant_days(column, calendar)
        if column.null_count:
            faults[column.is_null().to_numpy()] = _MISSING
    outside = (days < to_number(calendar.earliest)) | (days > to_number(calendar.latest))
    faults[outside & (faults == 0)] = _OUT_OF_RANGE
    return days, faults


def accepts(kind: pa.DataType) -> bool:
    """Tell whether a column of this type can be a time."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_timestamp(kind)
        or pa.types.is_date(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    )


def _instant_days(column: pa.ChunkedArray, calendar: Calendar) -> Days:
    kind = column.type
    if pa.types.is_date(kind):
        return _int_values(column.cast(pa.date32()), pa.int32()).astype(np.int32)
    values = _int_values(column, pa.int64())
    per_day = _PER_DAY[kind.unit]
    if kind.tz is None:
        shift = 0 if calendar.whole_days else calendar.day_start * per_day // 1440
        return _floor_days(values - shift if shift else values, per_day)
    return _zoned_days(values, per_day, calendar)


def _int_values(column: pa.ChunkedArray, kind: pa.DataType) -> NDArray[Any]:
    """Give the raw integers, nulls as 0, without a copy where there is one chunk and no null."""
    raw = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    raw = raw.view(kind)
    return (raw.fill_null(0) if raw.null_count else raw).to_numpy(zero_copy_only=False)


def _floor_days(values: NDArray[np.int64], per_day: int) -> Days:
    """Divide by the day's length, once for all where one day holds every value."""
    if not len(values):
        return np.empty(0, np.int32)
    first, last = int(values.min()) // per_day, int(values.max()) // per_day
    if first == last:
        return np.full(len(values), _clip(first), np.int32)
    return np.clip(values // per_day, -(2**30), 2**30).astype(np.int32)


def _clip(day: int) -> int:
    return max(-(2**30), min(2**30, day))


def _zoned_days(values: NDArray[np.int64], per_day: int, calendar: Calendar) -> Days:
    """Find the day of each instant among the instants at which days begin.

    The borders come from the zone's rules, so 23- and 25-hour days are right. Values beyond the
    plausible range are clipped to just outside it, where they are refused.
    """
    if not len(values):
        return np.empty(0, np.int32)
    lowest, highest = to_number(calendar.earliest) - 2, to_number(calendar.latest) + 2
    clipped = np.clip(values, lowest * per_day, highest * per_day)
    first = int(clipped.min()) // per_day - 1
    last = int(clipped.max()) // per_day + 1
    per_second = per_day // 86_400
    starts = [calendar.start_of(day) for day in range(first, last + 1)]
    borders = np.array([int(start.timestamp()) * per_second for start in starts], np.int64)
    return (np.searchsorted(borders, clipped, side="right") - 1 + first).astype(np.int32)


def _text_days(column: pa.ChunkedArray, calendar: Calendar) -> tuple[Days, NDArray[np.int8]]:
    """Parse ISO text; a text with an offset is an instant, one without is local."""
    missing = column.is_null().to_numpy()
    text = pc.fill_null(column, "")
    readable = pc.match_substring_regex(text, _ISO).to_numpy()
    dates = pc.utf8_slice_codeunits(text, 0, 10).combine_chunks().dictionary_encode()
    parsed = np.array([_parse_date(value.as_py()) for value in dates.dictionary], np.int32)
    days = parsed[dates.indices.to_numpy()] if len(parsed) else np.empty(0, np.int32)
    readable &= days != _NO_DATE
    faults = np.where(missing, _MISSING, np.where(readable, 0, _UNREADABLE)).astype(np.int8)
    if calendar.day_start and not calendar.whole_days:
        clock = pc.utf8_slice_codeunits(text, 11, 16)
        start = f"{calendar.day_start // 60:02d}:{calendar.day_start % 60:02d}"
        days = days - pc.less(clock, start).to_numpy().astype(np.int32)
    aware = pc.match_substring_regex(text, _ZONE + "$").to_numpy() & readable
    aware &= pc.greater(pc.utf8_length(text), 10).to_numpy()
    if aware.any() and not calendar.whole_days:
        instants = pc.cast(text.filter(pa.array(aware)), pa.timestamp("us", "UTC"))
        days[aware] = _instant_days(instants, calendar)
    return days, faults


_NO_DATE = np.int32(-(2**30) - 1)


def _parse_date(text: str) -> int:
    try:
        return to_number(date.fromisoformat(text)) if len(text) == 10 else int(_NO_DATE)
    except ValueError:
        return int(_NO_DATE)
