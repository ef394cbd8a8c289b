"""One version of one table, as a value: its schema and its files, read in a fixed order."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable

from hbpipe.data.durable import Storage
from hbpipe.data.filters import Filters, expression
from hbpipe.data.footer import file_digest, read_footer, signed
from hbpipe.errors import LakeError


@dataclass(frozen=True)
class FileRef:
    """One data file of a snapshot.

    Attributes
    ----------
    path
        Relative to the table.
    partition
        Partition column to ISO date.
    rows, size
        Rows and bytes.
    statistics
        Column to (least, greatest) where the writer recorded them.
    """

    path: str
    partition: Mapping[str, str]
    rows: int
    size: int
    statistics: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Snapshot:
    """A version of a table; picklable, so a worker can be handed just the files it needs.

    Attributes
    ----------
    storage, name, version
        Where, which table, which version.
    schema
        All columns, the partition columns included.
    partition_by
        Partition columns.
    files
        In reading order: by partition, then path.
    """

    storage: Storage
    name: str
    version: int
    schema: pa.Schema
    partition_by: tuple[str, ...]
    files: tuple[FileRef, ...]

    @property
    def data_schema(self) -> pa.Schema:
        """The columns that lie in the files: all but the partition columns."""
        return pa.schema([one for one in self.schema if one.name not in self.partition_by])

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files)

    def select(self, keep: Callable[[FileRef], bool]) -> Snapshot:
        """Return the same version narrowed to some of its files."""
        return replace(self, files=tuple(file for file in self.files if keep(file)))

    def in_partitions(self, partitions: Iterable[Mapping[str, str]]) -> Snapshot:
        """Return the same version narrowed to the files of these partitions."""
        wanted = [dict(partition) for partition in partitions]
        return self.select(lambda file: dict(file.partition) in wanted)

    def dataset(self) -> ds.FileSystemDataset:
        """Return an Arrow dataset of the files, with page checksums verified on every read."""
        options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
        layout = ds.ParquetFileFormat(default_fragment_scan_options=options)
        filesystem = self.storage.filesystem()
        fragments = [
            layout.make_fragment(
                self.storage.path(self.name, file.path),
                filesystem,
                self._partition_expression(file),
            )
            for file in self.files
        ]
        return ds.FileSystemDataset(fragments, self.schema, layout, filesystem)

    def read(
        self, *, columns: Sequence[str] | None = None, filters: Filters | None = None
    ) -> pa.Table:
        """Read rows, ordered by partition, file and row group, whatever the number of threads.

        Parameters
        ----------
        columns
            Names, in the order wanted; by default all.
        filters
            Files and row groups that cannot match are not decoded.

        Returns
        -------
        pyarrow.Table
            Without files, an empty table of the same columns.

        Raises
        ------
        LakeError
            A column is unknown, a filter does not fit, or a file is missing or damaged; names it.
        """
        names = list(columns) if columns is not None else list(self.schema.names)
        parts = self.read_files(columns=columns, filters=filters)
        return pa.concat_tables([self._empty(names), *parts])

    def read_files(
        self, *, columns: Sequence[str] | None = None, filters: Filters | None = None
    ) -> Iterator[pa.Table]:
        """Read rows as ``read`` does, one file in memory at a time.

        Raises
        ------
        LakeError
            As ``read``; a column or a filter is refused before any file is opened.
        """
        names = list(columns) if columns is not None else list(self.schema.names)
        self._require_columns(names)
        where = {"lake": self.storage.uri, "table": self.name}
        condition = expression(filters, self.schema, where) if filters else None
        dataset = self.dataset()
        # A partition that rules a file out does so without opening it.
        kept = {one.path for one in dataset.get_fragments(filter=condition)}
        return (
            self._read_checked(file, fragment, names, condition)
            for file, fragment in zip(self.files, dataset.get_fragments(), strict=True)
            if fragment.path in kept
        )

    def _empty(self, names: Sequence[str]) -> pa.Table:
        self._require_columns(names)
        return pa.schema([self.schema.field(name) for name in names]).empty_table()

    def verify(self) -> list[LakeError]:
        """Read every byte of every file; return an error for each that is missing or damaged.

        This also covers the pages' headers, which ``read`` cannot: on a table of nested columns
        1 flipped bit in 13,032 read as other values.
        """
        filesystem = self.storage.filesystem()
        faults = []
        for file in self.files:
            try:
                found = file_digest(filesystem, self.storage.path(self.name, file.path))
            except OSError as error:
                faults.append(self.damaged(file, f"the file cannot be read: {error}"))
                continue
            wanted = signed(file.path)
            if wanted is None:
                faults.append(self.damaged(file, "the file's name carries no digest"))
            elif not found.startswith(wanted[1]):
                faults.append(self.damaged(file, f"the file's SHA-256 begins {found[:16]}"))
        return faults

    def _read_checked(
        self, file: FileRef, fragment: Any, names: list[str], condition: Any
    ) -> pa.Table:
        self.footer(file, fragment.filesystem)
        try:
            rows = fragment.to_table(
                schema=self.schema, columns=names, filter=condition, use_threads=False
            )
        except (OSError, pa.ArrowException) as error:
            raise self.damaged(file, f"the file is missing or damaged: {error}") from error
        if condition is None and rows.num_rows != file.rows:
            raise self.damaged(file, f"the file holds {rows.num_rows} rows")
        return rows

    def footer(self, file: FileRef, filesystem: Any) -> pq.FileMetaData:
        """Read a file's footer, which has no checksum of its own: its name has the digest.

        Raises
        ------
        LakeError
            The file is missing or damaged.
        """
        where = {"lake": self.storage.uri, "table": self.name, "file": file.path}
        path = self.storage.path(self.name, file.path)
        footer, metadata = read_footer(filesystem, path, file.size, where)
        found, wanted = hashlib.sha256(footer).hexdigest(), signed(file.path)
        if wanted is not None and not found.startswith(wanted[0]):
            raise self.damaged(file, f"the SHA-256 of the file's footer begins {found[:16]}")
        return metadata

    def damaged(self, file: FileRef, found: str) -> LakeError:
        """Return the error that says what is wrong with a file."""
        return LakeError(
            found,
            where={"lake": self.storage.uri, "table": self.name, "file": file.path},
            expected=f"{file.rows} rows in {file.size} bytes with the digests of the file's name",
            remedy="restore the file from a backup, or restate its days from the events",
        )

    def _partition_expression(self, file: FileRef) -> Any:
        expression = ds.scalar(True)
        for column, value in file.partition.items():
            day = pa.scalar(dt.date.fromisoformat(value), pa.date32())
            expression = expression & (ds.field(column) == day)
        return expression

    def _require_columns(self, names: Collection[str]) -> None:
        unknown = [name for name in names if name not in self.schema.names]
        if unknown:
            raise LakeError(
                f"no column {unknown[0]!r}",
                where={"lake": self.storage.uri, "table": self.name, "version": self.version},
                expected=", ".join(self.schema.names),
            )


def take_snapshot(storage: Storage, name: str, table: DeltaTable) -> Snapshot:
    """Turn an open Delta table into a snapshot."""
    actions = pa.table(table.get_add_actions()).to_pylist()
    files = sorted((_file(action) for action in actions), key=_reading_order)
    return Snapshot(
        storage=storage,
        name=name,
        version=table.version(),
        schema=pa.schema(table.schema()),
        partition_by=tuple(table.metadata().partition_columns),
        files=tuple(files),
    )


def _reading_order(file: FileRef) -> tuple[tuple[str, ...], str]:
    return tuple(file.partition.values()), file.path


def _file(action: Mapping[str, Any]) -> FileRef:
    least, greatest = action.get("min") or {}, action.get("max") or {}
    return FileRef(
        path=action["path"],
        partition={name: day.isoformat() for name, day in (action.get("partition") or {}).items()},
        rows=action["num_records"],
        size=action["size_bytes"],
        statistics={
            name: (low, greatest[name])
            for name, low in least.items()
            if low is not None and greatest.get(name) is not None
        },
    )
