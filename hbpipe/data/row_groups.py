"""Rows of one value of a column, read by the row groups that hold it and no other.

The files of a day or a month have a row group for each metric. To find a metric's by a filter is
to decode the metric of every row; the least and the greatest value in the footer say it for all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hbpipe.data.snapshot import FileRef, Snapshot


class RowGroups:
    """The rows of a snapshot's files by the value of ``column``, which is text.

    Each footer is read and verified once, however often its file is read; no file stays open.
    """

    def __init__(self, snapshot: Snapshot, column: str) -> None:
        self._snapshot, self._column = snapshot, column
        self._filesystem = snapshot.storage.filesystem()
        self._footers: dict[str, pq.FileMetaData] = {}

    def read(self, value: str, columns: Sequence[str]) -> pa.Table:
        """Read the rows that have a value, in the order of the files and their row groups.

        Text that all files keep as dictionaries comes as such, of 32-bit indices.

        Raises
        ------
        LakeError
            A file is missing or damaged; names it.
        """
        parts = [self._read_file(file, value, columns) for file in self._snapshot.files]
        schema = self._snapshot.schema
        arrays = [
            _join([part.column(name) for part in parts if part is not None], schema.field(name))
            for name in columns
        ]
        return pa.table(arrays, names=list(columns))

    def _read_file(self, file: FileRef, value: str, columns: Sequence[str]) -> pa.Table | None:
        if file.path not in self._footers:
            self._footers[file.path] = self._snapshot.footer(file, self._filesystem)
        footer = self._footers[file.path]
        bounds = dict(_bounds(footer, self._column))
        groups = [k for k, pair in bounds.items() if pair is None or pair[0] <= value <= pair[1]]
        if not groups:
            return None
        stored = footer.schema.to_arrow_schema().names
        present = [name for name in columns if name in stored]
        alone = all(bounds[group] == (value, value) for group in groups)
        rows = self._decode(file, groups, present if alone else [*present, self._column], alone)
        if not alone:
            rows = rows.filter(pc.equal(rows.column(self._column), value))
        arrays = [
            rows.column(name) if name in present else self._constant(file, name, rows.num_rows)
            for name in columns
        ]
        return pa.table(arrays, names=list(columns))

    def _decode(
        self, file: FileRef, groups: list[int], columns: list[str], as_dictionaries: bool
    ) -> pa.Table:
        """Decode row groups; with dictionaries as they are, whose values then all occur."""
        footer = self._footers[file.path]
        try:
            with pq.ParquetFile(
                self._snapshot.storage.path(self._snapshot.name, file.path),
                filesystem=self._filesystem,
                metadata=footer,
                read_dictionary=_coded(footer, columns) if as_dictionaries else None,
                page_checksum_verification=True,
                pre_buffer=True,  # one request for what lies together
            ) as source:
                rows = source.read_row_groups(groups, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise self._snapshot.damaged(
                file, f"the file is missing or damaged: {error}"
            ) from error
        return rows

    def _constant(self, file: FileRef, name: str, rows: int) -> pa.Array:
        """Return a partition's value for each row, or nulls for a column of later settings."""
        if name in file.partition:
            return pa.repeat(pa.scalar(dt.date.fromisoformat(file.partition[name])), rows)
        return pa.nulls(rows, self._snapshot.schema.field(name).type)


def _bounds(footer: pq.FileMetaData, column: str) -> Iterator[tuple[int, tuple[str, str] | None]]:
    """Give the least and the greatest value of each row group; None where they are not known."""
    places = {footer.schema.column(place).path: place for place in range(footer.num_columns)}
    place = places[column]
    for group in range(footer.num_row_groups):
        found = footer.row_group(group).column(place).statistics
        known = found is not None and found.has_min_max and not found.null_count
        yield group, (found.min, found.max) if known else None


def _coded(footer: pq.FileMetaData, columns: Sequence[str]) -> list[str]:
    """List the columns of text that a file keeps as dictionaries."""
    if not footer.num_row_groups:
        return []
    first = footer.row_group(0)
    chunks = [first.column(place) for place in range(footer.num_columns)]
    return [
        chunk.path_in_schema
        for chunk in chunks
        if chunk.path_in_schema in columns
        and chunk.physical_type == "BYTE_ARRAY"
        and chunk.has_dictionary_page
    ]


def _join(columns: Sequence[pa.ChunkedArray], field: pa.Field) -> pa.ChunkedArray:
    """Put a column of all files together; text comes as dictionaries where it does everywhere."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    coded = pa.dictionary(pa.int32(), field.type)
    kind = coded if chunks and all(chunk.type == coded for chunk in chunks) else field.type
    return pa.chunked_array(
        [chunk if chunk.type == kind else chunk.cast(kind) for chunk in chunks], kind
    )
