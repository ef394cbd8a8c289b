"""The window of an as-of day: daily statistics folded into one row per unit.

Days fold into calendar months, months into the window, each in order: the same tree whatever was
computed before, so the same bits. A unit belongs to its latest parent from the day it moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.arrays import to_numpy
from hbpipe.data.attributes import look_up
from hbpipe.data.clock import to_date
from hbpipe.data.clusters import NO_CLUSTERS, fold_clusters
from hbpipe.data.dispersion import Days, disperse_by_cluster, disperse_by_day
from hbpipe.data.presence import Presence, count_presence
from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import CLUSTERS
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.units import Units, encode, find_units
from hbpipe.errors import LakeError, StatisticsError

Statistics = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class WindowOrder:
    """What a worker must know to fold one shard.

    ``window`` and ``history`` are the files of the window's days and of the days before it;
    ``listed`` the levels and ``attributes`` of the dimension table's units of this shard.
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
    #: How many clusters there may be for one that is folded: a power of two.
    one_in: int = 1
    #: Columns of ``listed`` that each unit brings along.
    attributes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Folded:
    """One shard of the window: ``keys`` one array (U,) per level, the rest (U, ...).

    ``unusable`` counts, per metric, the units whose statistics cannot be true together (events
    but no exposure) and were set aside. ``dispersion`` holds, per metric, the ``CellSums`` (U,)
    of each unit's days or clusters, None where the family has none. ``attributes`` are those of
    each unit (U,), null where the dimension table does not know it; None where none are needed.
    ``presence`` tells how many units each day has.
    """

    keys: tuple[pa.Array, ...]
    n_events: NDArray[np.int64]
    statistics: dict[str, Statistics]
    unusable: dict[str, int]
    dispersion: dict[str, Any] = field(default_factory=dict)
    attributes: pa.Table | None = None
    presence: Presence | None = None

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
    """Fold one shard of the window; see the module for the order of the sums.

    Raises
    ------
    LakeError
        When some day of the window lacks a metric, or was computed for one with other terms.
    StatisticsError
        When a sum overflows; names the metric.
    """
    lead = order.metrics[0].name  # every metric of a day lists the same units in the same order
    keys = _read(order.window, lead, ["day", *order.levels, "n_events"])
    units, rows, first_seen = _find_units(order, keys)
    n_events = np.zeros(units.n, np.int64)
    np.add.at(n_events, rows.codes, keys.column("n_events").to_numpy())
    since = np.maximum(first_seen, order.first_day)
    days = Days(rows.days, rows.codes, units.n, since, order.first_day, order.as_of)
    statistics, unusable, dispersion = {}, {}, {}
    for metric in order.metrics:
        kinds = metric.model.statistics
        table = _read(order.window, metric.name, [kind.name for kind in kinds])
        _require_rows(order, metric, table.num_rows, keys.num_rows)
        try:
            daily = {kind.name: to_numpy(table.column(kind.name), kind) for kind in kinds}
            folded = _fold_months(metric, daily, rows, units.n)
            dispersion[metric.name] = _disperse(metric, order, daily, folded, days)
        except (LakeError, StatisticsError) as error:
            raise error.at(metric=metric.name) from None
        statistics[metric.name], unusable[metric.name] = _expose(metric, folded, order, since)
    known = _attributes(order, units)
    presence = count_presence(
        rows.days, rows.codes, units.n, first_day=order.first_day, as_of=order.as_of
    )
    return Folded(units.keys, n_events, statistics, unusable, dispersion, known, presence)


def _read(snapshot: Snapshot, metric: str, columns: list[str]) -> pa.Table:
    return snapshot.read(columns=columns, filters=[("metric", "==", metric)])


def _require_rows(order: WindowOrder, metric: Metric, found: int, expected: int) -> None:
    """Refuse days that were computed for other metrics: their units would be mixed up."""
    if found != expected:
        raise LakeError(
            f"metric {metric.name!r} has {found} rows in the window",
            where={"lake": order.window.storage.uri, "table": order.window.name},
            expected=f"{expected}, one for every unit and day that metric "
            f"{order.metrics[0].name!r} has",
            remedy="deliver the events of the days that lack it again, or choose a shorter window",
        )


def _find_units(order: WindowOrder, keys: pa.Table) -> tuple[Units, _Rows, NDArray[np.int64]]:
    """Code the units of window, history and dimension table, and find their first days.

    A unit's parents are the latest: those of the window, else of the dimension table, else of
    the days before. Units come out in the order of their keys.
    """
    past = _past(order)
    listed = past.slice(0, 0) if order.listed is None else order.listed
    everything = pa.concat_tables(
        [table.select(list(order.levels)) for table in (past, listed, keys)]
    )
    days = np.concatenate([_days(past), np.full(listed.num_rows, order.first_day - 1), _days(keys)])
    standing = 2 * days
    standing[past.num_rows : past.num_rows + listed.num_rows] += 1  # after the days before
    units = _identify(order, everything, standing)
    seen = np.ones(len(days), np.bool_)
    seen[past.num_rows : past.num_rows + listed.num_rows] = False
    first_seen = np.full(units.n, order.as_of + 1, np.int64)
    np.minimum.at(first_seen, units.codes[seen], days[seen])
    shown = np.zeros(units.n, np.bool_)
    shown[units.codes[(days >= order.silent_since) | ~seen]] = True
    kept = _sorted(units, np.flatnonzero(shown))
    renumber = np.full(units.n, -1, np.int64)
    renumber[kept] = np.arange(len(kept))
    window = slice(len(days) - keys.num_rows, None)
    rows = _Rows(days[window], renumber[units.codes[window]])
    named = tuple(key.take(pa.array(kept)) for key in units.keys)
    return Units(rows.codes, named), rows, first_seen[kept]


def _days(table: pa.Table) -> NDArray[np.int64]:
    return np.asarray(table.column("day").cast(pa.int32()).to_numpy(), np.int64)


def _past(order: WindowOrder) -> pa.Table:
    """Read day and levels of the units of the days before the window.

    Those days may have been computed for other metrics than today's, and every metric of a file
    lists the same units: the first of its own will do.
    """
    columns = ["day", *order.levels]
    if order.history is None:
        return order.window.select(lambda _: False).read(columns=columns)
    by_lead: dict[str, list[str]] = {}
    for file in order.history.files:
        by_lead.setdefault(file.statistics["metric"][0], []).append(file.path)
    parts = [
        _read(_only(order.history, frozenset(paths)), lead, columns)
        for lead, paths in sorted(by_lead.items())
    ]
    return pa.concat_tables([order.window.select(lambda _: False).read(columns=columns), *parts])


def _only(snapshot: Snapshot, paths: frozenset[str]) -> Snapshot:
    return snapshot.select(lambda file: file.path in paths)


def _identify(order: WindowOrder, everything: pa.Table, standing: NDArray[np.int64]) -> Units:
    """Code the units; where ids are unique, a unit stands under its latest parent.

    ``standing`` (R,) says which rows are later. Of two parents on one latest day the greater in
    the order of names counts: any rule will do that does not depend on the order of files.
    """
    levels = [encode(everything.column(name)) for name in order.levels]
    if order.within_parent or len(levels) == 1:
        return find_units(levels, np.ones(everything.num_rows, np.bool_))
    *above, finest = levels
    parents = find_units(above, np.ones(everything.num_rows, np.bool_))
    order_of = np.empty(parents.n, np.int64)
    by_name = _sorted(parents, np.arange(parents.n))
    order_of[by_name] = np.arange(parents.n)
    latest = np.full(len(finest.values), np.iinfo(np.int64).min)
    np.maximum.at(latest, finest.codes, standing * max(parents.n, 1) + order_of[parents.codes])
    chosen = pa.array(by_name[latest % max(parents.n, 1)] if len(latest) else latest)
    return Units(finest.codes, (*(key.take(chosen) for key in parents.keys), finest.values))


def _sorted(units: Units, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order units by their keys, so that nothing later depends on the order of files."""
    names = [str(level) for level in range(len(units.keys))]
    table = pa.table([key.take(pa.array(chosen)) for key in units.keys], names)
    keys = [(name, "ascending") for name in reversed(names)]
    return np.asarray(chosen[pc.sort_indices(table, sort_keys=keys).to_numpy()])


def _attributes(order: WindowOrder, units: Units) -> pa.Table | None:
    """Bring each unit its row of the dimension table; one that has moved keeps its attributes."""
    if not order.attributes or order.listed is None:
        return None
    first = 0 if order.within_parent else len(order.levels) - 1
    return look_up(units.keys[first:], order.listed, order.levels[first:], order.attributes)


def _fold_months(metric: Metric, daily: Statistics, rows: _Rows, n: int) -> Statistics:
    """Fold each calendar month's days, then the months, in order."""
    family = metric.model
    total = None
    for month in _months(rows.days):
        part = {name: values[month] for name, values in daily.items()}
        folded = family.fold(part, rows.codes[month], n)
        total = folded if total is None else family.combine(total, folded)
    if total is None:
        return family.fold(daily, rows.codes, n)
    return dict(total)


def _disperse(
    metric: Metric, order: WindowOrder, daily: Statistics, folded: Statistics, rows: Days
) -> Any:
    """Compare the days or the clusters of each unit."""
    if not metric.cells.clusters:
        return disperse_by_day(metric, daily, rows)
    clusters = NO_CLUSTERS
    for month in _months(rows.days):
        days = [{"day": to_date(day).isoformat()} for day in np.unique(rows.days[month]).tolist()]
        table = _read(order.window.in_partitions(days), metric.name, list(CLUSTERS))
        clusters = fold_clusters(clusters, table, rows.units[month], order.one_in)
    return disperse_by_cluster(metric, clusters, folded, rows.n_units)


def _months(days: NDArray[np.int64]) -> list[slice]:
    """Return the rows of each calendar month, in order; rows come ordered by day."""
    starts = _starts(days)
    of_day = np.array([_month(day) for day in days[starts]], np.int64)
    begins = starts[np.flatnonzero(np.diff(of_day, prepend=-1))] if len(starts) else starts
    return [slice(*pair) for pair in pairwise([*begins, len(days)])]


def _starts(days: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each day begins; rows come ordered by day."""
    if not len(days):
        return np.empty(0, np.int64)
    return np.flatnonzero(np.diff(days, prepend=days[0] - 1))


def _month(day: int) -> int:
    date = to_date(day)
    return date.year * 12 + date.month


def _expose(
    metric: Metric, folded: Statistics, order: WindowOrder, since: NDArray[np.int64]
) -> tuple[Statistics, int]:
    """Give calendar exposures their days, scale to the reported unit, set aside the impossible."""
    if "exposure" not in folded:
        return folded, 0
    exposure = folded["exposure"].astype(np.float64)
    if metric.calendar == "days":
        exposure = np.maximum(order.as_of - since + 1, 0).astype(np.float64)
    impossible = (exposure <= 0) & (folded["count"] > 0)
    count = np.where(impossible, 0, folded["count"])
    return {**folded, "count": count, "exposure": exposure / metric.per}, int(impossible.sum())
