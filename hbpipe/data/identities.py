"""What must be true of a day's statistics whatever the events: identities and keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.model.family import Family


def count_impossible(family: Family, statistics: Mapping[str, NDArray[Any]]) -> int:
    """Count the units whose statistics no events can have.

    A number is NaN or, where it does not stand for "no data", infinite; below its lowest value
    (squares about a mean, counts); or above what bounds it (successes above trials).
    """
    wrong = np.zeros(len(next(iter(statistics.values()))), np.bool_)
    for item in family.statistics:
        values = statistics[item.name]
        bad = ~np.isfinite(values) & ~(values == item.absent)
        if item.lowest is not None:
            bad |= values < item.lowest
        if item.at_most is not None:
            bad |= values > statistics[item.at_most]
        wrong |= bad.any(axis=tuple(range(1, bad.ndim)))
    return int(wrong.sum())


def count_repeated(keys: Sequence[pa.Array | pa.ChunkedArray]) -> int:
    """Count the rows whose key, one array (U,) per level, stands in another row already."""
    names = [str(level) for level in range(len(keys))]
    table = pa.table(list(keys), names=names)
    distinct = table.group_by(names, use_threads=False).aggregate([])
    return int(table.num_rows - distinct.num_rows)


def count_repeated_in_order(keys: Sequence[pa.Array | pa.ChunkedArray]) -> int:
    """Count as ``count_repeated`` the rows of keys that stand in order, without a table of them."""
    alike = np.ones(max(len(keys[0]) - 1, 0), np.bool_)
    for key in keys:
        alike &= pc.equal(key[1:], key[:-1]).to_numpy(zero_copy_only=False)
    return int(alike.sum())
