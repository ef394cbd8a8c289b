"""Repeated events: within a business day the first by (path, row group, row) counts.

Ids are compared exactly, by Arrow's dictionary codes. A repeat that differs from the copy that
counts, in any column that is read, is conflicting; it is counted, and still does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.units import compact, encode_any

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Repeats:
    """Which rows (E,) repeat an earlier event, and which of those differ from it."""

    rows: Mask
    conflicting: Mask


def find_repeats(
    table: pa.Table, event_id: tuple[str, ...], days: NDArray[np.int32], valid: Mask
) -> Repeats:
    """Find the repeats among the valid rows of one table, in row order."""
    repeated = np.zeros(table.num_rows, np.bool_)
    conflicting = np.zeros(table.num_rows, np.bool_)
    if event_id:
        rows = np.flatnonzero(valid)
        chosen = table if len(rows) == table.num_rows else table.take(pa.array(rows))
        first = first_rows(chosen.select(list(event_id)), days[rows])
        repeats = np.flatnonzero(first != np.arange(len(rows)))
        repeated[rows[repeats]] = True
        differ = rows_differ(chosen.take(pa.array(repeats)), chosen.take(pa.array(first[repeats])))
        conflicting[rows[repeats]] = differ
    return Repeats(repeated, conflicting)


def first_rows(ids: pa.Table, days: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return, for each row, the first row with the same day and id."""
    n = ids.num_rows
    if n == 0:
        return np.empty(0, np.int64)
    codes, size = (days - days.min()).astype(np.int64), int(days.max() - days.min()) + 1
    everything = np.ones(n, np.bool_)
    for column in ids.columns:
        encoded = encode_any(column)
        codes = codes * len(encoded.values) + encoded.codes
        codes, present = compact(codes, size * len(encoded.values), everything)
        size = len(present)
    first = np.empty(size, np.int64)
    first[codes[::-1]] = np.arange(n)[::-1]  # the last write wins: the earliest row
    return np.asarray(first[codes])


def rows_differ(left: pa.Table, right: pa.Table) -> Mask:
    """Return where two tables of equal shape differ in any column.

    Null equals null and NaN equals NaN, as a copied row is no conflict.
    """
    differ = np.zeros(left.num_rows, np.bool_)
    for one, other in zip(left.columns, right.columns, strict=True):
        a, b = plain(one), plain(other)
        if a.type != b.type:
            a, b = a.cast(pa.string()), b.cast(pa.string())
        absent = np.asarray(a.is_null().to_numpy()) != np.asarray(b.is_null().to_numpy())
        unequal = pc.fill_null(pc.not_equal(a, b), False)
        if pa.types.is_floating(a.type):
            both = pc.fill_null(pc.and_(pc.is_nan(a), pc.is_nan(b)), False)
            unequal = pc.and_not(unequal, both)
        differ |= absent | np.asarray(unequal.to_numpy())
    return differ


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return values that Arrow compares, in one type for each kind of number and text.

    Files of one folder may disagree in width: the same amount as float and double is no conflict.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return column.cast(pa.int64())
    if pa.types.is_floating(kind):
        return column.cast(pa.float64())
    if pa.types.is_large_string(kind):
        return column.cast(pa.string())
    return column
