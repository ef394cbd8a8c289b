"""The posteriors of a release for a page: one sheet of columns for each metric and term."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.lake import Lake
from hbpipe.report.html.packing import Pack
from hbpipe.run.history import Release
from hbpipe.run.releases import read_of

#: More rows than this make a page that a browser opens slowly; the table in the lake has them all.
MOST_ROWS = 180_000

#: Columns of posteriors that a page shows, and with how many significant digits.
_DIGITS = {"raw": 4, "mean": 4, "sd": 3, "weight": 2}
#: The same, of columns that a release may lack.
_OPTIONAL = {
    "p_below_target": 2,
    "p_above_zero": 2,
    "s_value": 2,
    "expected_percentile": 2,
    "p_top_10": 2,
    "p_bottom_10": 2,
    "last_day_q": 2,
    "change_sd": 2,
}
#: One bit each, in this order.
FLAGS = ("silent", "is_new", "outlier", "at_boundary")


@dataclass(frozen=True)
class Columns:
    """What the columns of a release's posteriors are called.

    ``pool_levels`` are those of ``levels`` whose stores share a prior; ``quantiles`` those that
    the release has, the least first.
    """

    levels: tuple[str, ...]
    pool_levels: tuple[str, ...]
    quantiles: tuple[str, ...]
    others: frozenset[str]

    @property
    def unit(self) -> str:
        """The finest level."""
        return self.levels[-1]


def find_columns(lake: Lake, row: Release) -> Columns:
    """Look up what the columns of a release are called."""
    versions = dict(row["versions"])
    names = lake.snapshot("posteriors", versions["posteriors"]).schema.names
    fits = lake.snapshot("fits", versions["fits"]).schema.names
    quantiles = sorted((n for n in names if n[:2] == "q0"), key=lambda name: float(name[1:]))
    return Columns(
        levels=tuple(names[2 : names.index("level")]),
        pool_levels=tuple(fits[2 : fits.index("pool")]),
        quantiles=tuple(quantiles),
        others=frozenset(names),
    )


def read_posteriors(
    lake: Lake, row: Release, columns: Columns, metrics: Collection[str]
) -> pa.Table:
    """Read the rows of single stores, of these metrics; groups of stores are left out."""
    optional = [name for name in (*_OPTIONAL, *FLAGS) if name in columns.others]
    wanted = ["metric", *columns.levels, "term", "n", *_DIGITS, *columns.quantiles, *optional]
    return read_of(
        lake,
        row,
        "posteriors",
        columns=wanted,
        filters=[("level", "==", columns.unit), ("metric", "in", list(metrics))],
    )


def limits_of(table: pa.Table, columns: Columns) -> list[str]:
    """Return the least and the greatest quantile that has numbers; none where no quantile has."""
    # A quantile of earlier settings is null in every row.
    known = [q for q in columns.quantiles if table[q].null_count < table.num_rows]
    return [known[0], known[-1]] if known else []


def pack_stores(
    table: pa.Table, columns: Columns, pools: Sequence[tuple[Any, ...]], pack: Pack
) -> dict[str, Any]:
    """Pack posteriors as units and sheets.

    Parameters
    ----------
    table
        As ``read_posteriors`` gives it.
    pools
        The values of ``columns.pool_levels`` of every pool, in the order of the page.

    Returns
    -------
    dict
        ``units``: the names of each level and, packed, which of them each unit has; ``sheets``:
        for each metric and term the packed columns, sorted by pool and unit, and where each pool
        begins; ``left_out``: how many rows had no room.
    """
    every = table.num_rows
    table = _with_room(table, columns, pools)
    unit, units = _units(table, columns, pack)
    pool = _pool_of(table, columns, pools)
    metric, term = (_codes(table[name]) for name in ("metric", "term"))
    sheet_of = metric[0] * len(term[1]) + term[0]
    order = np.lexsort((unit, pool, sheet_of))
    sheets = []
    for code in np.unique(sheet_of):
        rows = order[sheet_of[order] == code]
        sheets.append(
            {
                "metric": metric[1][code // len(term[1])],
                "term": term[1][code % len(term[1])],
                "pools": np.searchsorted(pool[rows], np.arange(len(pools) + 1)).tolist(),
                "unit": pack.steps(unit[rows]),
                "columns": _packed(table.take(pa.array(rows)), columns, pack),
            }
        )
    return {"units": units, "sheets": sheets, "left_out": every - table.num_rows}


def _packed(rows: pa.Table, columns: Columns, pack: Pack) -> dict[str, Any]:
    """Pack the columns of one sheet; one that has no number at all is left out."""
    packed = {"n": pack.whole(rows["n"].fill_null(0).to_numpy())}
    limits = dict(zip(("low", "high"), limits_of(rows, columns), strict=False))
    wanted = {name: (name, digits) for name, digits in {**_DIGITS, **_OPTIONAL}.items()}
    wanted |= {end: (name, 4) for end, name in limits.items()}
    for shown, (name, digits) in wanted.items():
        if name in rows.column_names and rows[name].null_count < rows.num_rows:
            values = rows[name].cast(pa.float64()).to_numpy()
            packed[shown] = pack.decimal(values, digits)
    flags = np.zeros(rows.num_rows, np.uint8)
    for bit, name in enumerate(FLAGS):
        if name in rows.column_names:
            flags |= rows[name].fill_null(False).to_numpy().astype(np.uint8) << bit
    return {**packed, "flags": pack.flags(flags)}


def _units(
    table: pa.Table, columns: Columns, pack: Pack
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Give each row the number of its unit, (R,), in the order of the levels."""
    coded = {name: _codes(table[name]) for name in columns.levels}
    unit = np.zeros(table.num_rows, np.int64)
    for codes, names in coded.values():
        # Anew after each level: products of many levels would overflow.
        unit = np.unique(unit * (len(names) + 1) + codes + 1, return_inverse=True)[1]
    _, first = np.unique(unit, return_index=True)
    levels = [
        {"name": name, "names": names, "code": pack.steps(codes[first])}
        for name, (codes, names) in coded.items()
    ]
    return unit, {"count": len(first), "levels": levels}


def _codes(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], list[str]]:
    """Return each row's place among the sorted distinct texts of a column, -1 for null."""
    texts = column.cast(pa.string())
    names = pc.unique(texts).drop_null()
    names = names.take(pc.sort_indices(names))
    codes = pc.index_in(texts, names).fill_null(-1).to_numpy().astype(np.int64)
    return codes, names.to_pylist()


def _pool_of(
    table: pa.Table, columns: Columns, pools: Sequence[tuple[Any, ...]]
) -> NDArray[np.int64]:
    """Return the number of each row's pool, (R,)."""
    place = {pool: number for number, pool in enumerate(pools)}
    keys = table.select(list(columns.pool_levels))
    if not columns.pool_levels:
        return np.zeros(table.num_rows, np.int64)
    numbers = np.zeros(table.num_rows, np.int64)
    for name in columns.pool_levels:
        codes, names = _codes(keys[name])
        numbers = np.unique(numbers * (len(names) + 1) + codes + 1, return_inverse=True)[1]
    _, first = np.unique(numbers, return_index=True)
    distinct = [tuple(found.values()) for found in keys.take(pa.array(first)).to_pylist()]
    return np.array([place[pool] for pool in distinct])[numbers]


def _with_room(table: pa.Table, columns: Columns, pools: Sequence[tuple[Any, ...]]) -> pa.Table:
    """Choose the rows of a page: where there are too many, of each sheet and pool the same share.

    Those with the most observations, whose numbers say most.
    """
    share = MOST_ROWS / max(table.num_rows, 1)
    if share >= 1.0:
        return table
    (metric, _), (term, terms) = (_codes(table[name]) for name in ("metric", "term"))
    group = (metric * len(terms) + term) * len(pools) + _pool_of(table, columns, pools)
    order = np.lexsort((-table["n"].fill_null(0).to_numpy(), group))
    sorted_group = group[order]
    starts = np.searchsorted(sorted_group, sorted_group)
    counts = np.searchsorted(sorted_group, sorted_group, side="right") - starts
    kept = np.arange(len(order)) - starts < np.ceil(share * counts)
    return table.take(pa.array(np.sort(order[kept])))
