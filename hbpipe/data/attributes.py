"""Attributes of units: columns of the table of stores, looked up by key and turned into values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.covariates import Covariate
from hbpipe.data.units import encode, find_units


def look_up(
    keys: tuple[pa.Array, ...], listed: pa.Table, levels: tuple[str, ...], columns: tuple[str, ...]
) -> pa.Table:
    """Bring units their attributes.

    Parameters
    ----------
    keys
        One array (U,) for each of the ``levels`` that name a unit.
    listed
        The table of stores: one row for each store, with ``levels`` and ``columns``.

    Returns
    -------
    The ``columns`` (U,), null where a unit is not listed.
    """
    both = [
        encode(pa.chunked_array([*listed.column(level).chunks, key], key.type))
        for level, key in zip(levels, keys, strict=True)
    ]
    units = find_units(both, np.ones(len(both[0].codes), np.bool_))
    places = np.full(units.n, -1, np.int64)
    places[units.codes[: listed.num_rows]] = np.arange(listed.num_rows)
    rows = places[units.codes[listed.num_rows :]]
    return listed.select(list(columns)).take(pa.array(rows, mask=rows < 0))


def is_categorical(covariate: Covariate, kind: pa.DataType) -> bool | None:
    """Whether a covariate whose column has this type is one of categories; None if it is neither.

    Text and truth values are categories, numbers are not unless the configuration says so.
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if text or pa.types.is_boolean(kind):
        return True
    if pa.types.is_integer(kind):
        return covariate.categorical
    numbers = pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return False if numbers and not covariate.categorical else None


def to_values(column: pa.ChunkedArray, categorical: bool) -> NDArray[Any]:
    """Return categories as text (U,), None where null, or numbers (U,), NaN where null."""
    if categorical:
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        return np.asarray(column.cast(pa.string()).to_numpy(zero_copy_only=False), dtype=object)
    return np.asarray(pc.fill_null(column.cast(pa.float64()), float("nan")).to_numpy())
