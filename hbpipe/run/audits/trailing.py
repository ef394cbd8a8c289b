"""What is usual: a day's number beside those of comparable days before it.

Days of the same weekday are compared where there are enough of them, else all days. The limits
that the settings give are widened where the days before have varied more: to four times their
spread (1.4826 times the median absolute deviation, which is the sd of a normal distribution) and
the noise of counts that vary as Poisson's do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from hbpipe.run.audits.checks import Check, banded

#: As many days of one weekday, or else of any, are a history.
_WEEKDAYS, _DAYS = 4, 7
_SPREADS = 4.0
#: How much weekdays differ at least, as the sd of a log, where they cannot be told apart yet.
_OF_WEEKDAYS = 0.25
#: A smaller share is never unusual.
_LEAST_SHARE = 0.01

Limits = tuple[float | None, float | None]


@dataclass(frozen=True)
class Comparable:
    """The numbers of some earlier days."""

    values: np.ndarray
    weekday: bool

    @property
    def told(self) -> str:
        """Say what was compared."""
        return f"{len(self.values)} earlier {'same weekdays' if self.weekday else 'days'}"


def comparable(values: Mapping[int, float], day: int, history: int) -> Comparable | None:
    """Choose the days that a day is compared with; None where there are too few."""
    before = [d for d in sorted(values) if day - history <= d < day]
    alike = [d for d in before if (day - d) % 7 == 0]
    chosen = alike if len(alike) >= _WEEKDAYS else before
    if len(chosen) < _DAYS and chosen is before:
        return None
    return Comparable(np.array([values[d] for d in chosen], np.float64), chosen is alike)


def check_count(
    name: str,
    subject: str,
    count: float,
    found: Comparable | None,
    limits: Limits,
    what: str,
) -> list[Check]:
    """Check how many times a number differs from the median of comparable days.

    A day whose comparable days mostly have nothing is never worse than a warning: it may be the
    first Sunday on which the stores are open.
    """
    if found is None:
        story = f"{count:,.0f} {what}; too few days before it to compare with"
        return banded("data", name, subject, 1.0, limits, story)
    median = float(np.median(found.values))
    ratio = (max(count, median) + 1.0) / (min(count, median) + 1.0)
    spreads = (
        _spread(np.log1p(found.values)),
        _noise(median),
        0 if found.weekday else _OF_WEEKDAYS,
    )
    usual = float(np.exp(_SPREADS * np.linalg.norm(spreads)))
    story = f"{count:,.0f} {what}, the median of {found.told} is {median:,.0f}"
    if median == 0:
        limits = (limits[1] if limits[0] is None else limits[0], None)
    return banded("data", name, subject, ratio, _widened(limits, usual), story)


def check_rise(
    gate: str,
    name: str,
    subject: str,
    part: float,
    whole: float,
    found: Comparable | None,
    limits: Limits,
    what: str,
) -> list[Check]:
    """Check how far a share is above that of comparable days; the limits are times their median.

    Of a share that is not small its odds are meant: no share is above 1.
    """
    share = part / max(whole, 1)
    if found is None:
        story = f"{share:.2%} {what}; too few days before it to compare with"
        shown: Limits = (1.0 if limits[0] else None, 1.0 if limits[1] else None)
        return banded(gate, name, subject, share, shown, story)
    median = float(np.median(found.values))
    chance = np.sqrt(max(median, _LEAST_SHARE) / max(whole, 1))
    usual = median + _SPREADS * float(np.hypot(_spread(found.values), chance))
    warn, fail = (None if times is None else _risen(median, times) for times in limits)
    story = f"{share:.2%} {what}, the median of {found.told} is {median:.2%}"
    return banded(gate, name, subject, share, _widened((warn, fail), usual), story)


def _risen(share: float, times: float) -> float:
    odds = times * share / max(1.0 - share, 1e-9)
    return max(odds / (1.0 + odds), _LEAST_SHARE)


def _widened(limits: Limits, usual: float) -> Limits:
    warn, fail = (None if limit is None else max(limit, usual) for limit in limits)
    return warn, fail


def _spread(values: np.ndarray) -> float:
    return 1.4826 * float(np.median(np.abs(values - np.median(values))))


def _noise(count: float) -> float:
    """Return the sd of the log of a count that varies as Poisson's does."""
    return float(1.0 / np.sqrt(count + 1.0))
