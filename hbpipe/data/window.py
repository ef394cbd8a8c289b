"""The window of an as-of day: daily statistics folded into one row per unit.

Days fold into spans, spans into the window, each in order: the same tree whatever was computed
before, so the same bits, whether a span was rolled up earlier or is folded now. A unit belongs to
its latest parent from the day it moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.attributes import look_up
from hbpipe.data.clock import to_date
from hbpipe.data.clusters import NO_CLUSTERS, Clusters, merge_clusters, sampled
from hbpipe.data.decayed import with_decay
from hbpipe.data.dispersion import Cells, disperse_by_cluster
from hbpipe.data.listed import find_units
from hbpipe.data.presence import Presence, count_presence, earliest_day
from hbpipe.data.quantities import Metric
from hbpipe.data.recent import NEW_FOR, Apart, Recent
from hbpipe.data.rollup import read_month
from hbpipe.data.sampled import usable, with_effective_sizes
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.span import Span, SpanOrder, Statistics, cut, fold_days
from hbpipe.data.units import Units
from hbpipe.errors import StatisticsError
from hbpipe.model.dispersion import CellSums


@dataclass(frozen=True)
class WindowOrder:
    """What a worker must know to fold one shard.

    ``window`` and ``history`` are the files of the window's days and of the days before it, but
    for the whole months of either that ``months`` holds; ``by_day`` are all files of the window's
    days, where some metric wants its days one by one; ``listed`` the levels and ``attributes`` of
    the dimension table's units of this shard.
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
    months: Snapshot | None = None
    by_day: Snapshot | None = None


@dataclass(frozen=True)
class Folded:
    """One shard of the window: ``keys`` one array (U,) per level, the rest (U, ...).

    ``unusable`` counts, per metric, the units whose statistics cannot be true together (events
    but no exposure) and were set aside. ``dispersion`` holds, per metric, the ``CellSums`` (U,)
    of each unit's days or clusters, None where the family has none. ``attributes`` are those of
    each unit (U,), null where the dimension table does not know it; None where none are needed.
    ``presence`` tells how many units each day has, ``recent`` what the last days tell of the units.

    ``statistics`` are what units are updated with. Of metrics with a decay, ``for_fit`` has what
    hyperparameters are fitted to; of these and those of a sample, ``counted`` what all days hold.
    ``arms`` are filled where effects of experiments were made: by metric and arm its size, (U,).
    """

    keys: tuple[pa.Array, ...]
    n_events: NDArray[np.int64]
    statistics: dict[str, Statistics]
    unusable: dict[str, int]
    dispersion: dict[str, Any] = field(default_factory=dict)
    attributes: pa.Table | None = None
    presence: Presence | None = None
    recent: Recent | None = None
    for_fit: dict[str, Statistics] = field(default_factory=dict)
    counted: dict[str, Statistics] = field(default_factory=dict)
    arms: dict[str, dict[str, NDArray[np.int64]]] = field(default_factory=dict)

    def fitted(self, metric: str) -> Statistics:
        """Return what the hyperparameters of a metric are fitted to."""
        return self.for_fit.get(metric, self.statistics[metric])

    def whole(self, metric: str) -> Statistics:
        """Return what all days of the window hold of a metric."""
        return self.counted.get(metric, self.statistics[metric])

    @property
    def n(self) -> int:
        """Return the number of units."""
        return len(self.n_events)


@dataclass(frozen=True)
class _Placed:
    """The spans of a window, and the number of each one's units among all: (U,) of each span.

    ``new`` (U,) tells of each span's units which have their first day in it.
    """

    spans: Sequence[Span]
    codes: Sequence[NDArray[np.int64]]
    new: Sequence[NDArray[np.bool_]]
    n: int


def fold_window(order: WindowOrder) -> Folded:
    """Fold one shard of the window; see the module for the order of the sums.

    Raises
    ------
    LakeError
        When some day of the window lacks a metric, or was computed for one with other terms.
    StatisticsError
        When a sum overflows; names the metric.
    """
    spans = _spans(order)
    units, codes, first_seen = find_units(order, spans)
    new = [first_seen[at] > span.first_day for span, at in zip(spans, codes, strict=True)]
    placed = _Placed(spans, codes, new, units.n)
    n_events = np.zeros(units.n, np.int64)
    for span, at in zip(spans, codes, strict=True):
        n_events[at] += span.n_events
    since = np.maximum(first_seen, order.first_day)
    statistics, unusable, dispersion, apart = {}, {}, {}, {}
    for metric in order.metrics:
        try:
            folded = _combine(metric, placed)
            dispersion[metric.name] = _disperse(metric, order, placed, folded)
            if not metric.terms:
                apart[metric.name] = _apart(metric, order, placed, since)
        except StatisticsError as error:
            raise error.at(metric=metric.name) from None
        statistics[metric.name], unusable[metric.name] = _expose(metric, folded, order, since)
    known, presence = _attributes(order, units), _presence(order, placed)
    recent = Recent(np.maximum(order.as_of - since + 1, 0), _is_new(order, first_seen), apart)
    shard = Folded(units.keys, n_events, statistics, unusable, dispersion, known, presence, recent)
    return with_effective_sizes(with_decay(shard, order, since), order.metrics)


def _spans(order: WindowOrder) -> list[Span]:
    """Read the spans that are rolled up, fold the others; without those that have no days."""
    bounds, block = cut(order.first_day, order.as_of)
    found = []
    for first, last in bounds:
        month = _between(order.months, "month", first, first)
        days = _between(order.window, "day", first, last)
        if month is not None and month.files:
            found.append(read_month(month, order.metrics, order.levels, first))
        elif days is not None and days.files:
            found.append(
                fold_days(
                    SpanOrder(
                        metrics=order.metrics,
                        levels=order.levels,
                        days=days,
                        within_parent=order.within_parent,
                        first_day=first,
                        last_day=last,
                        block=block,
                        one_in=order.one_in,
                        apart=last == order.as_of,
                    )
                )
            )
    return found


def _between(snapshot: Snapshot | None, column: str, first: int, last: int) -> Snapshot | None:
    """Narrow a snapshot to the partitions of some days, both ends included."""
    if snapshot is None:
        return None
    least, greatest = to_date(first).isoformat(), to_date(last).isoformat()
    return snapshot.select(lambda file: least <= file.partition[column] <= greatest)


def _attributes(order: WindowOrder, units: Units) -> pa.Table | None:
    """Bring each unit its row of the dimension table; one that has moved keeps its attributes."""
    if not order.attributes or order.listed is None:
        return None
    first = 0 if order.within_parent else len(order.levels) - 1
    return look_up(units.keys[first:], order.listed, order.levels[first:], order.attributes)


def _combine(metric: Metric, placed: _Placed) -> Statistics:
    """Combine the statistics of the spans, in order."""
    family, total = metric.measured, None
    for span, at in zip(placed.spans, placed.codes, strict=True):
        whole = _spread(metric, span.statistics[metric.name], at, placed.n)
        total = whole if total is None else family.combine(total, whole)
    return _spread(metric, {}, np.empty(0, np.int64), placed.n) if total is None else total


def _spread(metric: Metric, part: Statistics, at: NDArray[np.int64], n: int) -> Statistics:
    """Place the statistics of some units among all; the others have none."""
    whole = {}
    for kind in metric.measured.statistics:
        whole[kind.name] = np.full((n, *kind.shape), kind.absent, kind.dtype)
        if part:
            whole[kind.name][at] = part[kind.name]
    return whole


def _disperse(metric: Metric, order: WindowOrder, placed: _Placed, folded: Statistics) -> Any:
    """Add up the days or the clusters of each unit over the spans, in order."""
    if metric.cells.clusters:
        clusters = NO_CLUSTERS
        for span, at in zip(placed.spans, placed.codes, strict=True):
            mine = span.cells[metric.name]
            assert isinstance(mine, Clusters)
            clusters = merge_clusters([clusters, sampled(mine.of(at), order.one_in)])
        return disperse_by_cluster(metric, clusters, folded, placed.n)
    # Days of a level that moves differ, and are no cells of one level.
    if metric.measured.dispersion is None or metric.dynamics is not None:
        return None
    total = CellSums(*(np.zeros(placed.n) for _ in range(3)))
    for span, at, new in zip(placed.spans, placed.codes, placed.new, strict=True):
        cells = span.cells[metric.name]
        assert isinstance(cells, Cells)
        sums = vars(cells.choose(new))
        for name, column in vars(total).items():
            column[at] += sums[name]
    return total


def _apart(metric: Metric, order: WindowOrder, placed: _Placed, since: NDArray[np.int64]) -> Apart:
    """Return the as-of day by itself, and the window without it; the last span tells them apart."""
    rest, day = placed, _spread(metric, {}, np.empty(0, np.int64), placed.n)
    if placed.spans and placed.spans[-1].last_day == order.as_of:
        *spans, last = placed.spans
        found = last.apart[metric.name]
        day = _spread(metric, found.day, placed.codes[-1], placed.n)
        before = replace(last, statistics={metric.name: found.rest})
        rest = replace(placed, spans=[*spans, before])
    folded = _combine(metric, rest)
    day, _ = _expose(metric, day, order, np.maximum(since, order.as_of))
    folded, _ = _expose(metric, folded, replace(order, as_of=order.as_of - 1), since)
    return Apart(day, folded)


def _is_new(order: WindowOrder, first_seen: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Tell which units had their first events in the last days; None where no days are older."""
    new_since = order.as_of - NEW_FOR + 1
    if order.first_day >= new_since and order.history is None:
        return None
    return np.asarray((first_seen >= new_since) & (first_seen <= order.as_of))


def _presence(order: WindowOrder, placed: _Placed) -> Presence:
    """Count the units of the last days."""
    since = earliest_day(order.as_of)
    rows = [span.rows(at, since) for span, at in zip(placed.spans, placed.codes, strict=True)] or [
        (np.empty(0, np.int64), np.empty(0, np.int64))
    ]
    days, codes = (np.concatenate(column) for column in zip(*rows, strict=True))
    return count_presence(days, codes, placed.n, first_day=order.first_day, as_of=order.as_of)


def _expose(
    metric: Metric, folded: Statistics, order: WindowOrder, since: NDArray[np.int64]
) -> tuple[Statistics, int]:
    """Give calendar exposures their days, scale to the reported unit, set aside the impossible."""
    if "exposure" not in folded:
        return folded, 0
    exposure = folded["exposure"].astype(np.float64)
    if metric.calendar == "days":
        exposure = np.maximum(order.as_of - since + 1, 0).astype(np.float64)
    return usable(metric, {**folded, "exposure": exposure})
