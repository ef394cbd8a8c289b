"""Tables leave as Parquet, CSV or Arrow files."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from hbpipe.errors import HbpipeError
from hbpipe.report.plain import to_json

#: What a table is written as, by the suffix of the file.
FORMATS = {".parquet": "Parquet", ".csv": "CSV", ".arrow": "Arrow IPC"}


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table, whole or not at all; see :func:`write_tables`."""
    write_tables(table.schema, [table], path)


def write_tables(schema: pa.Schema, tables: Iterable[pa.Table], path: Path) -> int:
    """Write tables of one schema after each other into one file, whole or not at all.

    Parameters
    ----------
    path
        ``.parquet``, ``.csv`` or ``.arrow``. In CSV the columns that hold lists, structs or maps
        are JSON text.

    Returns
    -------
    int
        Rows that were written.

    Raises
    ------
    HbpipeError
        Another suffix, or a table that cannot be written so.
    OSError
        When the disk refuses.
    """
    require_format(path, FORMATS)
    rows = 0
    with _whole_file(path) as spool:
        try:
            with _writer(schema, path.suffix, spool) as writer:
                for table in tables:
                    writer.write_table(_flat(table) if path.suffix == ".csv" else table)
                    rows += table.num_rows
        except pa.ArrowException as error:
            raise HbpipeError(
                f"cannot write {path}: {str(error).splitlines()[0]}",
                remedy="choose other --columns, or write .parquet",
            ) from None
    return rows


def require_format(path: Path, formats: Iterable[str]) -> None:
    """Refuse a file whose suffix is none of these.

    Raises
    ------
    HbpipeError
    """
    if path.suffix not in formats:
        raise HbpipeError(f"cannot write {path.name}", expected=f"a name in {', '.join(formats)}")


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` that takes its name when all went well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spool = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        yield spool
        spool.replace(path)
    finally:
        spool.unlink(missing_ok=True)


def _writer(schema: pa.Schema, suffix: str, path: Path) -> Any:
    if suffix == ".parquet":
        return pq.ParquetWriter(str(path), schema)
    if suffix == ".csv":
        return pacsv.CSVWriter(str(path), _flat(schema.empty_table()).schema)
    return pa.ipc.new_file(str(path), schema)


def _flat(table: pa.Table) -> pa.Table:
    """Give nested columns as JSON text, a null as a null."""
    for place, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            texts = [None if v is None else to_json(v) for v in table[column.name].to_pylist()]
            table = table.set_column(place, column.name, pa.array(texts, pa.string()))
    return table
