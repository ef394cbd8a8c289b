"""The last day of a window apart from the days before it, and how long its units are known.

Nothing is taken off a mean or a sum of floats: what the window is without its last day is folded
without it. Counts are whole numbers, whose differences are exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.dispersion import Days
from hbpipe.data.quantities import Metric

Statistics = dict[str, NDArray[Any]]

#: A unit is new for so many days.
NEW_FOR = 7


@dataclass(frozen=True)
class Apart:
    """The last day of some days by itself, and the ``rest`` of them: name -> (U, ...)."""

    day: Statistics
    rest: Statistics


@dataclass(frozen=True)
class Recent:
    """What the last days tell of the units of a window.

    Parameters
    ----------
    days
        (U,) calendar days of the window from a unit's first day on; 0 where it was never seen.
    is_new
        (U,) whether its first events are of the last seven days; None where the window, and what
        is known of the days before, is no longer than that.
    apart
        By metric, but for those of several terms.
    """

    days: NDArray[np.int64]
    is_new: NDArray[np.bool_] | None
    apart: dict[str, Apart] = field(default_factory=dict)


def fold_apart(
    metric: Metric,
    daily: Statistics,
    rows: Days,
    months: Sequence[slice],
    whole: Statistics,
    head: Statistics | None,
) -> Apart:
    """Fold the last day of consecutive days, and what they are without it.

    Parameters
    ----------
    daily, rows
        Statistics of each row, and their days and units, ordered by day.
    months
        The rows of each calendar month.
    whole, head
        All months folded, and all but the last; no ``head`` where there is one at most.
    """
    family = metric.measured
    begin = int(np.searchsorted(rows.days, rows.last_day))

    def folded(some: slice) -> Statistics:
        part = {name: values[some] for name, values in daily.items()}
        return family.fold(part, rows.units[some], rows.n_units)

    day = folded(slice(begin, None))
    if _counts_alone(metric):
        return Apart(day, {name: values - day[name] for name, values in whole.items()})
    rest = folded(slice(months[-1].start if months else 0, begin))
    return Apart(day, rest if head is None else family.combine(head, rest))


def _counts_alone(metric: Metric) -> bool:
    return all(
        kind.merge == "sum" and (kind.dtype == "int64" or metric.calendar is not None)
        for kind in metric.measured.statistics
    )
