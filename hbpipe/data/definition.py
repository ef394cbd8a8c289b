"""A table's name, columns and partitions: what is possible, what exists, what is still missing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema

from hbpipe.data.commit import (
    add_columns,
    compare_and_swap,
    create_once,
    open_table,
    require_table,
)
from hbpipe.data.durable import Storage, make_folder, require_create_if_absent
from hbpipe.data.parts import Receipt
from hbpipe.errors import LakeError

#: Only ``hbpipe vacuum`` trims the log: clean-up deletes versions that releases name.
_CONFIGURATION = {"delta.enableExpiredLogCleanup": "false"}
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def create_table(
    storage: Storage, name: str, schema: pa.Schema, partition_by: Sequence[str]
) -> DeltaTable:
    """Create a table unless it exists, and return it opened; see ``Lake.create``."""
    _check_definition(storage.uri, name, schema, partition_by)
    table = open_table(storage, name)
    if table is None:
        if storage.local:
            make_folder(Path(storage.path(name)))
        require_create_if_absent(storage)
        create_once(
            storage,
            name,
            schema=Schema.from_arrow(schema),
            partition_by=list(partition_by),
            configuration=_CONFIGURATION,
        )
        table = require_table(storage, name)
    found = table.metadata().partition_columns
    if found != list(partition_by):
        raise LakeError(
            f"the table {_partitions(found)}",
            where={"lake": storage.uri, "table": name},
            expected=f"one that {_partitions(partition_by)}",
            remedy="another version of hbpipe made it, and partitions never change within a lake: "
            "run and `hbpipe backfill` into a new lake.path; this lake stays readable as it is",
        )
    _new_columns(storage.uri, name, table, schema)
    return table


def prepare_table(
    storage: Storage, name: str, schema: pa.Schema, partition_by: Sequence[str]
) -> int:
    """Create a table or add the columns that it lacks; as ``Lake.create``, ``ensure_schema``."""
    opened = create_table(storage, name, schema, partition_by)
    return ensure_columns(storage, name, schema, opened)


def _partitions(columns: Sequence[str]) -> str:
    return f"is partitioned by {', '.join(columns)}" if columns else "has no partitions"


def ensure_columns(
    storage: Storage, name: str, schema: pa.Schema, opened: DeltaTable | None = None
) -> int:
    """Add the columns that a table lacks; see ``Lake.ensure_schema``, and ``compare_and_swap``."""

    def decide(table: DeltaTable) -> Callable[[CommitProperties], None] | None:
        missing = _new_columns(storage.uri, name, table, schema)
        if not missing:
            return None
        _check_types({"lake": storage.uri, "table": name}, pa.schema(missing))
        fields = Schema.from_arrow(pa.schema(missing)).fields
        return lambda properties: add_columns(table, fields, properties)

    return compare_and_swap(storage, name, decide, opened=opened)


def check_receipts(
    uri: str, name: str, receipts: Iterable[Receipt], partitions: Sequence[Mapping[str, str]]
) -> None:
    """Refuse a receipt of another table, or of a partition that is not being replaced.

    Raises
    ------
    LakeError
        Naming the file: published beside the partition's present rows it would count them twice.
    """
    for receipt in receipts:
        where = {"lake": uri, "table": name, "file": receipt.path}
        if receipt.table != name:
            raise LakeError(f"the receipt is for table {receipt.table!r}", where=where)
        if dict(receipt.partition) not in partitions:
            raise LakeError(
                f"the receipt's partition {dict(receipt.partition)} is not being replaced",
                where=where,
                expected=f"one of {list(partitions)}",
                remedy="name every partition of the receipts in replaces",
            )


def _check_definition(uri: str, name: str, schema: pa.Schema, partition_by: Sequence[str]) -> None:
    """Refuse a name, a type or a partition that Delta or a path cannot carry."""
    where = {"lake": uri, "table": name}
    if not _NAME.fullmatch(name):
        raise LakeError(
            "the table's name is not usable",
            where=where,
            expected="a lower-case letter, then up to 62 lower-case letters, digits, underscores",
        )
    _check_types(where, schema)
    for column in partition_by:
        if column not in schema.names or schema.field(column).type != pa.date32():
            raise LakeError(
                f"partition column {column!r} is not a date of the schema",
                where=where,
                expected="a date32 column: other values could be hostile in a path",
            )


def _new_columns(uri: str, name: str, table: DeltaTable, wanted: pa.Schema) -> list[pa.Field]:
    """Return the columns that a table lacks, as nullable fields; refuse another type."""
    found = pa.schema(table.schema())
    missing = []
    for column in wanted:
        if column.name not in found.names:
            missing.append(column.with_nullable(True))
        elif found.field(column.name).type != column.type:
            raise LakeError(
                f"column {column.name!r} is {found.field(column.name).type}",
                where={"lake": uri, "table": name},
                expected=str(column.type),
                remedy="a type never changes within a lake: use another column or lake path",
            )
    return missing


def _check_types(where: Mapping[str, str], schema: pa.Schema) -> None:
    for column in schema:
        kept = _delta_type(column)
        if kept != column.type:
            raise LakeError(
                f"column {column.name!r} is {column.type}, which Delta does not have",
                where=dict(where),
                expected="another type" if kept is None else str(kept),
                remedy="declare the column with a type that every reader of the lake knows",
            )


def _delta_type(column: pa.Field) -> pa.DataType | None:
    """Return the type that Delta would store, or None when it has nothing like it.

    deltalake takes nanoseconds and nulls, but Delta's timestamps are microseconds and it has no
    null type, so other readers would refuse the table.
    """
    if pa.types.is_null(column.type):
        return None
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        return pa.timestamp("us", column.type.tz)
    try:
        return pa.schema(Schema.from_arrow(pa.schema([column]))).field(0).type
    except Exception:  # deltalake raises a bare Exception here
        return None
