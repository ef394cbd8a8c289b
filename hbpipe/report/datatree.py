"""Posteriors as an xarray ``DataTree``, a group for each metric: what ArviZ and xarray read.

xarray comes with the optional dependencies ``hbpipe[xarray]``; it is loaded when it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hbpipe.errors import ConfigError

if TYPE_CHECKING:
    import xarray

#: Columns that tell what a row is, and not what is known of it.
_KEYS = {"as_of", "metric", "level", "term", "run_id"}


def to_xarray(posteriors: pa.Table, attributes: Mapping[str, Any] | None = None) -> xarray.DataTree:
    """Turn rows of ``posteriors`` into arrays.

    Parameters
    ----------
    posteriors
        As ``hbpipe.read`` gives them; rows of nested groups are left out.
    attributes
        What the tree is told of itself, such as its release.

    Returns
    -------
    xarray.DataTree
        A group for each metric. Its arrays are by ``store``, and by ``term`` where stores have
        several; what is null throughout is left out. The limits are one array ``quantiles`` with a
        dimension ``quantile``. The levels and the pool are coordinates of ``store``. Nulls are
        NaN; of a flag, which has none, an array of numbers.

    Raises
    ------
    ConfigError
        xarray is not installed, or columns that tell the rows apart are not there.
    """
    try:
        import xarray as xr
    except ImportError:
        raise ConfigError(
            "xarray is not installed", remedy="pip install 'hbpipe[xarray]', or write .parquet"
        ) from None
    missing = {"metric", "level", "term"}.difference(posteriors.column_names)
    if missing:
        raise ConfigError(
            f"posteriors without {', '.join(sorted(missing))}", expected="every column"
        )
    names = posteriors.column_names
    levels = names[names.index("metric") + 1 : names.index("level")]
    units = posteriors.filter(pc.equal(posteriors["level"], levels[-1]))
    metrics = {
        f"/{name}": _dataset(xr, units.filter(pc.equal(units["metric"], name)), levels)
        for name in sorted(units["metric"].unique().to_pylist())
    }
    root = xr.Dataset(attrs=dict(attributes or {}))
    return xr.DataTree.from_dict({"/": root, **metrics})


def _dataset(xr: Any, rows: pa.Table, levels: list[str]) -> Any:
    """Give the arrays of one metric: stores in the order of their keys."""
    rows = rows.sort_by([(name, "ascending") for name in (*levels, "term")])
    terms = sorted(rows["term"].unique().to_pylist())
    stores, several = rows.num_rows // len(terms), len(terms) > 1
    shape = (stores, len(terms)) if several else (stores,)
    dims = ("store", "term") if several else ("store",)
    limits = {float(name[1:]): name for name in rows.column_names if name.startswith("q0.")}
    limits = {level: name for level, name in limits.items() if rows[name].null_count < len(rows)}
    arrays = {
        name: (dims, _numbers(rows[name]).reshape(shape))
        for name in rows.column_names
        if name not in {*levels, *_KEYS, "pool", "method"} and not name.startswith("q0.")
        if rows[name].null_count < len(rows)
    }
    stacked = [_numbers(rows[limits[level]]).reshape(shape) for level in sorted(limits)]
    if stacked:
        arrays["quantiles"] = ((*dims, "quantile"), np.stack(stacked, axis=-1))
    first = rows.take(pa.array(np.arange(stores) * len(terms)))
    of_stores = {
        name: ("store", np.array(first[name].to_pylist(), dtype=object).astype(str))
        for name in (*levels, "pool", "method")
        if name in rows.column_names
    }
    of_terms = {"term": terms} if several else {}
    return xr.Dataset(arrays, {**of_stores, **of_terms, "quantile": sorted(limits)})


def _numbers(column: pa.ChunkedArray) -> Any:
    """Give numbers as they are where all are there, else as floats with NaN."""
    if pa.types.is_boolean(column.type) and column.null_count:
        column = column.cast(pa.int8())
    return column.cast(pa.float64()).to_numpy() if column.null_count else column.to_numpy()
