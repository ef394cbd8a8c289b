"""The files of one business day: one for each shard of its units, in it a row group per metric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.arrays import to_arrow
from hbpipe.data.clusters import Clusters, one_in, sampled, to_columns
from hbpipe.data.durable import Storage
from hbpipe.data.events import EventFormat
from hbpipe.data.parts import Receipt, write_part
from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import Table
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.units import count_shards, shard_of
from hbpipe.errors import LakeError


@dataclass(frozen=True)
class DayOrder:
    """What a worker must know to finish one day.

    ``kept`` are the day's present files, where some metrics are not measured again: their rows,
    of the metrics ``keeps``, go along into the new files.
    """

    form: EventFormat
    metrics: tuple[Metric, ...]
    day: int
    label: str  # the ISO date, the partition
    rows: int
    table: Table
    run_id: str
    kept: Snapshot | None = None
    keeps: tuple[str, ...] = ()


@dataclass(frozen=True)
class DayStatistics:
    """Statistics of one day: ``keys`` one array (U,) per level, the rest (U, ...)."""

    keys: tuple[pa.Array, ...]
    n_events: NDArray[np.int64]
    statistics: dict[str, dict[str, NDArray[Any]]]
    clusters: dict[str, Clusters]


def write_day(storage: Storage, order: DayOrder, merged: DayStatistics) -> tuple[Receipt, ...]:
    """Write the files of a day; the metrics that it keeps come first.

    Raises
    ------
    LakeError
        When the lake cannot be written, or what is kept is not of the same units.
    """
    shards = shard_of(merged.keys[-1], count_shards(order.rows))
    return tuple(
        write_part(
            storage,
            "statistics",
            _metric_tables(order, merged, shards, int(shard)),
            schema=order.table.data_schema,
            run_id=order.run_id,
            partition={"day": order.label},
            dictionary=["metric", "shard", *order.form.levels[:-1]],
            statistics=["metric", "shard"],
            compression="snappy",  # written every night, and read by the window of every night
        )
        for shard in np.unique(shards)
    )


def _metric_tables(
    order: DayOrder, merged: DayStatistics, shards: NDArray[np.int32], shard: int
) -> Iterator[pa.Table]:
    """Give one table per metric, each a row group, so that a reader of one decodes no other."""
    rows = np.flatnonzero(shards == shard)
    yield from _kept_tables(order, shard, len(rows))
    chosen: Any = slice(None) if len(rows) == len(shards) else rows
    schema = order.table.data_schema
    shared = dict(zip(order.form.levels, (_some(key, chosen) for key in merged.keys), strict=True))
    shared["shard"] = pa.repeat(pa.scalar(shard, pa.int32()), len(rows))
    shared["n_events"] = pa.array(merged.n_events[chosen])
    for metric in order.metrics:
        found = merged.statistics[metric.name]
        columns = {
            "metric": pa.repeat(metric.name, len(rows)).dictionary_encode(),
            **shared,
            **{name: to_arrow(values[chosen]) for name, values in found.items()},
        }
        if metric.name in merged.clusters:
            kept = sampled(merged.clusters[metric.name], one_in(order.rows))
            lists = to_columns(kept, len(merged.n_events))
            columns |= {name: _some(values, chosen) for name, values in lists.items()}
        arrays = [
            columns[field.name] if field.name in columns else pa.nulls(len(rows), field.type)
            for field in schema
        ]
        yield pa.table(arrays, names=schema.names)


def _some(values: pa.Array, chosen: Any) -> pa.Array:
    return values if isinstance(chosen, slice) else values.take(pa.array(chosen))


def _kept_tables(order: DayOrder, shard: int, units: int) -> Iterator[pa.Table]:
    """Give the present rows of the metrics that are not measured again, of one shard."""
    if order.kept is None:
        return
    mine = order.kept.select(lambda file: file.statistics["shard"][0] == shard)
    schema = order.table.data_schema
    for name in order.keeps:
        rows = mine.read(columns=schema.names, filters=[("metric", "==", name)])
        if rows.num_rows != units:
            raise LakeError(
                f"the day has {rows.num_rows} units for the metric {name!r}",
                where={"table": "statistics", "day": order.label, "shard": shard},
                expected=f"{units} units, as its events have",
                remedy="restate the day",
            )
        yield rows.cast(schema)
