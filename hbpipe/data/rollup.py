"""Whole calendar months folded once and kept in the table ``months``, so that nights read less.

A month that is kept is a ``Span`` and nothing else: what a window makes of it has the same bits as
what it makes of its days. Each of its files says what it was made from: the names of the daily
files, which tell their contents, with the version of this code; what its metrics were made with;
and how ids name its units. Who reads it compares all three with what is in the lake now
(``run/months``), and reads the days where they differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.arrays import to_arrow, to_numpy
from hbpipe.data.clusters import Clusters, from_columns, to_columns
from hbpipe.data.dispersion import MONTH, Cells
from hbpipe.data.durable import Storage
from hbpipe.data.parts import Receipt, write_part
from hbpipe.data.quantities import Metric
from hbpipe.data.row_groups import RowGroups
from hbpipe.data.schemas import CELL_SUMS, CLUSTERS, NEW_CELL_SUMS
from hbpipe.data.snapshot import FileRef, Snapshot
from hbpipe.data.span import Span, SpanOrder, Statistics, fold_days, month_of
from hbpipe.data.standing import decoded, numbers, read_units
from hbpipe.data.units import shared_ids
from hbpipe.model.dispersion import CellSums

#: Bumped by hand when a month would come out otherwise of the same days.
ROLLUP_VERSION = 1
#: Columns that hold one value in a file, which the log of the table shows.
FILE_COLUMNS = ("metric", "shard", "made_from", "made_with", "unit_ids")


@dataclass(frozen=True)
class RollupOrder:
    """What a worker must know to roll up one shard of a month."""

    metrics: tuple[Metric, ...]
    levels: tuple[str, ...]
    days: Snapshot
    within_parent: bool
    month: int
    shard: int
    made_from: str
    made_with: str
    schema: pa.Schema
    label: str  # the ISO date of the month's first day, the partition
    run_id: str


def roll_up(storage: Storage, order: RollupOrder) -> Receipt | None:
    """Fold one shard of a month and write it; None where it has no units.

    Raises
    ------
    LakeError
        When a day cannot be read, or the lake cannot be written.
    StatisticsError
        When a sum overflows.
    """
    span = fold_month(order)
    if not span.n:
        return None
    return write_part(
        storage,
        "months",
        metric_tables(order, span),
        schema=order.schema,
        run_id=order.run_id,
        partition={"month": order.label},
        dictionary=["metric", *order.levels[:-1], "made_from", "made_with", "unit_ids"],
        statistics=FILE_COLUMNS,
    )


def fold_month(order: RollupOrder) -> Span:
    """Fold the days of a month; raises as ``roll_up``."""
    first, last = month_of(order.month)
    return fold_days(
        SpanOrder(
            metrics=order.metrics,
            levels=order.levels,
            days=order.days,
            within_parent=order.within_parent,
            first_day=first,
            last_day=last,
            block=MONTH,
        )
    )


def naming(span: Span, within_parent: bool) -> str:
    """Say how ids name the units of a span: ``any`` way where no id has two parents in it."""
    if within_parent:
        return "within_parent" if shared_ids(span.keys) else "any"
    return "unique" if span.moved else "any"


def said(file: FileRef, column: str) -> Any:
    """Return what a file of ``months`` says in all its rows; None where it says nothing."""
    return file.statistics.get(column, (None,))[0]


# --- to and from the table ----------------------------------------------------------------------


def metric_tables(order: RollupOrder, span: Span) -> Iterator[pa.Table]:
    """Give one table per metric, each a row group, so that a reader of one decodes no other.

    The columns are those of ``order.schema``.
    """
    shared = {
        **dict(zip(order.levels, span.keys, strict=True)),
        "shard": pa.repeat(order.shard, span.n),
        "first_day": _dates(span.first_seen),
        "last_day": _dates(span.last_seen),
        "days_seen": pa.array(span.days_seen),
        "n_events": pa.array(span.n_events),
        "made_from": pa.repeat(order.made_from, span.n),
        "made_with": pa.repeat(order.made_with, span.n),
        "unit_ids": pa.repeat(naming(span, order.within_parent), span.n),
    }
    # Of a month without any present metric the units are kept, under a name of their days' own.
    lead = str(order.days.files[0].statistics["metric"][0])
    for name in [metric.name for metric in order.metrics] or [lead]:
        columns = {"metric": pa.repeat(name, span.n), **shared}
        found = span.statistics.get(name, {})
        columns |= {statistic: to_arrow(values) for statistic, values in found.items()}
        columns |= _cell_columns(span.cells.get(name), span.n)
        arrays = [
            columns[field.name] if field.name in columns else pa.nulls(span.n, field.type)
            for field in order.schema
        ]
        yield pa.table(arrays, names=order.schema.names).cast(order.schema)


def _dates(days: NDArray[np.int64]) -> pa.Array:
    return pa.array(days.astype(np.int32)).cast(pa.date32())


def _cell_columns(cells: Cells | Clusters | None, n: int) -> dict[str, pa.Array]:
    if cells is None:
        return {}
    if isinstance(cells, Clusters):
        return to_columns(cells, n)
    found = dict(zip(CELL_SUMS, vars(cells.known).values(), strict=True))
    if cells.new is not cells.known:
        found |= zip(NEW_CELL_SUMS, vars(cells.new).values(), strict=True)
    return {name: pa.array(values) for name, values in found.items()}


def read_month(
    files: Snapshot, metrics: Sequence[Metric], levels: Sequence[str], month: int
) -> Span:
    """Read a month of which all these metrics are kept; ``files`` are its own, of some shards."""
    columns = [*levels, "first_day", "last_day", "days_seen", "n_events"]
    source = RowGroups(files, "metric")
    shared = decoded(source.read(metrics[0].name, columns))
    statistics: dict[str, Statistics] = {}
    cells: dict[str, Cells | Clusters | None] = {}
    for metric in metrics:
        kinds = metric.measured.statistics
        names = [*(kind.name for kind in kinds), *_cell_names(metric)]
        table = source.read(metric.name, names)
        statistics[metric.name] = {
            kind.name: to_numpy(table.column(kind.name), kind) for kind in kinds
        }
        cells[metric.name] = _cells(metric, table)
    first, last = month_of(month)
    return Span(
        first_day=first,
        last_day=last,
        keys=tuple(shared.column(level).combine_chunks() for level in levels),
        first_seen=numbers(shared.column("first_day")),
        last_seen=numbers(shared.column("last_day")),
        days_seen=shared.column("days_seen").to_numpy(),
        n_events=shared.column("n_events").to_numpy(),
        statistics=statistics,
        cells=cells,
    )


def _cell_names(metric: Metric) -> Iterable[str]:
    if metric.cells.clusters:
        return CLUSTERS
    if metric.measured.dispersion is None:
        return ()
    return (*CELL_SUMS, *NEW_CELL_SUMS) if metric.calendar == "days" else CELL_SUMS


def _cells(metric: Metric, table: pa.Table) -> Cells | Clusters | None:
    if metric.cells.clusters:
        return from_columns(table, np.arange(table.num_rows))
    if metric.measured.dispersion is None:
        return None
    known = CellSums(*(table.column(name).to_numpy() for name in CELL_SUMS))
    if metric.calendar != "days":
        return Cells(known, known)
    return Cells(known, CellSums(*(table.column(name).to_numpy() for name in NEW_CELL_SUMS)))


def read_seen(files: Snapshot, levels: Sequence[str]) -> pa.Table:
    """Read ``levels``, ``first_day`` and ``last_day`` of the units of some months, in any order."""
    return read_units(files, [*levels, "first_day", "last_day"])
