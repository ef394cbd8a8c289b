"""The statistics of one business day, and how those of several readings are added up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.aggregate import Part
from hbpipe.data.arrays import to_arrow, to_numpy
from hbpipe.data.clock import to_date
from hbpipe.data.clusters import Clusters, from_columns, merge_clusters, to_columns
from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import CLUSTERS
from hbpipe.data.units import code_units, encode, to_dictionary, to_plain
from hbpipe.errors import StatisticsError


@dataclass(frozen=True)
class DayStatistics:
    """Statistics of one day: ``keys`` one array (U,) per level, the rest (U, ...)."""

    keys: tuple[pa.Array, ...]
    n_events: NDArray[np.int64]
    statistics: dict[str, dict[str, NDArray[Any]]]
    clusters: dict[str, Clusters]

    @property
    def n(self) -> int:
        """Return the number of units."""
        return len(self.n_events)

    def take(self, units: NDArray[np.int64]) -> DayStatistics:
        """Return some of the units, by number, ascending."""
        owners = np.full(self.n, -1, np.int64)
        owners[units] = np.arange(len(units))
        return DayStatistics(
            tuple(key.take(pa.array(units)) for key in self.keys),
            self.n_events[units],
            {
                metric: {name: values[units] for name, values in found.items()}
                for metric, found in self.statistics.items()
            },
            {metric: found.of(owners) for metric, found in self.clusters.items()},
        )


def day_of(part: Part, day: int) -> DayStatistics:
    """Return what a part has of a day; its rows stand together, because they are ordered by day."""
    first, end = np.searchsorted(part.days, [day, day + 1])
    owners = np.full(len(part.days), -1, np.int64)
    owners[first:end] = np.arange(end - first)
    return DayStatistics(
        tuple(key.slice(first, end - first) for key in part.keys),
        part.n_events[first:end],
        {
            metric: {name: values[first:end] for name, values in found.items()}
            for metric, found in part.statistics.items()
        },
        {metric: found.of(owners) for metric, found in part.clusters.items()},
    )


def add_up(metrics: tuple[Metric, ...], day: int, found: Sequence[DayStatistics]) -> DayStatistics:
    """Add up statistics of one day, in their order.

    One fold over all rows in a fixed order, unit by unit: the bits of a unit depend on its own
    rows alone, whichever others come along.

    Raises
    ------
    StatisticsError
        When a sum overflows; names day and metric.
    """
    if len(found) == 1:
        return found[0]
    levels = [pa.chunked_array(level) for level in zip(*(one.keys for one in found), strict=True)]
    n_events = np.concatenate([one.n_events for one in found])
    units = code_units([encode(level) for level in levels], np.ones(len(n_events), np.bool_))
    codes = units.codes.astype(np.int64, copy=False)
    total = np.zeros(units.n, np.int64)
    np.add.at(total, codes, n_events)
    folded = {}
    for metric in metrics:
        try:
            folded[metric.name] = metric.measured.fold(
                _joined([one.statistics[metric.name] for one in found]), codes, units.n
            )
        except StatisticsError as error:
            raise error.at(day=to_date(day), metric=metric.name) from None
        if metric.calendar == "active_days":
            exposure = folded[metric.name]["exposure"]
            folded[metric.name]["exposure"] = np.minimum(exposure, 1.0)  # one day, however cut
    *above, finest = units.levels
    keys = (*(to_dictionary(level) for level in above), to_plain(finest))  # as those of a part
    return DayStatistics(keys, total, folded, _clusters(found, codes))


def _joined(parts: Sequence[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _clusters(found: Sequence[DayStatistics], codes: NDArray[np.int64]) -> dict[str, Clusters]:
    """Merge clusters, metric by metric; ``codes`` number the units of all that was found."""
    owners = np.split(codes, np.cumsum([one.n for one in found])[:-1])
    return {
        name: merge_clusters(
            [one.clusters[name].of(owner) for one, owner in zip(found, owners, strict=True)]
        )
        for name in found[0].clusters
    }


# --- tables, to hand statistics from one task to another ------------------------------------------


def to_table(found: DayStatistics) -> pa.Table:
    """Return statistics as a table, one row for each unit."""
    columns = {f"key {level}": _plain(key) for level, key in enumerate(found.keys)}
    columns["n_events"] = pa.array(found.n_events)
    for metric, values in found.statistics.items():
        columns |= {f"{metric} {name}": to_arrow(array) for name, array in values.items()}
    for metric, clusters in found.clusters.items():
        lists = to_columns(clusters, found.n)
        columns |= {f"{metric} {name}": column for name, column in lists.items()}
    return pa.table(columns)


def _plain(key: pa.Array) -> pa.Array:
    """Return a key without its dictionary, which may be longer than a table of few units."""
    return key.dictionary_decode() if pa.types.is_dictionary(key.type) else key


def from_table(table: pa.Table, metrics: Iterable[Metric], levels: int) -> DayStatistics:
    """Return the statistics of a table of ``to_table``, to the last bit."""
    keys = tuple(table.column(f"key {level}").combine_chunks() for level in range(levels))
    statistics, clusters = {}, {}
    for metric in metrics:
        statistics[metric.name] = {
            one.name: to_numpy(table.column(f"{metric.name} {one.name}"), one)
            for one in metric.measured.statistics
        }
        if metric.cells.clusters:
            lists = table.select([f"{metric.name} {name}" for name in CLUSTERS])
            rows = np.arange(table.num_rows)
            clusters[metric.name] = from_columns(lists.rename_columns(list(CLUSTERS)), rows)
    return DayStatistics(keys, table.column("n_events").to_numpy(), statistics, clusters)
