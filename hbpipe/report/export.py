"""Tables and values leave as JSON, CSV or Parquet."""

from __future__ import annotations

import json
import math
import uuid
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from hbpipe.errors import HbpipeError


def to_json(value: Any) -> str:
    """Write values of Python, Arrow and numpy as JSON on one line; NaN and infinity as null."""
    return json.dumps(_plain(value), allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(below) for below in value]
    if isinstance(value, date | datetime):
        return value.isoformat()
    if hasattr(value, "item"):
        return _plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table as ``.parquet`` or ``.csv``, whole or not at all.

    In CSV the columns that hold lists, structs or maps are JSON text.

    Raises
    ------
    HbpipeError
        Another suffix, or a table that cannot be written so.
    OSError
        When the disk refuses.
    """
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    writers = {".parquet": pq.write_table, ".csv": pacsv.write_csv}
    if path.suffix not in writers:
        raise HbpipeError(f"cannot write {path.name}", expected="a name in .parquet or .csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    spool = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        writers[path.suffix](_flat(table) if path.suffix == ".csv" else table, str(spool))
        spool.replace(path)
    except pa.ArrowException as error:
        raise HbpipeError(
            f"cannot write {path}: {str(error).splitlines()[0]}",
            remedy="choose other --columns, or write .parquet",
        ) from None
    finally:
        spool.unlink(missing_ok=True)


def _flat(table: pa.Table) -> pa.Table:
    """Give nested columns as JSON text, a null as a null."""
    for place, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            texts = [None if v is None else to_json(v) for v in table[column.name].to_pylist()]
            table = table.set_column(place, column.name, pa.array(texts, pa.string()))
    return table
