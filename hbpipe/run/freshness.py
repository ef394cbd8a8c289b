"""Freshness: how old what readers see is, told from the lake alone.

Neither events nor Prefect are asked, so it can be watched from anywhere that reads the lake, and
while they are down. What counts is the as-of day that readers see: a backfill of older days, or a
night that a pin hides, does not make it younger.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.clock import Calendar, to_date, to_number
from hbpipe.data.lake import Lake
from hbpipe.run.history import History, read_history
from hbpipe.run.pointers import Pointer
from hbpipe.run.stock import calendar_of


@dataclass(frozen=True)
class Freshness:
    """What readers of one environment see, and how old it is.

    ``expected`` is the latest business day that should be there: that is over, and whose late
    files are awaited no longer (``events.complete_after``). ``overdue`` is the time since its end;
    ``age`` is the time since the end of the as-of day that readers see. The fields of a release
    are None in an environment that has none, which is late.
    """

    environment: str
    release: str | None
    as_of: date | None
    released_at: datetime | None
    pin: Pointer | None
    expected: date
    overdue: timedelta
    age: timedelta | None
    late: bool

    @property
    def behind(self) -> int | None:
        """Business days between what readers see and what should be there."""
        return None if self.as_of is None else max((self.expected - self.as_of).days, 0)

    def to_dict(self) -> dict[str, Any]:
        """Describe it for ``--json``; ages in hours."""
        return {
            "environment": self.environment,
            "late": self.late,
            "release": self.release,
            "as_of": None if self.as_of is None else self.as_of.isoformat(),
            "released_at": None if self.released_at is None else self.released_at.isoformat(),
            "age_hours": None if self.age is None else _hours(self.age),
            "behind_days": self.behind,
            "expected": self.expected.isoformat(),
            "expected_age_hours": _hours(self.overdue),
            "pinned": None if self.pin is None else self.pin.to_dict(),
        }


def freshness(
    lake: Lake,
    settings: Settings,
    *,
    max_age: timedelta | None = None,
    now: datetime | None = None,
) -> list[Freshness]:
    """Tell the freshness of every environment of a lake, that of the settings first.

    Parameters
    ----------
    settings
        Give the calendar, the environment and ``audits.max_age``; no events are read.
    max_age
        An environment is late when the as-of day that its readers see ended longer ago; by default
        ``audits.max_age``.
    now
        The moment, aware; by default the present.

    Raises
    ------
    LakeError
        When the lake cannot be read.
    """
    history, moment = read_history(lake), now or datetime.now(UTC)
    own = settings.environment
    limit = settings.audits.max_age if max_age is None else max_age
    names = [own, *(name for name in history.environments if name != own)]
    calendar = calendar_of(settings)
    expected = calendar.last_over(moment - settings.events.complete_after)
    return [_freshness(history, name, calendar, expected, limit, moment) for name in names]


def freshness_rows(found: Iterable[Freshness]) -> list[dict[str, Any]]:
    """Give a row for each environment, for a table of text."""
    return [
        {
            "environment": one.environment,
            "state": "late" if one.late else "fresh",
            "release": one.release or "none",
            "as of": one.as_of,
            "released at": one.released_at and f"{one.released_at:%Y-%m-%d %H:%M} UTC",
            "age": one.age and f"{_hours(one.age):.1f} h",
            "days behind": one.behind,
            "pinned by": one.pin and one.pin.by,
        }
        for one in found
    ]


def _freshness(
    history: History,
    environment: str,
    calendar: Calendar,
    expected: int,
    limit: timedelta,
    now: datetime,
) -> Freshness:
    row = history.current(environment)
    age = None if row is None else now - calendar.end_of(to_number(row["as_of"]))
    return Freshness(
        environment=environment,
        release=None if row is None else row["release"],
        as_of=None if row is None else row["as_of"],
        released_at=None if row is None else row["released_at"],
        pin=history.pin(environment),
        expected=to_date(expected),
        overdue=now - calendar.end_of(expected),
        age=age,
        late=age is None or age > limit,
    )


def _hours(age: timedelta) -> float:
    return round(age.total_seconds() / 3600, 2)
