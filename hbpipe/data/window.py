"""The window of an as-of day: daily statistics folded into one row per unit.

Days fold into calendar months, months into the window, each in order: the same tree whatever was
computed before, so the same bits. A unit belongs to its latest parent from the day it moves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.clock import to_date
from hbpipe.data.quantities import Metric
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.units import Units, encode, find_units
from hbpipe.model.families import get_family

Statistics = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class WindowOrder:
    """What a worker must know to fold one shard.

    ``window`` and ``history`` are the files of the window's days and of the days before it;
    ``listed`` the level columns of the dimension table's units of this shard.
    """

    metrics: tuple[Metric, ...]
    levels: tuple[str, ...]
    window: Snapshot
    history: Snapshot | None
    listed: pa.Table | None
    within_parent: bool
    first_day: int
    as_of: int
    #: A unit without events in the window is listed when it was seen on this day or later.
    silent_since: int


@dataclass(frozen=True)
class Folded:
    """One shard of the window: ``keys`` one array (U,) per level, the rest (U, ...).

    ``unusable`` counts, per metric, the units whose statistics cannot be true together (events
    but no exposure) and were set aside.
    """

    keys: tuple[pa.Array, ...]
    n_events: NDArray[np.int64]
    statistics: dict[str, Statistics]
    unusable: dict[str, int]

    @property
    def n(self) -> int:
        """Return the number of units."""
        return len(self.n_events)


@dataclass(frozen=True)
class _Rows:
    """Rows of days: day (R,), unit code (R,)."""

    days: NDArray[np.int64]
    codes: NDArray[np.int64]


def fold_window(order: WindowOrder) -> Folded:
    """Fold one shard of the window; see the module for the order of the sums."""
    lead = order.metrics[0].name  # every metric of a day lists the same units in the same order
    keys = _read(order.window, lead, ["day", *order.levels, "n_events"])
    units, rows, first_seen = _find_units(order, keys)
    n_events = np.zeros(units.n, np.int64)
    np.add.at(n_events, rows.codes, keys.column("n_events").to_numpy())
    statistics, unusable = {}, {}
    for metric in order.metrics:
        names = [statistic.name for statistic in get_family(metric.family).statistics]
        table = _read(order.window, metric.name, names)
        daily = {name: table.column(name).to_numpy() for name in names}
        folded = _fold_months(metric, daily, rows, units.n)
        statistics[metric.name], unusable[metric.name] = _expose(metric, folded, order, first_seen)
    return Folded(units.keys, n_events, statistics, unusable)


def _read(snapshot: Snapshot, metric: str, columns: list[str]) -> pa.Table:
    return snapshot.read(columns=columns, filters=[("metric", "==", metric)])


def _find_units(order: WindowOrder, keys: pa.Table) -> tuple[Units, _Rows, NDArray[np.int64]]:
    """Code the units of window, history and dimension table, and find their first days.

    Later rows decide a unit's parents: history, then the dimension table, then the window.
    """
    past = _past(order)
    tables = [past.select(list(order.levels))]
    if order.listed is not None:
        tables.append(order.listed)
    tables.append(keys.select(list(order.levels)))
    everything = pa.concat_tables(tables)
    units = _identify(order, everything)
    days = np.concatenate(
        [
            past.column("day").cast(pa.int32()).to_numpy(),
            np.full(everything.num_rows - past.num_rows - keys.num_rows, order.as_of),
            keys.column("day").cast(pa.int32()).to_numpy(),
        ]
    ).astype(np.int64)
    first_seen = np.full(units.n, order.as_of + 1, np.int64)
    dated = np.ones(len(days), np.bool_)
    dated[past.num_rows : len(days) - keys.num_rows] = False  # listed, but never seen
    np.minimum.at(first_seen, units.codes[dated], days[dated])
    shown = np.zeros(units.n, np.bool_)
    shown[units.codes[days >= order.silent_since]] = True
    renumber = np.cumsum(shown) - 1
    kept = pa.array(np.flatnonzero(shown))
    window = units.codes[len(days) - keys.num_rows :]
    rows = _Rows(days[len(days) - keys.num_rows :], renumber[window])
    named = Units(rows.codes, tuple(key.take(kept) for key in units.keys))
    return named, rows, first_seen[shown]


def _past(order: WindowOrder) -> pa.Table:
    columns = ["day", *order.levels]
    if order.history is None:
        return order.window.select(lambda _: False).read(columns=columns)
    return _read(order.history, order.metrics[0].name, columns)


def _identify(order: WindowOrder, everything: pa.Table) -> Units:
    levels = [encode(everything.column(name)) for name in order.levels]
    if order.within_parent:
        return find_units(levels, np.ones(everything.num_rows, np.bool_))
    finest = levels[-1]
    keys = []
    for level in levels[:-1]:
        latest = np.zeros(len(finest.values), np.int64)
        latest[finest.codes] = level.codes  # the last write wins: the latest parent
        keys.append(level.values.take(pa.array(latest)))
    return Units(finest.codes, (*keys, finest.values))


def _fold_months(metric: Metric, daily: Statistics, rows: _Rows, n: int) -> Statistics:
    """Fold each calendar month's days, then the months, in order."""
    family = get_family(metric.family)
    months = np.array([_month(day) for day in rows.days[_starts(rows.days)]], np.int64)
    of_row = np.repeat(months, np.diff([*_starts(rows.days), len(rows.days)]))
    total = None
    for month in np.unique(of_row):
        at = np.flatnonzero(of_row == month)
        part = {name: values[at[0] : at[-1] + 1] for name, values in daily.items()}
        folded = family.fold(part, rows.codes[at[0] : at[-1] + 1], n)
        total = folded if total is None else family.combine(total, folded)
    if total is None:
        return family.fold(daily, rows.codes, n)
    return dict(total)


def _starts(days: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each day begins; rows come ordered by day."""
    if not len(days):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.diff(days, prepend=days[0] - 1))


def _month(day: int) -> int:
    date = to_date(day)
    return date.year * 12 + date.month


def _expose(
    metric: Metric, folded: Statistics, order: WindowOrder, first_seen: NDArray[np.int64]
) -> tuple[Statistics, int]:
    """Give calendar exposures their days, scale to the reported unit, set aside the impossible."""
    if "exposure" not in folded:
        return folded, 0
    exposure = folded["exposure"].astype(np.float64)
    if metric.calendar == "days":
        since = np.maximum(first_seen, order.first_day)
        exposure = np.maximum(order.as_of - since + 1, 0).astype(np.float64)
    impossible = (exposure <= 0) & (folded["count"] > 0)
    count = np.where(impossible, 0, folded["count"])
    return {**folded, "count": count, "exposure": exposure / metric.per}, int(impossible.sum())
