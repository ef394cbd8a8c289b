"""Business days, compared row by row with plain Python and the zone's own rules."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest

from hbpipe.data.clock import FAULTS, Calendar, accepts, business_days, to_date, to_number

ZONES = [
    "UTC",
    "Europe/Paris",
    "America/New_York",
    "America/Havana",  # clocks change at midnight: some days begin at one
    "Africa/Cairo",  # and here the last hour of a day comes twice
    "Pacific/Apia",  # skipped 2011-12-30
    "Asia/Kathmandu",
    "Pacific/Kiritimati",
    "Etc/GMT+12",
]
STARTS = [0, 120, 150, 1439]
#: Days on which some of these zones change, a quiet day, and the day that Apia lacks.
CHANGES = [
    date(2026, 3, 8),
    date(2026, 3, 29),
    date(2026, 4, 24),
    date(2026, 7, 1),
    date(2026, 10, 25),
    date(2026, 10, 30),
    date(2026, 11, 1),
    date(2011, 12, 30),
]
UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def beginning(day: date, zone: ZoneInfo, minutes: int) -> datetime:
    wall_clock = datetime(day.year, day.month, day.day) + timedelta(minutes=minutes)
    return wall_clock.replace(tzinfo=zone).astimezone(UTC)


def day_of_instant(moment: datetime, zone: ZoneInfo, minutes: int) -> date:
    """Return the last day that has begun."""
    day = moment.astimezone(zone).date() + timedelta(days=2)
    while beginning(day, zone, minutes) > moment:
        day -= timedelta(days=1)
    return day


def moments_around(day: date) -> list[datetime]:
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(days=1)
    quarters = [start + timedelta(minutes=15 * n) for n in range(3 * 96)]
    edges = [timedelta(microseconds=-1), timedelta(0), timedelta(microseconds=1)]
    return [quarter + edge for quarter in quarters for edge in edges]


def days_of(values, kind: pa.DataType, **calendar) -> list[date | str]:
    """Return the day of each value, or the name of its fault; in one chunk, in several, alone."""
    column = pa.chunked_array([pa.array(values, kind)])
    setting = Calendar(**calendar)
    days, faults = business_days(column, setting)
    assert (days.dtype, faults.dtype) == (np.int32, np.int8)
    cut = pa.chunked_array([column.chunk(0)[:3], column.chunk(0)[3:3], column.chunk(0)[3:]])
    again, faults_again = business_days(cut, setting)
    np.testing.assert_array_equal(faults_again, faults)
    np.testing.assert_array_equal(again[faults == 0], days[faults == 0])
    for row in range(0, len(column), max(len(column) // 7, 1)):
        day, fault = business_days(column.slice(row, 1), setting)
        assert fault[0] == faults[row]
        assert fault[0] or day[0] == days[row]
    return [FAULTS[f] if f else to_date(d) for d, f in zip(days, faults, strict=True)]


@pytest.mark.parametrize("minutes", STARTS)
@pytest.mark.parametrize("zone", ZONES)
def test_instants_by_the_rules_of_the_zone(zone, minutes):
    moments = [moment for day in CHANGES for moment in moments_around(day)]
    micros = [
        int((m - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1)) for m in moments
    ]
    expected = [day_of_instant(moment, ZoneInfo(zone), minutes) for moment in moments]
    kind = pa.timestamp("us", "UTC")
    assert days_of(micros, kind, timezone=zone, day_start=minutes) == expected
    # The zone in which the file shows its instants says nothing about the business day.
    some = slice(None, None, 37)
    shown = pa.timestamp("us", "Asia/Tokyo")
    assert days_of(micros[some], shown, timezone=zone, day_start=minutes) == expected[some]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_every_unit_of_time(unit, zone):
    ticks = UNITS[unit]
    seconds = [
        to_number(date(2026, 3, 2)) * 86_400 + s for s in (-1, 0, 1, 7199, 7200, 86_399, 86_400)
    ]
    values = [s * ticks + (ticks - 1) for s in seconds]
    found = days_of(values, pa.timestamp(unit, zone), day_start=120)
    assert [day.day for day in found] == [1, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("minutes", STARTS)
def test_naive_times_are_local_whatever_the_zone(minutes):
    start = datetime(2026, 3, 28)
    values = [start + timedelta(minutes=7 * n) for n in range(700)]
    expected = [(value - timedelta(minutes=minutes)).date() for value in values]
    for zone in ZONES:
        found = days_of(values, pa.timestamp("us"), timezone=zone, day_start=minutes)
        assert found == expected
    texts = [value.isoformat() for value in values]
    assert days_of(texts, pa.string(), timezone="Europe/Paris", day_start=minutes) == expected


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64(), pa.string(), pa.large_string()])
def test_whole_dates_are_not_moved(kind):
    days = [date(2026, 3, 1), date(2026, 3, 29), date(2000, 1, 1), date(2099, 12, 31)]
    values = [day.isoformat() for day in days] if kind in (pa.string(), pa.large_string()) else days
    assert days_of(values, kind, timezone="America/New_York", day_start=120) == days
    assert (
        days_of(values, kind, timezone="America/New_York", day_start=120, whole_days=True) == days
    )


def test_a_date_column_of_midnights_is_not_moved():
    values = [datetime(2026, 3, 2), datetime(2026, 3, 3, 1)]
    found = days_of(values, pa.timestamp("ms"), day_start=120, whole_days=True)
    assert found == [date(2026, 3, 2), date(2026, 3, 3)]
    texts = ["2026-03-02T00:00:00", "2026-03-02T23:30:00Z"]
    found = days_of(texts, pa.string(), timezone="Europe/Paris", day_start=120, whole_days=True)
    assert found == [date(2026, 3, 2), date(2026, 3, 3)]


@pytest.mark.parametrize("zone", ZONES)
def test_text_with_an_offset_is_an_instant(zone):
    offsets = ["Z", "+00:00", "+0530", "-08", "+14:00", "-12:00", "+23:59"]
    stamps = ["2026-03-29T00:59:59", "2026-03-29 01:00", "2026-10-25T00:30:00.123456789"]
    texts = [stamp + offset for stamp in stamps for offset in offsets]
    moments = [datetime.fromisoformat(text) for text in texts]
    expected = [day_of_instant(moment, ZoneInfo(zone), 150) for moment in moments]
    assert days_of(texts, pa.string(), timezone=zone, day_start=150) == expected
    coded = pa.dictionary(pa.int32(), pa.string())
    mixed = [*texts, "2026-07-01T02:29", "2026-07-01"]
    found = days_of(pa.array(mixed).cast(coded), coded, timezone=zone, day_start=150)
    assert found == [*expected, date(2026, 6, 30), date(2026, 7, 1)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "2026-03-02 ",
        "02/03/2026",
        "20260302",
        "2026-3-2",
        "2026-02-30",
        "0000-01-01",
        "2026-W10-1",
        "2026-03-02T",
        "2026-03-02T10",
        "2026-03-02T24:00",
        "2026-03-02T10:60",
        "2026-03-02T10:00:60",
        "2026-03-02T10:00.5",
        "2026-03-02T10:00:00.",
        "2026-03-02T10:00:00.1234567890",
        "2026-03-02T10:00+24:00",
        "2026-03-02T10:00+01:75",
        "2026-03-02T10:00 Europe/Paris",
        "2026-03-02Z",
        "2026-03-02\n",
        "٢٠٢٦-٠٣-٠٢",
        "2026-03-02T10:00:00é",
    ],
)
def test_garbage_is_unreadable_beside_sound_text(text):
    found = days_of([text, "2026-03-02", None, "2026-03-02T01:00Z"], pa.string(), day_start=120)
    assert found == ["unreadable time", date(2026, 3, 2), "missing time", date(2026, 3, 1)]


def test_bytes_that_are_no_text_are_unreadable():
    raw = pa.array([b"\xff\xfe2026-03-02", b"2026-03-02"])
    column = pa.chunked_array([pa.Array.from_buffers(pa.string(), 2, raw.buffers())])
    _, faults = business_days(column, Calendar())
    assert [FAULTS[fault] for fault in faults] == ["unreadable time", ""]


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
@pytest.mark.parametrize("unit", UNITS)
def test_the_ends_of_every_range(unit, zone):
    least, greatest = -(2**63) + 1, 2**63 - 1
    sound = to_number(date(2026, 3, 2)) * 86_400 * UNITS[unit] + 7 * 3600 * UNITS[unit]
    expected = ["day out of range", date(2026, 3, 2), "missing time", "day out of range"]
    for minutes in STARTS[:2]:
        values = [least, sound, None, greatest]
        found = days_of(values, pa.timestamp(unit, zone), timezone="Asia/Tokyo", day_start=minutes)
        assert found == expected


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Tokyo", "America/New_York"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_the_widest_calendar_never_wraps_around(zone, timezone):
    wide = {"earliest": date.min, "latest": date.max, "timezone": timezone, "day_start": 120}
    kind = pa.timestamp("us", zone)
    sound = [
        datetime(1, 1, 3, 12),
        datetime(1677, 9, 22),
        datetime(2262, 4, 11),
        datetime(9999, 12, 29, 12),
    ]
    values = [int((m - datetime(1970, 1, 1)) / timedelta(microseconds=1)) for m in sound]
    found = days_of([-(2**63) + 1, *values, 2**63 - 1], kind, **wide)
    assert found[0] == found[-1] == "day out of range"
    assert all(
        abs(found[1 + n] - moment.date()) <= timedelta(days=1) for n, moment in enumerate(sound)
    )
    ends = days_of([-(2**63) + 1, 2**63 - 1], pa.timestamp("ns", zone), **wide)
    assert [day.year for day in ends] == [1677, 2262]


def test_bounds_are_included():
    bounds = {"earliest": date(2026, 3, 1), "latest": date(2026, 3, 2)}
    values = [date(2026, 2, 28) + timedelta(days=n) for n in range(4)]
    out = "day out of range"
    assert days_of(values, pa.date32(), **bounds) == [out, values[1], values[2], out]
    instants = [datetime(2026, 3, d, 23, 30, tzinfo=UTC) for d in (1, 2)]
    found = days_of(instants, pa.timestamp("s", "UTC"), timezone="Europe/Paris", **bounds)
    assert found == [date(2026, 3, 2), out]


@pytest.mark.parametrize(
    "kind", [pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.date32(), pa.string()]
)
def test_nothing_and_nothing_but_nulls(kind):
    days, faults = business_days(pa.chunked_array([], kind), Calendar(timezone="Europe/Paris"))
    assert len(days) == len(faults) == 0
    assert days_of([None, None], kind, timezone="Europe/Paris") == ["missing time"] * 2


def test_a_day_ends_where_the_next_begins():
    calendar = Calendar(timezone="America/Havana")
    spring = to_number(date(2026, 3, 8))  # 00:00 does not exist: the day begins at 01:00
    assert calendar.start_of(spring) == datetime(2026, 3, 8, 5, tzinfo=UTC)
    assert calendar.end_of(spring) == datetime(2026, 3, 9, 4, tzinfo=UTC)
    assert Calendar(day_start=90, whole_days=True).start_of(0) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.timestamp("ns", "UTC"), True),
        (pa.date64(), True),
        (pa.large_string(), True),
        (pa.dictionary(pa.int8(), pa.string()), True),
        (pa.int64(), False),
        (pa.time64("us"), False),
        (pa.binary(), False),
    ],
)
def test_what_can_be_a_time(kind, expected):
    assert accepts(kind) is expected


@pytest.mark.parametrize(
    ("instant", "calendar", "day"),
    [
        ("2026-01-02T00:00+00:00", Calendar(), date(2026, 1, 1)),
        ("2026-01-01T23:59+00:00", Calendar(), date(2025, 12, 31)),
        ("2026-01-02T01:59+00:00", Calendar(day_start=120), date(2025, 12, 31)),
        ("2026-01-02T02:00+00:00", Calendar(day_start=120), date(2026, 1, 1)),
        ("2026-01-01T23:00+00:00", Calendar("Europe/Paris"), date(2026, 1, 1)),
        ("2026-01-02T07:59+00:00", Calendar("America/Los_Angeles"), date(2025, 12, 31)),
        # The clocks went forward on 29 March: that day had 23 hours, and ended at 22:00 UTC.
        ("2026-03-29T21:59+00:00", Calendar("Europe/Paris"), date(2026, 3, 28)),
        ("2026-03-29T22:00+00:00", Calendar("Europe/Paris"), date(2026, 3, 29)),
        # They went back on 25 October: that day had 25 hours, and ended at 23:00 UTC.
        ("2026-10-25T22:59+00:00", Calendar("Europe/Paris"), date(2026, 10, 24)),
        ("2026-01-04T10:00+00:00", Calendar("Pacific/Kiritimati"), date(2026, 1, 4)),
        ("2026-01-05T10:59+00:00", Calendar("Pacific/Pago_Pago"), date(2026, 1, 3)),
        ("2026-01-05T13:00+00:00", Calendar("Pacific/Pago_Pago", 120), date(2026, 1, 4)),
    ],
)
def test_the_last_day_that_is_over(instant: str, calendar: Calendar, day: date) -> None:
    assert to_date(calendar.last_over(datetime.fromisoformat(instant))) == day
