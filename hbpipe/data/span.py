"""Consecutive days of daily statistics folded into one row per unit.

A window is cut into spans: its calendar months, whole ones and the parts at its ends, where it
holds a whole month; else it is one span. The cut depends on the window's ends alone. A span of a
whole month comes out the same whatever window it lies in, so it can be kept (``rollup``).
"""

from __future__ import annotations

import calendar
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.arrays import to_numpy
from hbpipe.data.clock import to_date, to_number
from hbpipe.data.clusters import NO_CLUSTERS, Clusters, fold_clusters
from hbpipe.data.dispersion import FOUR_WEEKS, MONTH, Cells, Days, disperse_by_day
from hbpipe.data.quantities import Metric
from hbpipe.data.recent import Apart, fold_apart
from hbpipe.data.row_groups import RowGroups
from hbpipe.data.schemas import CLUSTERS
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.standing import identify, numbers, read_metric, read_units
from hbpipe.data.units import Units
from hbpipe.errors import LakeError, StatisticsError

Statistics = dict[str, NDArray[Any]]
#: Days that hold two of each weekday.
_TWO_WEEKS = 14


@dataclass(frozen=True)
class SpanOrder:
    """Which days to fold, and how.

    ``days`` are the files of the days; ``block`` as of ``dispersion.Days``; ``one_in`` says how
    many clusters there may be for one that is folded; ``apart`` whether the last day is wanted by
    itself too. Without ``metrics`` units alone are found.
    """

    metrics: tuple[Metric, ...]
    levels: tuple[str, ...]
    days: Snapshot
    within_parent: bool
    first_day: int
    last_day: int
    block: int | None
    one_in: int = 1
    apart: bool = False


@dataclass(frozen=True)
class Span:
    """Consecutive days folded: one row per unit that has events, (U,) or (U, ...) each.

    ``keys`` are one array per level: the parents are those of the unit's last day. Bit k of
    ``days_seen`` says that the unit has events on day ``first_day + k``. ``cells`` are, by metric,
    the ``Cells`` of its days or its ``Clusters``, None where there are none. ``moved`` says that
    some unit has stood under another parent too. ``apart`` has the last day by itself, by metric.
    """

    first_day: int
    last_day: int
    keys: tuple[pa.Array, ...]
    first_seen: NDArray[np.int64]
    last_seen: NDArray[np.int64]
    days_seen: NDArray[np.int64]
    n_events: NDArray[np.int64]
    statistics: dict[str, Statistics]
    cells: dict[str, Cells | Clusters | None]
    moved: bool = False
    apart: dict[str, Apart] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Return the number of units."""
        return len(self.n_events)

    def rows(
        self, codes: NDArray[np.int64], since: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return day and unit of each day with events from ``since`` on; ``codes`` (U,) number."""
        days = range(max(since, self.first_day), self.last_day + 1)
        seen = [codes[(self.days_seen >> (day - self.first_day)) & 1 == 1] for day in days]
        if not seen:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        return np.repeat(list(days), [len(one) for one in seen]), np.concatenate(seen)


def month_of(day: int) -> tuple[int, int]:
    """Return the first and the last day of the calendar month of a day."""
    at = to_date(day)
    length = calendar.monthrange(at.year, at.month)[1]
    first = to_number(date(at.year, at.month, 1))
    return first, first + length - 1


def cut(first_day: int, last_day: int) -> tuple[list[tuple[int, int]], int | None]:
    """Cut a window into spans: first and last day of each, and the block of their dispersion."""
    months, day = [], first_day
    while day <= last_day:
        begin, end = month_of(day)
        months.append((max(begin, first_day), min(end, last_day)))
        day = end + 1
    if any(month == month_of(month[0]) for month in months):
        return months, MONTH
    # At most two parts of months: no more days than ``days_seen`` has bits.
    long = last_day - first_day + 1 >= _TWO_WEEKS
    return [(first_day, last_day)], FOUR_WEEKS if long else None


def fold_days(order: SpanOrder) -> Span:
    """Fold days in their order; those of each calendar month first, then the months.

    Raises
    ------
    LakeError
        When some day lacks a metric, or was computed for one with other terms.
    StatisticsError
        When a sum overflows; names the metric.
    """
    source = RowGroups(order.days, "metric")
    keys = _read_keys(order, source)
    days = numbers(keys.column("day"))
    units, moved = identify(
        keys.select(list(order.levels)), days, within_parent=order.within_parent
    )
    n_events = np.zeros(units.n, np.int64)
    np.add.at(n_events, units.codes, keys.column("n_events").to_numpy())
    del keys  # the text of every row, which nothing below looks at
    starts = _starts(days)
    first, last, seen = _seen(order, days, starts, units)
    months = _months(days, starts)
    rows = Days(days, units.codes, units.n, first, order.first_day, order.last_day, order.block)
    statistics: dict[str, Statistics] = {}
    cells: dict[str, Cells | Clusters | None] = {}
    apart: dict[str, Apart] = {}
    for metric in order.metrics:
        try:
            daily = _read_daily(order, source, metric, len(days))
            statistics[metric.name], head = _fold_months(metric, daily, rows, months)
            if order.apart and not metric.terms:
                whole = statistics[metric.name]
                apart[metric.name] = fold_apart(metric, daily, rows, months, whole, head)
            if metric.cells.clusters:
                cells[metric.name] = _fold_clusters(metric, order, rows, months)
            else:
                cells[metric.name] = disperse_by_day(metric, daily, rows)
        except (LakeError, StatisticsError) as error:
            raise error.at(metric=metric.name) from None
    return Span(
        order.first_day,
        order.last_day,
        units.keys,
        first,
        last,
        seen,
        n_events,
        statistics,
        cells,
        moved,
        apart,
    )


def _read_keys(order: SpanOrder, source: RowGroups) -> pa.Table:
    """Read day, levels and events of each row, ordered by day."""
    columns = ["day", *order.levels, "n_events"]
    if order.metrics:
        # Every metric of a day lists the same units in the same order.
        return source.read(order.metrics[0].name, columns)
    return read_units(order.days, columns).sort_by("day")


def _read_daily(order: SpanOrder, source: RowGroups, metric: Metric, expected: int) -> Statistics:
    """Read the daily statistics of a metric; refuse days that were computed without it."""
    kinds = metric.measured.statistics
    table = source.read(metric.name, [kind.name for kind in kinds])
    if table.num_rows != expected:  # units would be mixed up
        raise LakeError(
            f"metric {metric.name!r} has {table.num_rows} rows in the window",
            where={"lake": order.days.storage.uri, "table": order.days.name},
            expected=f"{expected}, one for every unit and day that metric "
            f"{order.metrics[0].name!r} has",
            remedy="deliver the events of the days that lack it again, or choose a shorter window",
        )
    return {kind.name: to_numpy(table.column(kind.name), kind) for kind in kinds}


def _seen(
    order: SpanOrder, days: NDArray[np.int64], starts: NDArray[np.int64], units: Units
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return each unit's first and last day, and the days between as bits, (U,) each."""
    first, last, seen = (np.zeros(units.n, np.int64) for _ in range(3))
    for begin, end in pairwise([*starts, len(days)]):
        day, mine = int(days[begin]), units.codes[begin:end]
        first[mine[seen[mine] == 0]] = day
        last[mine] = day
        seen[mine] |= 1 << (day - order.first_day)
    return first, last, seen


def _fold_months(
    metric: Metric, daily: Statistics, rows: Days, months: Sequence[slice]
) -> tuple[Statistics, Statistics | None]:
    """Fold each calendar month's days, then the months, in order.

    Returns
    -------
    All months, and all but the last, None without any.
    """
    family = metric.measured
    total, head = None, None
    for month in months:
        head = total
        part = {name: values[month] for name, values in daily.items()}
        folded = family.fold(part, rows.units[month], rows.n_units)
        total = folded if total is None else family.combine(total, folded)
    if total is None:
        return family.fold(daily, rows.units, rows.n_units), None
    return dict(total), head


def _fold_clusters(
    metric: Metric, order: SpanOrder, rows: Days, months: Sequence[slice]
) -> Clusters:
    """Fold the clusters of each calendar month's days, then the months, in order."""
    clusters = NO_CLUSTERS
    for month in months:
        days = [{"day": to_date(day).isoformat()} for day in np.unique(rows.days[month]).tolist()]
        table = read_metric(order.days.in_partitions(days), metric.name, list(CLUSTERS))
        clusters = fold_clusters(clusters, table, rows.units[month], order.one_in)
    return clusters


def _months(days: NDArray[np.int64], starts: NDArray[np.int64]) -> list[slice]:
    """Return the rows of each calendar month, in order; rows come ordered by day."""
    of_day = np.array([month_of(day)[0] for day in days[starts].tolist()], np.int64)
    begins = starts[np.flatnonzero(np.diff(of_day, prepend=-1))] if len(starts) else starts
    return [slice(*pair) for pair in pairwise([*begins, len(days)])]


def _starts(days: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each day begins; rows come ordered by day."""
    if not len(days):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.diff(days, prepend=days[0] - 1))
