"""Repeated events: within a business day the first by (path, row group, row) counts.

Ids are compared exactly, by Arrow's dictionary codes. A repeat that differs from the copy that
counts, in any column that is read, is conflicting; it is counted, and still does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
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
    return first[codes]


def rows_differ(left: pa.Table, right: pa.Table) -> Mask:
    """Return where two tables of equal shape differ in any column; null equals null."""
    differ = np.zeros(left.num_rows, np.bool_)
    for one, other in zip(left.columns, right.columns, strict=True):
        a, b = _plain(one), _plain(other)
        differ |= np.fromiter((x != y for x, y in zip(a, b, strict=True)), np.bool_, len(a))
    return differ


def _plain(column: pa.ChunkedArray) -> list[Any]:
    """Return comparable values: NaN equals NaN, as a copied row is no conflict."""
    return ["nan" if value != value else value for value in column.to_pylist()]
