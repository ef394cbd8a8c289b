"""The rows of a piece a stretch at a time, and the business day of each row.

A *stretch* is some row groups of a piece, decoded together: enough rows that a pass over them is
worth its start, few enough that a piece of any length takes no more memory. Where the footer
proves that a row group lies within one day, its times are not decoded at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hbpipe.data.batch import Mask
from hbpipe.data.clock import business_days
from hbpipe.data.events import EventFormat, Piece, open_parquet, read_groups, require_same
from hbpipe.data.quantities import Metric

STRETCH_ROWS = 1 << 19


@dataclass(frozen=True)
class RowDays:
    """The business day of each row (E,), and whether it has one.

    ``only`` is the day of every row, where that was known before any row was looked at.
    """

    numbers: NDArray[np.int32]
    sound: Mask
    only: int | None = None

    @classmethod
    def all_on(cls, day: int, rows: int) -> RowDays:
        """Return the days of rows that all lie on one day."""
        return cls(np.broadcast_to(np.int32(day), rows), np.broadcast_to(np.True_, rows), day)

    def among(self, days: tuple[int, ...]) -> Mask:
        """Mark the rows of the given days."""
        if self.only is not None:
            return np.full(len(self.numbers), self.only in days)
        if len(days) == 1:
            return np.asarray((self.numbers == days[0]) & self.sound)
        return np.asarray(np.isin(self.numbers, np.array(days, np.int32)) & self.sound)

    def of(self, rows: Mask) -> NDArray[np.int32]:
        """Return the different days of the marked rows, ascending."""
        if self.only is not None:
            return np.full(int(rows.any()), self.only, np.int32)
        found = self.numbers[rows]
        if not len(found) or found.min() == found.max():
            return found[:1]
        return np.asarray(found.min() + np.flatnonzero(np.bincount(found - found.min())), np.int32)

    def places(self, days: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return where each row's day stands among the ascending ``days``, if it does."""
        table = np.zeros(int(days[-1] - days[0]) + 1, np.int64)
        table[days - days[0]] = np.arange(len(days))
        return np.asarray(table[np.clip(self.numbers - days[0], 0, len(table) - 1)])

    def count(self, rows: Mask | NDArray[np.int64], days: NDArray[np.int32]) -> list[int]:
        """Count rows, marked or by number, on each of the ascending ``days``: they lie on these."""
        if len(days) < 2:
            size = np.count_nonzero(rows) if rows.dtype == np.bool_ else len(rows)
            return [int(size)] * len(days)
        span = int(days[-1] - days[0]) + 1
        counts = np.bincount(self.numbers[rows] - days[0], minlength=span)
        return [int(n) for n in counts[days - days[0]]]


@dataclass(frozen=True)
class Stretch:
    """Some row groups, as a piece of their own, and their rows."""

    piece: Piece
    table: pa.Table
    days: RowDays


def read_stretches(
    form: EventFormat, piece: Piece, metrics: tuple[Metric, ...]
) -> Iterator[Stretch]:
    """Read what the metrics need of a piece.

    Repeated events are looked for in a whole piece, and each forgotten unit is known by a slow
    digest that is computed once for a piece: both get it as a single stretch.

    Raises
    ------
    EventsError
        When the file is damaged, or changed while it was read.
    """
    at_once = bool(form.event_id or form.forgotten)
    columns = form.columns(metrics)
    others = tuple(name for name in columns if name != form.time)
    with open_parquet(form, piece.file) as parquet:
        proven = {} if _asked_for(form, metrics) else _proven_days(parquet, form, piece)
        for part in [piece] if at_once else cut_stretches(piece):
            days = _days_of(part, proven)
            if days is None:
                table = read_groups(parquet, form, part, columns)
                numbers, faults = business_days(table.column(form.time), form.calendar)
                days = RowDays(numbers, faults == 0)
            else:
                table = read_groups(parquet, form, part, others)
            yield Stretch(part, table, days)
    require_same(form, piece.file)


def cut_stretches(piece: Piece) -> Iterator[Piece]:
    """Cut a piece into runs of row groups, each of few rows or of one row group."""
    first = rows = 0
    for place, length in enumerate(piece.lengths):
        if place > first and rows + length > STRETCH_ROWS:
            yield _between(piece, first, place)
            first, rows = place, 0
        rows += length
    yield _between(piece, first, len(piece.lengths))


def _between(piece: Piece, first: int, end: int) -> Piece:
    return replace(
        piece,
        row_groups=piece.row_groups[first:end],
        first_rows=piece.first_rows[first:end],
        lengths=piece.lengths[first:end],
    )


def _asked_for(form: EventFormat, metrics: tuple[Metric, ...]) -> bool:
    """Tell whether the times are needed for themselves: in copies of an event, in a metric."""
    named = [*form.levels, *(name for metric in metrics for name in metric.columns)]
    return bool(form.event_id) or form.time in named


def _proven_days(parquet: pq.ParquetFile, form: EventFormat, piece: Piece) -> dict[int, int]:
    """Return the day of each row group of a piece of which the footer proves it."""
    found = proven_days(parquet.metadata, parquet.schema_arrow, piece.row_groups, form)
    pairs = zip(piece.row_groups, found, strict=True)
    return {group: day for group, day in pairs if day is not None}


def _days_of(piece: Piece, proven: Mapping[int, int]) -> RowDays | None:
    """Return the rows' days where the day of every row group is proven."""
    if not proven.keys() >= set(piece.row_groups):
        return None
    days = [proven[group] for group in piece.row_groups]
    if len(set(days)) == 1:
        return RowDays.all_on(days[0], piece.rows)
    numbers = np.repeat(np.array(days, np.int32), piece.lengths)
    return RowDays(numbers, np.ones(piece.rows, np.bool_))


def proven_days(
    metadata: pq.FileMetaData, schema: pa.Schema, indices: Sequence[int], form: EventFormat
) -> list[int | None]:
    """Return the only day of each row group where its statistics prove it, else None."""
    days: list[int | None] = [None] * len(indices)
    if form.time not in schema.names:
        return days
    kind = schema.field(form.time).type
    if not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        return days  # text may be cut short in the footer
    leaf = [metadata.schema.column(k).path for k in range(metadata.num_columns)].index(form.time)
    columns = [metadata.row_group(index).column(leaf) for index in indices]
    known = [place for place, column in enumerate(columns) if _is_told(column)]
    # The raw numbers: Python's own dates have no nanoseconds, and end in the year 9999.
    ends = [(one.min_raw, one.max_raw) for one in (columns[k].statistics for k in known)]
    raw = pa.array([end for pair in ends for end in pair], pa.int64())
    # Parquet keeps every date in days.
    times = raw.cast(pa.int32()).view(pa.date32()) if pa.types.is_date(kind) else raw.view(kind)
    numbers, faults = business_days(pa.chunked_array([times]), form.calendar)
    for place, pair, fault in zip(
        known, numbers.reshape(-1, 2), faults.reshape(-1, 2), strict=True
    ):
        if pair[0] == pair[1] and not fault.any():
            days[place] = int(pair[0])
    return days


def _is_told(column: pq.ColumnChunkMetaData) -> bool:
    """Tell whether the footer has the ends of a column that has rows and no null."""
    found = column.statistics
    if not column.num_values or found is None or not found.has_min_max or not found.has_null_count:
        return False
    return not found.null_count
