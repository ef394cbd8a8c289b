"""Statistics between numpy and Arrow: one number in a row, or an array of them as a list.

An array of several axes lies in its list row by row (the last axis runs fastest), so that a table
has one type for all lengths: two regressions of one table may have different predictors.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.errors import LakeError
from hbpipe.model.family import Statistic

_TYPES = {"int64": pa.int64(), "float64": pa.float64()}
#: Numbers in one chunk of lists, whose ends Arrow counts in 32 bits.
CHUNK = 2**31 - 1


def arrow_type(statistic: Statistic) -> pa.DataType:
    """Return how the lake stores a statistic."""
    one = _TYPES[statistic.dtype]
    return pa.list_(one) if statistic.shape else one


def to_arrow(values: NDArray[Any]) -> pa.Array | pa.ChunkedArray:
    """Return numbers (R,) as they are, arrays (R, ...) as lists."""
    if values.ndim == 1:
        return pa.array(values)
    width = math.prod(values.shape[1:])
    rows = max(1, CHUNK // max(width, 1))
    flat = np.ascontiguousarray(values).reshape(len(values), width)
    chunks = [_lists(flat[at : at + rows]) for at in range(0, max(len(flat), 1), rows)]
    return pa.chunked_array(chunks)


def _lists(rows: NDArray[Any]) -> pa.Array:
    ends = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.shape[1])
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(rows.reshape(-1)))


def to_numpy(column: pa.ChunkedArray, statistic: Statistic) -> NDArray[Any]:
    """Return a column of the lake as (R, ...).

    Raises
    ------
    LakeError
        When a row has another number of values than the statistic.
    """
    if not statistic.shape:
        return np.asarray(column.to_numpy())
    width = math.prod(statistic.shape)
    flat = [np.empty(0, statistic.dtype)]
    for chunk in column.chunks:
        _require_width(chunk, statistic, width)
        flat.append(chunk.flatten().to_numpy())
    return np.concatenate(flat).reshape(-1, *statistic.shape)


def _require_width(chunk: pa.ListArray, statistic: Statistic, width: int) -> None:
    lengths = pc.list_value_length(chunk).fill_null(0).to_numpy()
    others = lengths[lengths != width]
    if len(others):
        raise LakeError(
            f"a row of {statistic.name!r} has {others[0]} numbers",
            expected=f"{width}, as the metric has terms",
            remedy="deliver the events of the days that other settings have summarised again, or "
            "choose a shorter window",
        )
