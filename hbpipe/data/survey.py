"""The survey of a file: its content's hash, its footer, and which business days its rows feed.

Where the footer proves that a row group lies within one day, its rows are not touched; elsewhere
the time column is read. Rows without a business day are rejected here, exactly once per file,
whichever days are processed later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hbpipe.data.clock import FAULTS, business_days
from hbpipe.data.columns import schema_faults
from hbpipe.data.events import (
    PIECE_BYTES,
    PIECE_ROWS,
    EventFormat,
    FileState,
    Piece,
    content_hash,
    full_path,
    level_type,
    open_parquet,
    read_piece,
    require_same,
)
from hbpipe.data.quantities import Metric
from hbpipe.data.rejections import Rejection, merge_rejections, reject
from hbpipe.data.stretches import proven_days
from hbpipe.errors import EventsError


@dataclass(frozen=True)
class RowGroup:
    """A row group's place in its file, and the days between which its rows lie."""

    index: int
    first_row: int
    rows: int
    bytes: int
    first_day: int
    last_day: int


@dataclass(frozen=True)
class Survey:
    """What one file holds. ``days`` maps day number to rows, exactly; ``columns`` name to type."""

    file: FileState
    sha256: str
    rows: int
    row_groups: tuple[RowGroup, ...]
    days: dict[int, int]
    undated: tuple[Rejection, ...]
    level_types: tuple[str, ...]
    columns: Mapping[str, str]


def survey_file(form: EventFormat, file: FileState, metrics: tuple[Metric, ...]) -> Survey:
    """Survey one file.

    Raises
    ------
    EventsError
        When the file cannot be read, or lacks or mistypes a column that is needed.
    """
    with open_parquet(form, file) as parquet:
        schema, metadata = parquet.schema_arrow, parquet.metadata
    faults = schema_faults(schema, file.path, form, metrics)
    if faults:
        raise EventsError(
            "; ".join(faults),
            where={"file": full_path(form.root, file.path)},
            remedy="correct the configuration, or deliver the file with the right columns",
        )
    groups, days, undated = _scan(form, file, metrics, schema, metadata)
    sha256 = content_hash(form, file)
    require_same(form, file)
    return Survey(
        file=file,
        sha256=sha256,
        rows=metadata.num_rows,
        row_groups=tuple(groups),
        days={day: days[day] for day in sorted(days)},
        undated=tuple(merge_rejections(undated)),
        level_types=tuple(_level_type(schema, name) for name in form.levels),
        columns={column.name: str(column.type) for column in schema},
    )


def _scan(
    form: EventFormat,
    file: FileState,
    metrics: tuple[Metric, ...],
    schema: pa.Schema,
    metadata: pq.FileMetaData,
) -> tuple[list[RowGroup], Counter[int], list[Rejection]]:
    """Go through the row groups, reading times only where the footer does not tell the day."""
    groups, days, undated = [], Counter[int](), list[Rejection]()
    columns, first_row = form.columns(metrics), 0
    proven = proven_days(metadata, schema, range(metadata.num_row_groups), form)
    for index, day in enumerate(proven):
        rows = metadata.row_group(index).num_rows
        if day is not None:
            found = {day: rows}
        else:
            found, faulty = _count_days(form, Piece(file, (index,), (first_row,), (rows,)))
            undated += faulty
        span = (min(found), max(found)) if found else (0, -1)
        groups.append(RowGroup(index, first_row, rows, _bytes(metadata, index, columns), *span))
        days.update(found)
        first_row += rows
    return groups, days, undated


def _level_type(schema: pa.Schema, name: str) -> str:
    return str(level_type(schema.field(name).type)) if name in schema.names else "string"


def _bytes(metadata: pq.FileMetaData, index: int, columns: Iterable[str]) -> int:
    wanted, group = set(columns), metadata.row_group(index)
    sizes = [
        group.column(k).total_compressed_size
        for k in range(metadata.num_columns)
        if group.column(k).path_in_schema in wanted
    ]
    return int(sum(sizes))


def _count_days(form: EventFormat, piece: Piece) -> tuple[dict[int, int], list[Rejection]]:
    column = read_piece(form, piece, (form.time,)).column(0)
    days, faults = business_days(column, form.calendar)
    dated = faults == 0
    numbers, counts = np.unique(days[dated], return_counts=True)
    rejections = [
        reject(
            file=piece.file.path,
            day=None,
            metric="",
            column=form.time,
            reason=FAULTS[code],
            values=column,
            rows=np.flatnonzero(faults == code),
            piece=piece,
        )
        for code in np.unique(faults[~dated])
    ]
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True)), rejections


def cut_pieces(file: FileState, groups: tuple[RowGroup, ...], days: Iterable[int]) -> list[Piece]:
    """Cut a file into pieces by its own row groups, then keep what can hold the given days.

    The cuts come first and from the file alone, so a piece is summed in the same order whichever
    days are asked for.
    """
    wanted = np.array(sorted(days), np.int64)
    pieces = []
    for run in _runs(groups):
        kept = [group for group in run if _overlaps(group, wanted)]
        if kept:
            indices = tuple(group.index for group in kept)
            firsts = tuple(group.first_row for group in kept)
            pieces.append(Piece(file, indices, firsts, tuple(group.rows for group in kept)))
    return pieces


def _runs(groups: tuple[RowGroup, ...]) -> list[list[RowGroup]]:
    runs: list[list[RowGroup]] = []
    rows = size = 0
    for group in groups:
        if not runs or rows + group.rows > PIECE_ROWS or size + group.bytes > PIECE_BYTES:
            runs.append([])
            rows = size = 0
        runs[-1].append(group)
        rows, size = rows + group.rows, size + group.bytes
    return runs


def _overlaps(group: RowGroup, days: NDArray[np.int64]) -> bool:
    first = np.searchsorted(days, group.first_day)
    return bool(first < len(days) and days[first] <= group.last_day)
