"""Which units come and go from day to day, counted where a window is folded.

A unit is *known* on a day when it had events within the week before, whatever its weekday; it has
*vanished* when it is known and has none on the day, and is *new* when it has some and is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]

#: How many days before a day make its units known.
WEEK = 7
#: How many days are counted, the last day included.
_DAYS = 36


@dataclass(frozen=True)
class Presence:
    """Numbers of units on the days (D,) up to ``as_of``, each with the whole week before it."""

    days: Counts
    known: Counts
    seen: Counts
    vanished: Counts
    new: Counts

    @classmethod
    def added(cls, parts: Sequence[Presence]) -> Presence:
        """Add up the counts of disjoint units of the same days."""
        names = ("known", "seen", "vanished", "new")
        sums = {name: np.sum([getattr(part, name) for part in parts], axis=0) for name in names}
        return cls(parts[0].days, **sums)


def earliest_day(as_of: int) -> int:
    """Return the first day whose units count for anything."""
    return as_of - _DAYS + 1 - WEEK


def count_presence(
    days: Counts, codes: Counts, n_units: int, *, first_day: int, as_of: int
) -> Presence:
    """Count the units of each day: one pass over rows, and one over units a day.

    Parameters
    ----------
    days, codes
        Day and unit of each row (R,), ordered by day.
    n_units
        How many units there are.
    first_day, as_of
        The first and the last day of the rows.

    Returns
    -------
    Presence
        Of no days where there are not more than a week of them.
    """
    counted = range(max(first_day + WEEK, as_of - _DAYS + 1), as_of + 1)
    last = np.full(n_units, np.iinfo(np.int64).min)
    table = np.zeros((4, len(counted)), np.int64)
    for day in range(max(first_day, counted.start - WEEK), as_of + 1):
        begin, end = np.searchsorted(days, [day, day + 1])
        known = last >= day - WEEK
        last[codes[begin:end]] = day
        if day >= counted.start:
            seen = last == day
            both = int(np.sum(known & seen))
            n_known, n_seen = int(known.sum()), int(seen.sum())
            table[:, day - counted.start] = n_known, n_seen, n_known - both, n_seen - both
    return Presence(np.array(counted, np.int64), *table)
