"""Event files: finding them, and reading a piece of one.

A *piece* is a run of row groups of one file, cut by constants and the file's own footer alone, so
that sums over pieces never depend on memory, workers, or which other files are read.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs as pafs

from hbpipe.data.clock import Calendar
from hbpipe.data.durable import Storage
from hbpipe.data.quantities import Metric
from hbpipe.errors import EventsError

if TYPE_CHECKING:
    from hbpipe.data.forgotten import Forgotten

PIECE_ROWS = 4_000_000
#: Rows of a day above which its statistics are cut into shards.
SHARD_ROWS = 8_000_000
PIECE_BYTES = 128 << 20
_SUFFIXES = (".parquet", ".pq", ".parq")
_HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
_BLOCK = 1 << 20


@dataclass(frozen=True)
class EventFormat:
    """How the columns of the events are to be read; small enough to travel with every task.

    Repeated events conflict where they differ in what the metrics need, or in ``compared``.
    """

    root: str
    time: str
    calendar: Calendar
    levels: tuple[str, ...]
    event_id: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    #: Units whose rows are rejected.
    forgotten: tuple[Forgotten, ...] = ()
    compared: tuple[str, ...] = ()

    def open(self) -> tuple[pafs.FileSystem, str]:
        """Return the file system of the events and the root folder on it."""
        storage = Storage(self.root, self.options)
        return storage.filesystem(), storage.path()

    def columns(self, metrics: Iterable[Metric]) -> tuple[str, ...]:
        """Return every column that the metrics, keys and time need, in a fixed order."""
        measured = [column for metric in metrics for column in metric.columns]
        named = [self.time, *self.levels, *self.event_id, *self.compared, *measured]
        return tuple(dict.fromkeys(named))


@dataclass(frozen=True)
class FileState:
    """A file as the listing shows it: enough to see that it has changed."""

    path: str
    size: int
    modified_ns: int


@dataclass(frozen=True)
class Piece:
    """Row groups of one file, each with its first row's number in the file and its length."""

    file: FileState
    row_groups: tuple[int, ...]
    first_rows: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return sum(self.lengths)

    @property
    def key(self) -> tuple[str, int]:
        """The place in the fixed order of merging: path, then row group."""
        return self.file.path, self.row_groups[0]


def find_files(form: EventFormat) -> list[FileState]:
    """List the Parquet files below the root, sorted by path relative to it.

    Names that begin with ``_`` or ``.`` are someone's bookkeeping and are left alone.

    Raises
    ------
    EventsError
        When the root does not exist or holds no Parquet file.
    """
    filesystem, root = form.open()
    info = filesystem.get_file_info(root)
    if info.type == pafs.FileType.NotFound:
        raise EventsError(
            f"no events at {form.root}",
            expected="a Parquet file or a folder of Parquet files",
            remedy="set events.path, or write demo events with `hbpipe simulate`",
        )
    if info.type == pafs.FileType.File:
        return [FileState("", info.size, info.mtime_ns or 0)]
    found = filesystem.get_file_info(pafs.FileSelector(root, recursive=True))
    base = root.rstrip("/") + "/"
    states = [
        FileState(entry.path.removeprefix(base), entry.size, entry.mtime_ns or 0)
        for entry in found
        if entry.type == pafs.FileType.File and _is_event_file(entry.path.removeprefix(base))
    ]
    if not states:
        raise EventsError(
            f"no Parquet file below {form.root}",
            expected=f"files ending in {', '.join(_SUFFIXES)}",
            remedy="check events.path, or write demo events with `hbpipe simulate`",
        )
    return sorted(states, key=lambda state: state.path)


def has_marker(form: EventFormat, path: str) -> bool:
    """Tell whether a file or folder lies at a path relative to the root."""
    filesystem, root = form.open()
    info = filesystem.get_file_info(posixpath.join(root, path))
    return bool(info.type != pafs.FileType.NotFound)


def _is_event_file(path: str) -> bool:
    # Like Spark: a folder ``_day=2026-01-31`` is a partition, not bookkeeping.
    hidden = any(p.startswith(".") or (p.startswith("_") and "=" not in p) for p in path.split("/"))
    return path.lower().endswith(_SUFFIXES) and not hidden


def full_path(root: str, path: str) -> str:
    """Join a path relative to the root; the empty path is the root itself, a single file."""
    return posixpath.join(root, path) if path else root


def hive_values(path: str) -> dict[str, str | None]:
    """Return the ``key=value`` folders of a path."""
    pairs = [part.partition("=") for part in path.split("/")[:-1]]
    return {
        unquote(key): None if value == _HIVE_NULL else unquote(value)
        for key, found, value in pairs
        if found
    }


def open_parquet(form: EventFormat, file: FileState) -> pq.ParquetFile:
    """Open a file; levels of text are read as dictionaries, pages checked where they can be.

    Raises
    ------
    EventsError
        When it is not a whole Parquet file, or has vanished.
    """
    filesystem, root = form.open()
    path = full_path(root, file.path)
    try:
        with pq.ParquetFile(path, filesystem=filesystem) as first:
            metadata, names = first.metadata, first.schema_arrow.names
        return pq.ParquetFile(
            path,
            filesystem=filesystem,
            metadata=metadata,
            read_dictionary=[name for name in form.levels if name in names],
            page_checksum_verification=True,
        )
    except (pa.ArrowException, OSError) as error:
        raise EventsError(
            f"not readable as Parquet: {_first_line(error)}",
            where={"file": full_path(form.root, file.path)},
            expected="a complete Parquet file",
            remedy="deliver the file again, or move it out of events.path",
        ) from None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def content_hash(form: EventFormat, file: FileState) -> str:
    """Hash a file's bytes (SHA-256), so that a file delivered twice is known by its content.

    Raises
    ------
    EventsError
        When the file cannot be read.
    """
    filesystem, root = form.open()
    digest = hashlib.sha256()
    try:
        with filesystem.open_input_stream(full_path(root, file.path)) as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
    except OSError as error:
        raise EventsError(
            f"not readable: {_first_line(error)}",
            where={"file": full_path(form.root, file.path)},
            remedy="check the disk and the rights, then run again",
        ) from None
    return digest.hexdigest()


def still_same(form: EventFormat, file: FileState) -> bool:
    """Tell whether the file is still the one that was listed."""
    filesystem, root = form.open()
    info = filesystem.get_file_info(full_path(root, file.path))
    return bool(info.size == file.size and (info.mtime_ns or 0) == file.modified_ns)


def require_same(form: EventFormat, file: FileState) -> None:
    """Refuse a file that is no longer the one that was listed; raises EventsError."""
    if not still_same(form, file):
        raise EventsError(
            "the file changed while it was read",
            where={"file": full_path(form.root, file.path)},
            expected="files that are complete when they appear",
            remedy="run again when the delivery is finished",
        )


def read_piece(form: EventFormat, piece: Piece, columns: tuple[str, ...]) -> pa.Table:
    """Read the columns of a piece, with those that stand in the path filled in.

    Raises
    ------
    EventsError
        When the file is damaged, or changed while it was read.
    """
    with open_parquet(form, piece.file) as parquet:
        table = read_groups(parquet, form, piece, columns)
    require_same(form, piece.file)
    return table


def read_groups(
    parquet: pq.ParquetFile, form: EventFormat, piece: Piece, columns: tuple[str, ...]
) -> pa.Table:
    """Read columns of a piece of a file that is open.

    Whether it is still the file that was listed is for the caller to ask, after the last piece.
    """
    present = set(parquet.schema_arrow.names)
    stored = [name for name in columns if name in present]
    try:
        table = parquet.read_row_groups(list(piece.row_groups), columns=stored, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise EventsError(
            f"damaged: {_first_line(error)}",
            where={
                "file": full_path(form.root, piece.file.path),
                "row_groups": piece.row_groups,
            },
            remedy="deliver the file again",
        ) from None
    return _with_path_columns(table, piece.file.path, columns)


def _with_path_columns(table: pa.Table, path: str, columns: tuple[str, ...]) -> pa.Table:
    values = hive_values(path)
    for name in columns:
        if name not in table.column_names:
            if values[name] is None:
                constant = pa.nulls(table.num_rows, pa.string())
            else:
                indices = pa.array(np.zeros(table.num_rows, np.int32))
                constant = pa.DictionaryArray.from_arrays(indices, pa.array([values[name]]))
            table = table.append_column(name, constant)
    return table.select(list(columns))


def level_type(kind: pa.DataType) -> pa.DataType | None:
    """Return how a level of this type is stored: int64 or string; None when it cannot be one.

    Unsigned 64-bit numbers are no level: the lake's integers are signed, as Delta's are.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return pa.int64()
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.string()
    return None
