"""Rows taken out of a table: the files that hold them are written anew, all others stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hbpipe.data.durable import Storage
from hbpipe.data.parts import Receipt, write_part
from hbpipe.data.publish import Change, publish_change
from hbpipe.data.snapshot import FileRef, Snapshot

#: Gives the rows that stay, changed or not; the very same table where nothing changes.
Revise = Callable[[pa.Table], pa.Table]


def drop_partitions(
    storage: Storage,
    name: str,
    goes: Callable[[FileRef], bool],
    *,
    metadata: Mapping[str, Any],
) -> int:
    """Take files out of the newest version, in one transaction; returns and raises as a commit."""

    def change(snapshot: Snapshot) -> Change:
        return Change([], snapshot.select(goes).files)

    return publish_change(storage, name, change, metadata=metadata)


def rewrite_rows(
    storage: Storage,
    name: str,
    revise: Revise,
    *,
    run_id: str,
    metadata: Mapping[str, Any] | None = None,
) -> int:
    """Revise the rows of the newest version, in one transaction.

    Parameters
    ----------
    revise
        Sees the rows of one row group at a time, with the partition's columns.
    run_id
        Part of the new files' names; a column ``run_id`` keeps what it says.

    Returns
    -------
    int
        The version that holds the change; the present one where nothing changes.

    Raises
    ------
    LakeError
        A file is damaged, or as ``publish_change``.
    """

    def change(snapshot: Snapshot) -> Change:
        adds: list[Receipt] = []
        removes: list[FileRef] = []
        for file in snapshot.files:
            whole, groups = _revised(snapshot, file, revise)
            if whole:
                continue
            removes.append(file)
            if any(group.num_rows for group in groups):
                adds.append(_rewrite(snapshot, file, groups, run_id))
        return Change(adds, removes)

    return publish_change(storage, name, change, metadata={"run_id": run_id, **(metadata or {})})


def without(rows: pa.Table, goes: pa.ChunkedArray) -> pa.Table:
    """Return the rows that stay; the very same table where all do, as ``rewrite_rows`` asks."""
    return rows.filter(pc.invert(goes)) if pc.any(goes).as_py() else rows


def _revised(snapshot: Snapshot, file: FileRef, revise: Revise) -> tuple[bool, list[pa.Table]]:
    """Revise every row group of a file; True where all are as they were."""
    found = list(row_groups(snapshot, file))
    revised = [revise(group) for group in found]
    return all(one is two for one, two in zip(found, revised, strict=True)), revised


def row_groups(snapshot: Snapshot, file: FileRef) -> Iterator[pa.Table]:
    """Read a file row group by row group, with the partition's columns.

    Raises
    ------
    LakeError
        The file is missing or damaged.
    """
    alone = snapshot.select(lambda one: one.path == file.path)
    rows = alone.read()
    start = 0
    for count in _group_sizes(snapshot, file):
        yield rows.slice(start, count)
        start += count


def _group_sizes(snapshot: Snapshot, file: FileRef) -> list[int]:
    metadata = _footer(snapshot, file)
    return [metadata.row_group(k).num_rows for k in range(metadata.num_row_groups)]


def _footer(snapshot: Snapshot, file: FileRef) -> pq.FileMetaData:
    path = snapshot.storage.path(snapshot.name, file.path)
    with snapshot.storage.filesystem().open_input_file(path) as source:
        return pq.read_metadata(source)


def _rewrite(snapshot: Snapshot, file: FileRef, groups: list[pa.Table], run_id: str) -> Receipt:
    """Write the rows that stay as the file was written: its groups, encodings and statistics."""
    schema = snapshot.data_schema
    return write_part(
        snapshot.storage,
        snapshot.name,
        (group.select(schema.names) for group in groups),
        schema=schema,
        run_id=run_id,
        partition=file.partition,
        dictionary=_dictionary_columns(_footer(snapshot, file)),
        statistics=tuple(file.statistics),
    )


def _dictionary_columns(metadata: pq.FileMetaData) -> list[str]:
    if not metadata.num_row_groups:
        return []
    first = metadata.row_group(0)
    columns = [first.column(k) for k in range(first.num_columns)]
    return [one.path_in_schema for one in columns if one.has_dictionary_page]
