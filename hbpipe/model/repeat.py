"""Several points of the same pools at once: every pool of a sketch, repeated.

A posterior is looked at from many points. One call for all of them costs little more than one
call for one, because the arrays of a single pool are short.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np

from hbpipe.model.grouped import Rows


def repeat_pools(sketch: Any, times: int) -> Any:
    """Return the sketch of G × times pools: each pool ``times`` times in a row."""
    return _repeat(sketch, times, sketch.n_pools)


def count_rows(sketch: Any) -> int:
    """Count the rows of all ragged tables of a sketch."""
    if isinstance(sketch, Rows):
        return len(sketch.pool)
    if is_dataclass(sketch):
        return sum(count_rows(getattr(sketch, field.name)) for field in fields(sketch))
    return 0


def _repeat(value: Any, times: int, n_pools: int) -> Any:
    if isinstance(value, Rows):
        return _repeat_rows(value, times)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: _repeat(getattr(value, f.name), times, n_pools) for f in fields(value)}
        return replace(value, **parts)
    if isinstance(value, np.ndarray) and value.shape[:1] == (n_pools,):
        return np.repeat(value, times, axis=0)
    return value


def _repeat_rows(rows: Rows, times: int) -> Rows:
    """Repeat each pool's block of rows; the blocks stay in order, so sums keep their bits."""
    count = np.repeat(np.bincount(rows.pool, minlength=rows.n_pools), times)
    pool = np.repeat(np.arange(len(count)), count)
    first = np.repeat(np.searchsorted(rows.pool, np.arange(rows.n_pools)), times)
    before = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.int64)
    source = np.arange(len(pool)) - before[pool] + first[pool]
    columns = {name: values[source] for name, values in rows.columns.items()}
    return Rows(len(count), pool, columns)
