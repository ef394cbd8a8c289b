"""Complete days: over, past the cut-off, and marked, by the rules of real zones."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hbpipe.config import Settings
from hbpipe.errors import LateError
from hbpipe.run.engine import SerialEngine
from hbpipe.run.plan import Plan, make_plan
from tests.nights import NOW, day, lake_of, night, settings_for, visits, write, write_days

SECOND = timedelta(seconds=1)
LATER = datetime(2027, 1, 1, tzinfo=UTC)


def planned(settings: Settings, now: datetime = NOW, **options: Any) -> Plan:
    return make_plan(settings, lake_of(settings), SerialEngine(), now=now, **options)


def as_of(settings: Settings, now: datetime) -> str:
    return str(planned(settings, now).to_dict()["as_of"])


def local_days(folder: Path, *days: date) -> None:
    """One visit at noon, local time, of each day."""
    for one in days:
        noon = datetime(one.year, one.month, one.day, 12)
        write(folder / "events" / f"{one}.parquet", [{**visits(0)[0], "ts": noon}])


#: Zone, day_start, the day, and the instant at which it is over.
ENDS = [
    ("UTC", "00:00", date(2026, 1, 31), datetime(2026, 2, 1, tzinfo=UTC)),
    ("UTC", "00:00", date(2028, 2, 29), datetime(2028, 3, 1, tzinfo=UTC)),
    # 23 hours: 29 March in Paris begins at 23:00 and ends at 22:00 UTC.
    ("Europe/Paris", "00:00", date(2026, 3, 29), datetime(2026, 3, 29, 22, tzinfo=UTC)),
    # 25 hours: 25 October begins at 22:00 and ends at 23:00 UTC.
    ("Europe/Paris", "00:00", date(2026, 10, 25), datetime(2026, 10, 25, 23, tzinfo=UTC)),
    # Tills that close at 02:30, an hour that the clock skips that night.
    ("Europe/Paris", "02:30", date(2026, 3, 28), datetime(2026, 3, 29, 1, 30, tzinfo=UTC)),
    # ... and one that comes twice: the first time counts.
    ("Europe/Paris", "02:30", date(2026, 10, 24), datetime(2026, 10, 25, 0, 30, tzinfo=UTC)),
    ("America/New_York", "04:00", date(2026, 3, 7), datetime(2026, 3, 8, 8, tzinfo=UTC)),
    ("America/New_York", "04:00", date(2026, 10, 31), datetime(2026, 11, 1, 9, tzinfo=UTC)),
    # Midnight itself is skipped in Havana: the day before ends at one.
    ("America/Havana", "00:00", date(2026, 3, 7), datetime(2026, 3, 8, 5, tzinfo=UTC)),
    # The ends of the world, at a month's end.
    ("Pacific/Kiritimati", "00:00", date(2026, 1, 31), datetime(2026, 1, 31, 10, tzinfo=UTC)),
    ("Etc/GMT+12", "00:00", date(2026, 1, 31), datetime(2026, 2, 1, 12, tzinfo=UTC)),
    ("Asia/Kathmandu", "04:00", date(2026, 12, 31), datetime(2026, 12, 31, 22, 15, tzinfo=UTC)),
]


@pytest.mark.parametrize("after", ["0h", "90m"])
@pytest.mark.parametrize(("zone", "start", "last", "over"), ENDS)
def test_a_day_is_complete_from_the_second_on_that_its_zone_says(
    zone: str, start: str, last: date, over: datetime, after: str, tmp_path: Path
) -> None:
    before = last - timedelta(days=1)
    local_days(tmp_path, before, last)
    events = {"timezone": zone, "day_start": start, "complete_after": after}
    settings = settings_for(tmp_path, events=events)
    complete = over + (timedelta(minutes=90) if after == "90m" else timedelta(0))
    assert as_of(settings, complete) == str(last)
    assert as_of(settings, complete - SECOND) == str(before)
    with pytest.raises(LateError) as caught:
        planned(settings, complete - SECOND, as_of=last)
    assert caught.value.exit_code == 5
    assert complete.isoformat() in str(caught.value)


def test_the_days_around_a_change_of_the_clock_are_each_complete_in_turn(tmp_path: Path) -> None:
    changes = [date(2026, 3, 28) + timedelta(days=k) for k in range(3)]
    local_days(tmp_path, *changes)
    settings = settings_for(tmp_path, events={"timezone": "Europe/Paris"})
    start = datetime(2026, 3, 28, 23, tzinfo=UTC)  # the 28th is over
    found = [as_of(settings, start + timedelta(hours=h)) for h in range(48)]
    assert [found.count(str(one)) for one in changes] == [23, 24, 1]


@pytest.mark.parametrize(
    ("zone", "start", "first", "hours"),
    [
        ("Europe/Paris", "00:00", date(2026, 3, 28), [24, 23, 24]),
        ("Europe/Paris", "04:00", date(2026, 3, 28), [23, 24, 24]),
        ("Europe/Paris", "00:00", date(2026, 10, 24), [24, 25, 24]),
        ("America/New_York", "04:00", date(2026, 10, 31), [25, 24, 24]),
        ("Pacific/Kiritimati", "00:00", date(2026, 1, 30), [24, 24, 24]),
    ],
)
def test_a_visit_every_hour_is_counted_on_its_own_day(
    zone: str, start: str, first: date, hours: list[int], tmp_path: Path
) -> None:
    begin = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(days=2)
    moments = [begin + timedelta(hours=h) for h in range(24 * 8)]
    write(tmp_path / "events" / "a.parquet", [{**visits(0)[0], "ts": one} for one in moments])
    found = planned(settings_for(tmp_path, events={"timezone": zone, "day_start": start}), LATER)
    rows = {one["day"]: one["rows"] for one in found.to_dict()["days"]}
    assert [rows[str(first + timedelta(days=k))] for k in range(3)] == hours


def test_late_files_are_awaited_until_the_cut_off(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    settings = settings_for(tmp_path, events={"complete_after": "6h"})
    now = datetime(2026, 1, 4, 5, tzinfo=UTC)
    found = planned(settings, now)
    assert found.to_dict()["as_of"] == str(day(1))
    then = "expected: a run after 2026-01-04T06:00:00+00:00"
    assert found.notes == (f"late files of {day(2)} are still awaited; {then}",)
    with pytest.raises(LateError, match=f"late files of {day(2)} are still awaited"):
        planned(settings, now, as_of=day(2))
    assert as_of(settings, now + timedelta(hours=1)) == str(day(2))


def mark(settings: Settings, number: int) -> None:
    path = Path(settings.events.path) / "_ready" / str(day(number))
    path.parent.mkdir(exist_ok=True)
    path.touch()


@pytest.fixture
def marked(tmp_path: Path) -> Settings:
    """Three days of events, of which the second is marked."""
    write_days(tmp_path, 3)
    settings = settings_for(tmp_path, events={"ready": "_ready/{day}"})
    mark(settings, 1)
    return settings


def test_at_first_the_latest_day_that_is_marked_is_meant(marked: Settings) -> None:
    found = planned(marked)
    assert found.to_dict()["as_of"] == str(day(1)), "history without markers is no obstacle"
    assert "2026-01-03 is not marked as complete" in found.notes[0]
    assert "_ready/2026-01-03" in found.notes[0]


def test_a_day_that_is_not_marked_is_late_and_says_what_is_awaited(marked: Settings) -> None:
    with pytest.raises(LateError, match=r"not marked.*the file _ready/2026-01-03 below") as caught:
        planned(marked, as_of=day(2))
    assert caught.value.exit_code == 5
    mark(marked, 2)
    assert planned(marked, as_of=day(2)).to_dict()["as_of"] == str(day(2))


def test_after_a_night_every_day_since_must_be_marked(marked: Settings) -> None:
    night(marked)
    write_days(Path(marked.events.path).parent, 2, first=3)
    mark(marked, 3)
    mark(marked, 4)
    found = planned(marked)
    assert found.to_dict()["as_of"] == str(day(1)), "the day between is not there yet"
    assert not found.work
    with pytest.raises(LateError, match=f"the day {day(2)} is not marked"):
        planned(marked, as_of=day(4))
    mark(marked, 2)
    found = planned(marked)
    assert found.to_dict()["as_of"] == str(day(4))
    assert [one["day"] for one in found.to_dict()["days"]] == [str(day(k)) for k in (2, 3, 4)]


def test_a_day_that_was_done_needs_its_marker_no_more(marked: Settings) -> None:
    night(marked)
    (Path(marked.events.path) / "_ready" / str(day(1))).unlink()
    assert planned(marked, as_of=day(1)).to_dict()["as_of"] == str(day(1))
    assert planned(marked, as_of=day(0)).to_dict()["as_of"] == str(day(0))


def test_where_no_day_is_marked_the_first_is_awaited(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    settings = settings_for(tmp_path, events={"ready": "{day}/_SUCCESS"})
    with pytest.raises(LateError, match=r"no day of events is complete.*2026-01-01/_SUCCESS"):
        planned(settings)


def test_a_marker_does_not_make_a_day_over(marked: Settings) -> None:
    noon = datetime(2026, 1, 2, 12, tzinfo=UTC)
    with pytest.raises(LateError, match=f"the day {day(1)} is not over"):
        planned(marked, noon, as_of=day(1))
