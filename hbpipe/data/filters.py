"""Row filters as plain data, checked against a table's schema before any file is opened."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from hbpipe.errors import LakeError

#: ``(column, op, value)``; op is one of ``= == != < <= > >= in not in``.
Condition: TypeAlias = tuple[str, str, Any]
#: Conditions that must all hold, or a list of such lists, one of which must.
Filters: TypeAlias = Sequence[Condition] | Sequence[Sequence[Condition]]


def expression(filters: Filters, schema: pa.Schema, where: Mapping[str, Any]) -> ds.Expression:
    """Turn filters into an Arrow expression; ISO text stands for a date in date columns.

    Raises
    ------
    LakeError
        A column, an operator or a value's type does not fit the schema.
    """
    try:
        built = pq.filters_to_expression([_typed(one, schema) for one in filters])
        ds.dataset(schema.empty_table()).to_table(filter=built)
    except (pa.ArrowException, ValueError, TypeError, KeyError) as error:
        raise LakeError(
            f"the filter {list(filters)} does not fit the table: {error}",
            where=dict(where),
            expected=", ".join(f"{column.name}: {column.type}" for column in schema),
        ) from error
    return built


def _typed(one: Any, schema: pa.Schema) -> Any:
    """Type one condition, or every condition of one conjunction."""
    if not isinstance(one, tuple):
        return [_typed(condition, schema) for condition in one]
    column, operator, value = one
    if schema.field(column).type != pa.date32():
        return one
    if isinstance(value, (list, tuple, set, frozenset)):
        return column, operator, [_date(item) for item in value]
    return column, operator, _date(value)


def _date(value: Any) -> Any:
    return dt.date.fromisoformat(value) if isinstance(value, str) else value
