"""Rows replaced by key, for the small tables of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from hbpipe.data.footer import check_columns
from hbpipe.errors import LakeError


def merge(
    present: pa.Table, rows: pa.Table, key: Sequence[str], where: Mapping[str, Any]
) -> pa.Table:
    """Replace the rows of ``present`` whose key is in ``rows``, keep the others, sort by key.

    Parameters
    ----------
    present, rows
        Tables of the same columns; keys are unique in each.
    key
        Key columns.
    where
        The place, for errors.

    Raises
    ------
    LakeError
        The columns differ, or a key of ``rows`` is null or repeated.
    """
    check_columns(rows.schema, present.schema, where)
    keys = _unique_keys(rows, key, where)
    kept = pa.array([one not in keys for one in _keys(present, key)], pa.bool_())
    new = rows.select(present.column_names).cast(present.schema)
    merged = pa.concat_tables([present.filter(kept), new])
    return merged.sort_by([(column, "ascending") for column in key])


def _keys(rows: pa.Table, key: Sequence[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(rows.column(name).to_pylist() for name in key), strict=True))


def _unique_keys(
    rows: pa.Table, key: Sequence[str], where: Mapping[str, Any]
) -> set[tuple[Any, ...]]:
    seen: set[tuple[Any, ...]] = set()
    for one in _keys(rows, key):
        if one in seen or None in one:
            raise LakeError(
                f"key {one} is {'repeated' if one in seen else 'null'}",
                where=dict(where),
                expected=f"each {', '.join(key)} once and not null",
            )
        seen.add(one)
    return seen
