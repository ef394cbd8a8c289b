"""The files of one business day: one for each shard of its units, in it a row group per metric."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hbpipe.data.arrays import to_arrow
from hbpipe.data.clusters import one_in, sampled, to_columns
from hbpipe.data.day_statistics import DayStatistics
from hbpipe.data.durable import Storage
from hbpipe.data.events import EventFormat
from hbpipe.data.parts import Receipt, write_part
from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import Table
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.units import shard_of
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


def split(merged: DayStatistics, shards: int) -> Iterator[tuple[int, DayStatistics]]:
    """Give the units of each shard that has any, in the order of the shards."""
    if not merged.n:
        return
    if shards == 1:
        yield 0, merged
        return
    places = shard_of(merged.keys[-1], shards)
    ordered = np.argsort(places, kind="stable")
    present, begins = np.unique(places[ordered], return_index=True)
    for shard, units in zip(present, np.split(ordered, begins[1:]), strict=True):
        yield int(shard), merged.take(units)


def write_shard(storage: Storage, order: DayOrder, shard: int, found: DayStatistics) -> Receipt:
    """Write the file of one shard of a day; the metrics that it keeps come first.

    Raises
    ------
    LakeError
        When the lake cannot be written, or what is kept is not of the same units.
    """
    return write_part(
        storage,
        "statistics",
        _metric_tables(order, shard, found),
        schema=order.table.data_schema,
        run_id=order.run_id,
        partition={"day": order.label},
        dictionary=["metric", "shard", *order.form.levels[:-1]],
        statistics=["metric", "shard"],
        compression="snappy",  # written every night, and read by the window of every night
    )


def _metric_tables(order: DayOrder, shard: int, found: DayStatistics) -> Iterator[pa.Table]:
    """Give one table per metric, each a row group, so that a reader of one decodes no other."""
    yield from _kept_tables(order, shard, found.n)
    schema = order.table.data_schema
    shared = dict(zip(order.form.levels, found.keys, strict=True))
    shared["shard"] = pa.repeat(pa.scalar(shard, pa.int32()), found.n)
    shared["n_events"] = pa.array(found.n_events)
    for metric in order.metrics:
        columns = {
            "metric": pa.repeat(metric.name, found.n).dictionary_encode(),
            **shared,
            **{name: to_arrow(one) for name, one in found.statistics[metric.name].items()},
        }
        if metric.name in found.clusters:
            kept = sampled(found.clusters[metric.name], one_in(order.rows))
            columns |= to_columns(kept, found.n)
        arrays = [
            columns[field.name] if field.name in columns else pa.nulls(found.n, field.type)
            for field in schema
        ]
        yield pa.table(arrays, names=schema.names)


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
