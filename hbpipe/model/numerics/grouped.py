"""Sums by group: the merge rules of statistics, and ragged tables of pools.

Sums run in row order on one thread (``np.bincount``), so the bits of a group's sum depend on its
own rows and nothing else. Integers stay exact: sums that could pass 2^53 never become floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import StatisticsError
from hbpipe.model.family import Array, Codes, Statistics

_EXACT_IN_FLOAT = 2**53
_INT64_MAX = 2**63 - 1
#: A table of all numbers that may occur has at most this many times as many as there are values.
_TABLE = 4


def integer_sums(values: NDArray[Any], codes: Codes, n_groups: int) -> NDArray[np.int64]:
    """Sum whole non-negative numbers by group, exactly.

    Parameters
    ----------
    values : (R,) bool, integer, or floats that are whole numbers.
    codes : (R,) group of each row.
    n_groups : the number of groups.

    Returns
    -------
    (n_groups,) int64.

    Raises
    ------
    StatisticsError
        If the total of all rows does not fit 64 bits, before anything is added up.
    """
    if len(values) == 0:
        return np.zeros(n_groups, np.int64)
    if values.dtype == np.bool_:
        true = codes if values.all() else codes[np.flatnonzero(values)]
        return np.bincount(true, minlength=n_groups).astype(np.int64, copy=False)
    bound = int(values.max()) * len(values)
    if bound < _EXACT_IN_FLOAT:
        return np.bincount(codes, values, n_groups).astype(np.int64)
    whole = values.astype(np.int64)
    if bound > _INT64_MAX and float(np.sum(values, dtype=np.float64)) > 0.999 * _INT64_MAX:
        raise StatisticsError(
            f"the sum of {len(values)} counts does not fit 64 bits",
            where={"largest": int(values.max())},
            expected="totals below 9.2e18",
            remedy="check the unit of this column, or count in larger units",
        )
    sums = np.zeros(n_groups, np.int64)
    np.add.at(sums, codes, whole)
    return sums


def float_sums(values: NDArray[Any], codes: Codes, n_groups: int) -> Array:
    """Sum floats by group in row order; raises StatisticsError when a sum overflows."""
    sums = np.bincount(codes, values, n_groups).astype(np.float64, copy=False)
    _check_finite(sums)
    return sums


def moments_of(values: Array, codes: Codes, n_groups: int) -> dict[str, NDArray[Any]]:
    """Count, mean and centred sum of squares by group, in two passes.

    The second pass corrects the rounding of the first mean (Chan, Golub and LeVeque 1983,
    *The American Statistician* 37, eq. 1.7), so an offset of 1e8 sd costs no digits.

    Returns
    -------
    ``n`` int64, ``mean`` and ``m2`` float64, each (n_groups,); zeros for an empty group.
    """
    n = np.bincount(codes, minlength=n_groups).astype(np.int64, copy=False)
    size = np.maximum(n, 1)
    mean = float_sums(values, codes, n_groups) / size
    mean = mean + float_sums(values - mean[codes], codes, n_groups) / size
    with np.errstate(over="ignore"):
        squares = (values - mean[codes]) ** 2
    return {"n": n, "mean": mean, "m2": float_sums(squares, codes, n_groups)}


def fold_sums(statistics: Statistics, codes: Codes, n_stores: int) -> dict[str, NDArray[Any]]:
    """Merge rows of one store by adding every statistic; integers stay exact."""
    return {
        name: (integer_sums if np.issubdtype(values.dtype, np.integer) else float_sums)(
            values, codes, n_stores
        )
        for name, values in statistics.items()
    }


def fold_moments(statistics: Statistics, codes: Codes, n_stores: int) -> dict[str, NDArray[Any]]:
    """Merge rows (n, mean, m2) of one store: Chan, Golub and LeVeque (1983) over many parts.

    mean = Σ nᵢ mᵢ / Σ nᵢ, then M2 = Σ (M2ᵢ + nᵢ (mᵢ − mean)²), with the rounding of the mean
    corrected. A row with n = 0 changes nothing.
    """
    n = fold_sums({"n": statistics["n"]}, codes, n_stores)["n"]
    weights = np.asarray(statistics["n"], np.float64)
    mean, m2 = _centred(
        np.where(weights > 0, statistics["mean"], 0.0),
        weights,
        np.where(weights > 0, statistics["m2"], 0.0),
        codes,
        n_stores,
        n,
    )
    return {"n": n, "mean": mean, "m2": m2}


def fold_precision(statistics: Statistics, codes: Codes, n_stores: int) -> dict[str, NDArray[Any]]:
    """Merge independent estimates of one store, each weighted by its inverse variance.

    An infinite variance says "no estimate" and changes nothing; a store with no other row has
    estimate 0 and infinite variance.
    """
    variance = np.asarray(statistics["variance"], np.float64)
    known = np.isfinite(variance)
    weights = np.where(known, 1.0 / np.where(known, variance, 1.0), 0.0)
    precision = float_sums(weights, codes, n_stores)
    mean, _ = _centred(
        np.where(known, statistics["estimate"], 0.0),
        weights,
        np.zeros(len(weights)),
        codes,
        n_stores,
        precision,
    )
    # A store with a single estimate keeps that variance to the last bit: 1 / (1 / v) may not.
    sources = np.bincount(codes[known], minlength=n_stores)
    merged = np.where(sources > 0, 1.0 / np.where(sources > 0, precision, 1.0), np.inf)
    single = known & (sources[codes] == 1)
    merged[codes[single]] = variance[single]
    return {"estimate": mean, "variance": merged}


def _centred(
    means: Array,
    weights: Array,
    m2: Array,
    codes: Codes,
    n_groups: int,
    totals: NDArray[Any],
) -> tuple[Array, Array]:
    """Weighted mean and centred sum of squares by group; zeros where the weights add to zero."""
    safe = np.where(totals > 0, totals, 1)
    mean = float_sums(weights * means, codes, n_groups) / safe
    # One step of refinement. The first mean is within rounding of the right one; the mean of
    # the differences from it is what it lacks.
    correction = float_sums(weights * (means - mean[codes]), codes, n_groups) / safe
    mean = mean + correction
    with np.errstate(over="ignore"):
        squares = m2 + weights * (means - mean[codes]) ** 2
    return mean, float_sums(squares, codes, n_groups)


def _check_finite(sums: Array) -> None:
    if not np.isfinite(sums).all():
        raise StatisticsError(
            "a sum of values, or of their squares, is not a finite number",
            expected="finite values below 1e150 in size",
            remedy="reject infinite and absurd values before they are summed, or change the unit",
        )


@dataclass(frozen=True)
class Rows:
    """A ragged table: some rows for each of ``G`` pools, sorted by pool.

    Parameters
    ----------
    n_pools
        ``G``.
    pool
        (R,) the pool of each row, ascending.
    columns
        name -> (R,).
    """

    n_pools: int
    pool: NDArray[np.int64]
    columns: Mapping[str, NDArray[Any]]

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def sum(self, values: NDArray[Any]) -> Array:
        """Sum one value per row by pool, in row order, (G,)."""
        return np.bincount(self.pool, values, self.n_pools).astype(np.float64, copy=False)

    def __len__(self) -> int:
        return len(self.pool)

    def each(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return ``function(rows, *arguments)`` of the only part."""
        return [function(self, *arguments)]

    def select(self, pools: Codes) -> Rows:
        """Return the rows of these pools, renumbered from 0; a pool may occur more than once."""
        first, end = (np.searchsorted(self.pool, pools, side) for side in ("left", "right"))
        count = end - first
        pool = np.repeat(np.arange(len(count)), count)
        source = np.arange(len(pool)) + np.repeat(first - (np.cumsum(count) - count), count)
        columns = {name: values[source] for name, values in self.columns.items()}
        return Rows(len(count), pool, columns)


def stack(tables: Sequence[Rows]) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    """Put tables of the same pools below each other: pools and columns, not yet sorted."""
    pool = np.concatenate([table.pool for table in tables])
    names = tables[0].columns
    return pool, {name: np.concatenate([table[name] for table in tables]) for name in names}


def group(pool: Codes, key: NDArray[Any], n_pools: int) -> tuple[Rows, NDArray[np.int64]]:
    """Find the distinct (pool, key) pairs.

    Returns
    -------
    Rows with the one column ``key``, sorted by pool and key, and (R,) the row that each input
    belongs to.
    """
    distinct, rank = _ranked(key)
    width = max(len(distinct), 1)
    pairs, inverse = _ranked(pool.astype(np.int64) * width + rank)
    rows = Rows(n_pools, pairs // width, {"key": distinct[pairs % width]})
    return rows, inverse


def _ranked(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the distinct values, ascending, and which of them each value is.

    Whole numbers that are not large are looked up in a table of all that may occur, which is
    several times faster than sorting.
    """
    largest = values.max(initial=0)
    if values.min(initial=0) >= 0 and largest < max(_TABLE * len(values), 1):
        whole = values.astype(np.int64)
        if np.array_equal(whole, values):
            present = np.zeros(int(largest) + 1, np.bool_)
            present[whole] = True
            place = np.cumsum(present) - 1
            return np.flatnonzero(present).astype(values.dtype), place[whole]
    distinct, rank = np.unique(values, return_inverse=True)
    return distinct, rank.astype(np.int64, copy=False)


def distinct(
    pool: Codes, keys: Sequence[NDArray[Any]], n_pools: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the rows that agree in their pool and in all keys, to the last bit.

    Returns
    -------
    The pool of each distinct row, ascending, and (R,) the distinct row of each input. Within a
    pool they are sorted by the keys, so their order does not depend on other pools.
    """
    inverse, count = np.asarray(pool, np.int64), n_pools
    for key in keys:
        rows, inverse = group(inverse, key, count)
        count = len(rows)
        if count == len(inverse):
            break
    pools = np.zeros(count, np.int64)
    pools[inverse] = pool
    return pools, inverse


def sum_in_blocks(
    rows: Rows, terms: Callable[[slice], Iterable[Array]], length: int
) -> list[Array]:
    """Sum terms that are computed for ``length`` rows at a time, (G,) each.

    A block begins with what its first pool has so far, so the additions are those of one pass
    over all rows, and the bits do not depend on where blocks end.
    """
    totals: list[Array] = []
    for begin in range(0, max(len(rows), 1), length):
        block = slice(begin, begin + length)
        pool = rows.pool[block]
        for number, values in enumerate(terms(block)):
            if begin == 0:
                totals.append(np.zeros(rows.n_pools))
            if len(pool) == 0:
                continue
            part = values.copy()
            part[0] += totals[number][pool[0]]
            reached = np.bincount(pool - pool[0], part)
            totals[number][pool[0] : pool[0] + len(reached)] = reached
    return totals


def count_values(pool: Codes, values: NDArray[Any], n_pools: int) -> Rows:
    """Count equal numbers that are not negative within each pool.

    Returns
    -------
    Rows with ``value`` (int64, or float64 where the values are) and ``count`` (int64), sorted by
    pool and value.
    """
    width = int(values.max(initial=0)) + 1
    if n_pools * width >= 2**62 or values.dtype.kind == "f":
        rows, inverse = group(pool, values, n_pools)
        counts = np.bincount(inverse, minlength=len(rows.pool))
        return Rows(n_pools, rows.pool, {"value": rows["key"], "count": counts})
    code = pool.astype(np.int64) * width + values
    if n_pools * width <= _TABLE * len(code):
        # A dense histogram is several times faster than sorting; it is never larger than data.
        histogram = np.bincount(code, minlength=1)
        pairs = np.flatnonzero(histogram)
        counts = histogram[pairs]
    else:
        pairs, counts = np.unique(code, return_counts=True)
    return Rows(n_pools, pairs // width, {"value": pairs % width, "count": counts})


def merge_counts(tables: Sequence[Rows]) -> Rows:
    """Add up tables from :func:`count_values` of disjoint stores."""
    pool, columns = stack(tables)
    rows, inverse = group(pool, columns["value"], tables[0].n_pools)
    counts = integer_sums(columns["count"], inverse, len(rows.pool))
    return Rows(rows.n_pools, rows.pool, {"value": rows["key"], "count": counts})
