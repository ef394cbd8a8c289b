"""Rows of one value of a column, read by the row groups that hold it and no other.

The files of a day or a month have a row group for each metric. To find a metric's by a filter is
to decode the metric of every row; the least and the greatest value in the footer say it for all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

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
        self._opened: dict[str, _File] = {}

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
        if file.path not in self._opened:
            footer = self._snapshot.footer(file, self._filesystem)
            self._opened[file.path] = _File.of(footer, self._column)
        opened = self._opened[file.path]
        groups = opened.groups(value)
        if not groups:
            return None
        present = [name for name in columns if name in opened.names]
        alone = all(opened.bounds[group] == (value, value) for group in groups)
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
        opened = self._opened[file.path]
        try:
            with pq.ParquetFile(
                self._snapshot.storage.path(self._snapshot.name, file.path),
                filesystem=self._filesystem,
                metadata=opened.footer,
                read_dictionary=opened.coded if as_dictionaries else None,
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


@dataclass(frozen=True)
class _File:
    """What a footer says.

    ``coded`` are the columns of text that are kept as dictionaries; ``bounds`` has for each row
    group the least and the greatest value of the column looked for, None where they are not known.
    """

    footer: pq.FileMetaData
    names: frozenset[str]
    coded: tuple[str, ...]
    bounds: tuple[tuple[str, str] | None, ...]

    @classmethod
    def of(cls, footer: pq.FileMetaData, column: str) -> _File:
        """Read what is needed of a footer."""
        groups = [footer.row_group(group) for group in range(footer.num_row_groups)]
        chunks = [groups[0].column(k) for k in range(footer.num_columns)] if groups else []
        place = {chunk.path_in_schema: k for k, chunk in enumerate(chunks)}
        coded = [
            chunk.path_in_schema
            for chunk in chunks
            if chunk.physical_type == "BYTE_ARRAY" and chunk.has_dictionary_page
        ]
        return cls(
            footer,
            frozenset(footer.schema.to_arrow_schema().names),
            tuple(coded),
            tuple(_bounds(group.column(place[column]).statistics) for group in groups),
        )

    def groups(self, value: str) -> list[int]:
        """Return the row groups that may have rows of a value."""
        return [
            group
            for group, ends in enumerate(self.bounds)
            if ends is None or ends[0] <= value <= ends[1]
        ]


def _bounds(found: pq.Statistics | None) -> tuple[str, str] | None:
    if found is None or not found.has_min_max or found.null_count:
        return None
    return found.min, found.max


def _join(columns: Sequence[pa.ChunkedArray], field: pa.Field) -> pa.ChunkedArray:
    """Put a column of all files together; text comes as dictionaries where it does everywhere."""
    chunks = [chunk for column in columns for chunk in column.chunks]
    coded = pa.dictionary(pa.int32(), field.type)
    kind = coded if chunks and all(chunk.type == coded for chunk in chunks) else field.type
    return pa.chunked_array(
        [chunk if chunk.type == kind else chunk.cast(kind) for chunk in chunks], kind
    )
