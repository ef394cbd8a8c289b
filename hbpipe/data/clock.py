"""Business days of time columns.

A business day is a date in the configured zone that begins at ``day_start``. Naive times are
local; aware times are converted. Days travel as int32 counts since 1970-01-01, as Arrow's
``date32`` does.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

EPOCH = date(1970, 1, 1)
_FIRST_DAY, _LAST_DAY = (date.min - EPOCH).days, (date.max - EPOCH).days
_LEAST = np.iinfo(np.int64).min
#: What keeps a row from having a business day; the index is the fault's code.
FAULTS = ("", "missing time", "unreadable time", "day out of range")
_MISSING, _UNREADABLE, _OUT_OF_RANGE = 1, 2, 3
_PER_DAY = {"s": 86_400, "ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_ZONE = r"(Z|[+-]([01]\d|2[0-3])(:?[0-5]\d)?)"
_ISO = r"^\d{4}-\d{2}-\d{2}([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,9})?)?" + _ZONE + r"?)?$"

Days = NDArray[np.int32]

#: So many days may hold all instants of a row group that was written in one go.
_FEW_DAYS = 8
#: Beyond every date; what lies further out is counted here.
_FAR = 2**30
_NO_DATE = np.int32(-_FAR - 1)


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

    def last_over(self, instant: datetime) -> int:
        """Return the number of the last business day that is over at an aware instant."""
        day = to_number(instant.astimezone(UTC).date()) + 1  # no zone is two days from UTC
        while self.end_of(day) > instant:
            day -= 1
        return day

    def start_of(self, day: int) -> datetime:
        """Return the instant at which business day ``day`` begins."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=self.start_seconds(day))

    def start_seconds(self, day: int) -> int:
        """Return the same instant in seconds since 1970, for any day number.

        A wall clock time that comes twice means the first; one that is skipped means the moment
        at which it would have come. Beyond the years 1 to 9999 no zone has rules, and UTC stands
        in: such days only border on what is refused.
        """
        seconds = day * 86_400 + 60 * self.shift
        if not _FIRST_DAY <= day < _LAST_DAY:
            return seconds
        local = datetime.combine(to_date(day), time()) + timedelta(minutes=self.shift)
        offset = local.replace(tzinfo=ZoneInfo(self.timezone)).utcoffset()
        assert offset is not None  # a ZoneInfo always knows it
        return seconds - int(offset.total_seconds())

    @property
    def shift(self) -> int:
        """Minutes by which business days begin after midnight; none where dates are given."""
        return 0 if self.whole_days else self.day_start


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
    if not len(values):
        return np.empty(0, np.int32)
    per_day = _PER_DAY[kind.unit]
    if kind.tz is None:
        return _naive_days(values, calendar.shift * per_day // 1440, per_day)
    return _zoned_days(values, per_day // 86_400, calendar)


def _int_values(column: pa.ChunkedArray, kind: pa.DataType) -> NDArray[Any]:
    """Give the raw integers, nulls as 0, without a copy where there is one chunk and no null."""
    raw = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    raw = raw.view(kind)
    filled = raw.fill_null(0) if raw.null_count else raw
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _naive_days(values: NDArray[np.int64], shift: int, per_day: int) -> Days:
    """Divide by the day's length, once for all where one day holds every value."""
    low, high = int(values.min()), int(values.max())
    first, last = (low - shift) // per_day, (high - shift) // per_day
    if first == last:
        return np.full(len(values), _clip(first), np.int32)
    if low < _LEAST + shift:  # subtracting would wrap around
        days = values // per_day - (values % per_day < shift)
    else:
        days = (values - shift if shift else values) // per_day
    return np.clip(days, -_FAR, _FAR).astype(np.int32)


def _clip(day: int) -> int:
    return max(-_FAR, min(_FAR, day))


def _zoned_days(values: NDArray[np.int64], per_second: int, calendar: Calendar) -> Days:
    """Find the day of each instant among the instants at which days begin.

    The borders come from the zone's rules, so 23- and 25-hour days are right. Instants beyond the
    plausible range are clipped to just outside it, where they are refused.
    """
    lowest = (to_number(calendar.earliest) - 3) * 86_400
    highest = (to_number(calendar.latest) + 3) * 86_400
    low, high = (
        min(max(int(end) // per_second, lowest), highest) for end in (values.min(), values.max())
    )
    # A day begins less than two days from its own midnight in UTC.
    around = range(low // 86_400 - 2, high // 86_400 + 3)
    if len(around) <= _FEW_DAYS:
        borders = [calendar.start_seconds(day) for day in around]
        first, last = (bisect_right(borders, end) - 1 for end in (low, high))
        if first == last:
            return np.full(len(values), around[first], np.int32)
    seconds = np.clip(values // per_second, lowest, highest)
    present = np.flatnonzero(np.bincount(seconds // 86_400 - around[0])) + around[0]
    days = np.unique(present[:, None] + np.arange(-2, 3))
    starts = np.array([calendar.start_seconds(day) for day in days.tolist()])
    return days[np.searchsorted(starts, seconds, side="right") - 1].astype(np.int32)


def _text_days(column: pa.ChunkedArray, calendar: Calendar) -> tuple[Days, NDArray[np.int8]]:
    """Parse ISO text; a text with an offset is an instant, one without is local."""
    missing = column.is_null().to_numpy()
    text = _ascii(pc.fill_null(column, ""))
    readable = pc.match_substring_regex(text, _ISO).to_numpy()
    dates = pc.utf8_slice_codeunits(text, 0, 10).combine_chunks().dictionary_encode()
    parsed = np.array([_parse_date(value.as_py()) for value in dates.dictionary], np.int32)
    days = parsed[dates.indices.to_numpy()] if len(parsed) else np.empty(0, np.int32)
    readable &= days != _NO_DATE
    faults = np.where(missing, _MISSING, np.where(readable, 0, _UNREADABLE)).astype(np.int8)
    timed = pc.greater(pc.utf8_length(text), 10).to_numpy()
    if calendar.shift:
        start = f"{calendar.shift // 60:02d}:{calendar.shift % 60:02d}"
        early = pc.less(pc.utf8_slice_codeunits(text, 11, 16), start).to_numpy()
        days = days - (early & timed).astype(np.int32)
    aware = pc.match_substring_regex(text, _ZONE + "$").to_numpy() & readable & timed
    if aware.any():
        days[aware] = _instant_days(_instants(text.filter(pa.array(aware))), calendar)
    return days, faults


def _ascii(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Empty what is not ASCII, which no ISO text is: Arrow cannot cut bytes that are not UTF-8."""
    plain = pc.string_is_ascii(text)
    return text if pc.all(plain, min_count=0).as_py() else pc.if_else(plain, text, "")


def _instants(text: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse readable text with an offset; digits below a microsecond decide no day."""
    micros = pc.replace_substring_regex(text, r"(\.\d{6})\d+", r"\1")
    return pc.cast(micros, pa.timestamp("us", "UTC"))


def _parse_date(text: str) -> int:
    try:
        return to_number(date.fromisoformat(text)) if len(text) == 10 else int(_NO_DATE)
    except ValueError:
        return int(_NO_DATE)
