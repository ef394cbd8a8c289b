"""One Parquet file of a table: written by a worker, verified by the driver.

A *part* is written whole, under a name no other attempt can have, and reported by a small
*receipt*. Nothing reads it until a commit names it, so a lost worker costs only time.

Integrity: every page carries a CRC-32, which readers verify. The footer carries none, so the
file's name ends with a digest of it, which readers verify too, and one of the whole file, which
``Snapshot.verify`` does: only that one covers the few bytes of the pages' headers.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hbpipe.data.durable import Storage
from hbpipe.data.footer import (
    check_columns,
    file_digest,
    read_footer,
    schema_digest,
    signature,
)
from hbpipe.errors import LakeError

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: Longer strings make poor statistics and large logs.
_LONGEST_STATISTIC = 64
#: Rows that the writer takes at a time: with its own 1024, each column costs a tenth more.
_BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class Receipt:
    """What a worker reports about one part; picklable, a few hundred bytes.

    Attributes
    ----------
    table, path
        The table's name, and the file's path relative to the table.
    size, rows
        Bytes and rows.
    partition
        Partition column to ISO date; empty for a table without partitions.
    schema_digest, footer_digest, digest
        SHA-256 of the data columns' names and types; of the Parquet footer; of the whole file.
    statistics
        Column to (least, greatest), for the columns asked for that hold comparable values.
    null_counts
        Column to number of nulls, for the same columns.
    seconds
        Time taken to write.
    """

    table: str
    path: str
    size: int
    rows: int
    partition: Mapping[str, str]
    schema_digest: str
    footer_digest: str
    digest: str
    statistics: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    null_counts: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


def write_part(
    storage: Storage,
    name: str,
    tables: pa.Table | Iterable[pa.Table],
    *,
    schema: pa.Schema,
    run_id: str,
    partition: Mapping[str, str] | None = None,
    dictionary: Sequence[str] | None = None,
    statistics: Sequence[str] = (),
    compression: str = "zstd",
) -> Receipt:
    """Write one whole, durable Parquet file that no reader sees before it is published.

    Parameters
    ----------
    storage
        The lake's storage.
    name
        The table.
    tables
        Rows with exactly the columns of ``schema``, in any order. Each table becomes one row
        group, so a reader of one metric decodes no other.
    schema
        The table's data columns: its Delta schema without the partition columns.
    run_id
        The run, as part of the file's name.
    partition
        Partition column to ISO date.
    dictionary
        Columns to dictionary-encode; by default the strings. Floats hardly repeat.
    statistics
        Columns that get least and greatest values, in the file and in the log.
    compression
        ``zstd``, or ``snappy``: twice as quick to write, and twice as large.

    Returns
    -------
    Receipt
        What ``Lake.publish`` verifies.

    Raises
    ------
    LakeError
        Columns or types differ from ``schema``; the partition is not a date; the disk is full or
        fails; the file does not read back.
    """
    started = time.perf_counter()
    values = dict(partition or {})
    folder = _folder(name, values)
    _check_run_id(name, run_id)
    options = _writer_options(schema, dictionary, statistics, compression)
    try:
        with storage.spool() as spool:
            rows = _write(spool, tables, schema, name, options)
            metadata, digest, file_sha256 = _verify_spool(spool, rows, name)
            relative = folder + _file_name(run_id, signature(digest, file_sha256, compression))
            size = spool.stat().st_size
            storage.put(spool, storage.path(name, relative))
    except OSError as error:
        raise LakeError(
            f"a part could not be written: {error}",
            where={"lake": storage.uri, "table": name, **values},
            remedy="free space or repair the disk, then run again: nothing was published",
        ) from error
    bounds, nulls = _footer_statistics(metadata, statistics)
    return Receipt(
        table=name,
        path=relative,
        size=size,
        rows=rows,
        partition=values,
        schema_digest=schema_digest(schema),
        footer_digest=digest,
        digest=file_sha256,
        statistics=bounds,
        null_counts=nulls,
        seconds=time.perf_counter() - started,
    )


def verify_part(storage: Storage, receipt: Receipt, schema: pa.Schema) -> None:
    """Check that a receipt's file exists, whole, with its rows and the table's schema.

    Raises
    ------
    LakeError
        Naming the file and what differs.
    """
    path = storage.path(receipt.table, receipt.path)
    where = {"lake": storage.uri, "table": receipt.table, "file": receipt.path}
    size = storage.size(path)
    if size is None:
        raise LakeError(
            "a staged file has vanished",
            where=where,
            expected=f"{receipt.size} bytes",
            remedy="run again: nothing was published",
        )
    if size != receipt.size:
        raise _differs("size", size, receipt.size, where)
    footer, metadata = read_footer(storage.filesystem(), path, size, where)
    digest = hashlib.sha256(footer).hexdigest()
    if digest != receipt.footer_digest:
        raise _differs("footer SHA-256", digest, receipt.footer_digest, where)
    if metadata.num_rows != receipt.rows:
        raise _differs("rows", metadata.num_rows, receipt.rows, where)
    check_columns(metadata.schema.to_arrow_schema(), schema, where)


def _folder(name: str, partition: Mapping[str, str]) -> str:
    """Hive folder of a partition. Only dates get into paths: ids could be hostile, or collide."""
    for column, value in partition.items():
        try:
            valid = dt.date.fromisoformat(value).isoformat() == value
        except ValueError:
            valid = False
        if not valid:
            raise LakeError(
                f"partition value {value!r} is not an ISO date",
                where={"table": name, "column": column},
                expected="YYYY-MM-DD",
            )
    return "".join(f"{column}={value}/" for column, value in partition.items())


def _file_name(run_id: str, signed: str) -> str:
    return f"part-{run_id}-{uuid.uuid4().hex}-{signed}"


def _check_run_id(name: str, run_id: str) -> None:
    if not _RUN_ID.fullmatch(run_id):
        raise LakeError(
            f"run id {run_id!r} cannot be part of a file name",
            where={"table": name},
            expected="1 to 64 letters, digits, dots, dashes or underscores",
        )


def _writer_options(
    schema: pa.Schema,
    dictionary: Sequence[str] | None,
    statistics: Sequence[str],
    compression: str,
) -> dict[str, Any]:
    if dictionary is None:
        dictionary = [column.name for column in schema if pa.types.is_string(column.type)]
    return {
        "compression": compression,
        "compression_level": 1 if compression == "zstd" else None,
        "use_dictionary": list(dictionary) or False,
        "write_statistics": list(statistics) or False,
        "write_page_checksum": True,
        "write_batch_size": _BATCH_ROWS,
    }


def _write(
    spool: Path,
    tables: pa.Table | Iterable[pa.Table],
    schema: pa.Schema,
    name: str,
    options: Mapping[str, Any],
) -> int:
    rows, coded = 0, _coded(schema, options["use_dictionary"] or ())
    with (
        pa.OSFile(str(spool), "wb") as sink,
        pq.ParquetWriter(sink, coded, store_schema=False, **options) as writer,
    ):
        for group in [tables] if isinstance(tables, pa.Table) else tables:
            check_columns(group.schema, schema, {"table": name})
            if group.num_rows:
                columns = [_as_type(group.column(one.name), one.type) for one in coded]
                writer.write_table(pa.table(columns, schema=coded), row_group_size=group.num_rows)
                rows += group.num_rows
    return rows


def _coded(schema: pa.Schema, dictionary: Sequence[str]) -> pa.Schema:
    """Give texts that are written as dictionaries to the writer as such: it need not hash them."""
    coded = pa.dictionary(pa.int32(), pa.string())
    types = {
        one.name: coded if one.name in dictionary and pa.types.is_string(one.type) else one.type
        for one in schema
    }
    return pa.schema([one.with_type(types[one.name]) for one in schema])


def _as_type(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if column.type == kind:
        return column
    if pa.types.is_dictionary(kind) and not pa.types.is_dictionary(column.type):
        return column.cast(kind.value_type).dictionary_encode()
    return column.cast(kind)


def _verify_spool(spool: Path, rows: int, name: str) -> tuple[pq.FileMetaData, str, str]:
    """Read the file back: closing a writer on a full disk can raise nothing and leave it broken.

    Returns what the footer says, and the digests of footer and file.
    """
    where = {"table": name, "file": spool.name}
    footer, metadata = read_footer(pafs.LocalFileSystem(), str(spool), spool.stat().st_size, where)
    if metadata.num_rows != rows:
        raise _differs("rows", metadata.num_rows, rows, where)
    digest = file_digest(pafs.LocalFileSystem(), str(spool))
    return metadata, hashlib.sha256(footer).hexdigest(), digest


def _footer_statistics(
    metadata: pq.FileMetaData, columns: Sequence[str]
) -> tuple[dict[str, tuple[Any, Any]], dict[str, int]]:
    bounds: dict[str, tuple[Any, Any]] = {}
    nulls: dict[str, int] = {}
    positions = {metadata.schema.column(i).path: i for i in range(metadata.num_columns)}
    for column in columns:
        found = [
            metadata.row_group(group).column(positions[column]).statistics
            for group in range(metadata.num_row_groups)
        ]
        nulls[column] = sum(one.null_count for one in found)
        ranges = [(one.min, one.max) for one in found if one.has_min_max]
        if ranges and all(_comparable(value) for pair in ranges for value in pair):
            bounds[column] = (min(low for low, _ in ranges), max(high for _, high in ranges))
    return bounds, nulls


def _comparable(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_STATISTIC
    return isinstance(value, int) or type(value) is dt.date


def _differs(what: str, found: Any, expected: Any, where: Mapping[str, Any]) -> LakeError:
    return LakeError(
        f"a staged file's {what} is {found}",
        where=dict(where),
        expected=str(expected),
        remedy="run again: nothing was published",
    )
