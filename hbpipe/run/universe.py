"""The universe of stores: a dimension table beside the units that events have shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hbpipe.config import Stores
from hbpipe.data.attributes import to_values
from hbpipe.data.events import level_type
from hbpipe.data.spelling import nearest
from hbpipe.errors import EventsError


def stores_digest(stores: Stores) -> str:
    """Hash the dimension table's content; empty when there is none."""
    if stores.path is None or not Path(stores.path).is_file():
        return ""
    return hashlib.sha256(Path(stores.path).read_bytes()).hexdigest()[:16]


def read_stores(
    stores: Stores,
    levels: tuple[str, ...],
    level_types: tuple[str, ...],
    attributes: tuple[str, ...] = (),
) -> pa.Table | None:
    """Read levels and ``attributes`` from the dimension table; None when there is none.

    Raises
    ------
    EventsError
        When it is missing, lacks a level or an attribute, has nulls in a level, or lists a unit
        twice.
    """
    if stores.path is None:
        return None
    where = {"stores.path": stores.path}
    try:
        table = pq.read_table(stores.path, partitioning=None)
    except (OSError, pa.ArrowInvalid) as error:
        raise EventsError(
            f"the table of stores is not readable: {str(error).splitlines()[0]}",
            where=where,
            expected="a Parquet file with one row per store",
        ) from None
    for name in (*levels, *attributes):
        if name not in table.column_names:
            raise EventsError(
                f"the table of stores has no column {name!r}{nearest(name, table.column_names)}",
                where=where,
            )
    for name, kind in zip(levels, level_types, strict=True):
        found = level_type(table.schema.field(name).type)
        if str(found) != kind or table.column(name).null_count:
            raise EventsError(
                f"level {name!r} of the table of stores is {table.schema.field(name).type}, with "
                f"{table.column(name).null_count} nulls",
                where=where,
                expected=f"{kind} without nulls, as in the events",
            )
    chosen = table.select(list(levels))
    if chosen.group_by(list(levels)).aggregate([]).num_rows < chosen.num_rows:
        raise EventsError("a store is listed twice", where=where, expected="one row per store")
    types = [level_type(field.type) for field in chosen.schema]
    listed = chosen.cast(pa.schema(list(zip(levels, types, strict=True))))
    for name in attributes:
        if name not in levels:
            listed = listed.append_column(name, table.column(name))
    return listed


def check_weights(listed: pa.Table, columns: Iterable[str]) -> None:
    """Refuse a table of stores whose weights are none; a null is a weight that nobody knows.

    Raises
    ------
    EventsError
        When a column holds no numbers, or a negative or infinite one.
    """
    for name in columns:
        kind = listed.schema.field(name).type
        numbers = pa.types.is_integer(kind) or pa.types.is_floating(kind)
        if not (numbers or pa.types.is_decimal(kind)):
            raise EventsError(
                f"the weight {name!r} of the table of stores is {kind}", expected="numbers"
            )
        values = to_values(listed.column(name), categorical=False)
        bad = np.flatnonzero((values < 0) | np.isinf(values))
        if len(bad):
            raise EventsError(
                f"the weight {name!r} of the table of stores is {values[bad[0]]:g} in a row",
                expected="numbers from 0, or null where it is not known",
            )
