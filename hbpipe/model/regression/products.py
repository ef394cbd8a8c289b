"""The library's door for regressions: raw X'X, X'y and y'y, checked and centred.

Raw products have lost digits where means are large against spreads; what rounding has left of
them is cut off here, so that noise is never taken for a predictor that varies or for a residual.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import StatisticsError
from hbpipe.model.family import Array, Statistic
from hbpipe.model.numerics.small import diagonal, rows_first, rows_last, semidefinite, transposed
from hbpipe.model.statistics import check_arrays

#: Relative error of products that is taken for rounding.
_ROUNDING = 64.0 * float(np.finfo(np.float64).eps)
#: Relative error that somebody's own sums may have without being called impossible.
GENEROUS = 1e-8


def is_raw(statistics: Mapping[str, Any]) -> bool:
    """Whether these are products and not means and centred products."""
    return not {"means", "cross"} & set(statistics)


def number_of_predictors(statistics: Mapping[str, Any]) -> int | None:
    """P of the arrays given, None where they do not tell."""
    for name, more in (("xtx", 0), ("xty", 0), ("means", 1), ("cross", 1)):
        shape = np.shape(statistics.get(name, ()))
        if len(shape) > 1 and shape[-1] > more:
            return int(shape[-1]) - more
    return None


def centred(family: str, statistics: Mapping[str, Any], size: int) -> dict[str, NDArray[Any]]:
    """Turn raw products into ``n``, ``means`` and ``cross``, the response last.

    A predictor whose square sums to n in every store is the constant 1: its products are the sums
    of the others. Without one there are no sums to centre with; means of 0 are then as good,
    because a likelihood uses cross + n means means' and nothing else.

    Raises
    ------
    StatisticsError
        For wrong names, shapes or types; products that are not symmetric, that no data can have,
        or that have more dimensions than rows.
    """
    items = (
        Statistic("n", "int64", "sum", lowest=0.0),
        Statistic("xtx", "float64", "sum", (size, size)),
        Statistic("xty", "float64", "sum", (size,)),
        Statistic("yty", "float64", "sum", lowest=0.0),
    )
    arrays = check_arrays(family, items, statistics)
    whole = _together(arrays, size)
    _check_symmetry(family, whole)
    n = arrays["n"].astype(np.float64)
    stray = (n == 0) & np.any(whole != 0, axis=(1, 2))
    _refuse(family, stray, "products come without n", "0 in all of a store without rows")
    means = _means(whole, n)
    cross = rows_last(whole) - n * means[:, None] * means[None, :]
    raw = diagonal(rows_last(whole))
    check_possible(family, arrays["n"], cross, GENEROUS * raw)
    # What is left is a root of the centred products without the noise of centring.
    upper = transposed(semidefinite(cross, _ROUNDING * raw))
    clean = sum_of_squares(upper)
    return {"n": arrays["n"], "means": rows_first(means), "cross": rows_first(clean)}


def sum_of_squares(upper: Array) -> Array:
    """U'U for (P, P, J)."""
    return np.asarray(np.einsum("ka...,kb...->ab...", upper, upper))


def check_possible(family: str, n: NDArray[np.int64], cross: Array, floor: Array) -> None:
    """Refuse centred products (K, K, J) of data that cannot be, the response last.

    Pivots of elimination are squared lengths, so none is below zero; where one is, nothing of its
    row is left; and there are no more of them than rows.

    Raises
    ------
    StatisticsError
        With the first store concerned.
    """
    left = cross.copy()
    dimensions = np.zeros(len(n), np.int64)
    last = len(left) - 1
    for k in range(last + 1):
        pivot, row = left[k, k].copy(), left[k].copy()
        kept = pivot > floor[k]
        # Cauchy and Schwarz: a row of next to no length has next to no products.
        limit = 2.0 * floor[k] * (floor + np.maximum(diagonal(left), 0.0))
        over = ~kept & np.any(row[k:] ** 2 > limit[k:], axis=0)
        if k < last:
            _refuse(
                family,
                (pivot < -floor[k]) | over,
                f"X'X is not that of any data, by predictor {k} (from 0)",
                "a matrix without negative eigenvalues, and X'y of the same rows",
            )
            dimensions += kept
        else:
            _refuse(family, pivot < -floor[k], "y'y is less than X explains of it", "y'y ≥ z'z")
        scale = np.where(kept, pivot, 1.0)
        left -= np.where(kept, row[:, None] * row[None, :] / scale, 0.0)
    _refuse(family, dimensions > n, "X'X has a higher rank than n", "at least as many rows")


def _together(arrays: Mapping[str, NDArray[Any]], size: int) -> Array:
    """Products of predictors and response in one matrix (J, P + 1, P + 1)."""
    whole = np.empty((len(arrays["n"]), size + 1, size + 1))
    whole[:, :size, :size] = arrays["xtx"]
    whole[:, :size, size] = whole[:, size, :size] = arrays["xty"]
    whole[:, size, size] = arrays["yty"]
    return whole


def _check_symmetry(family: str, whole: Array) -> None:
    squares = np.einsum("jkk->jk", whole)
    negative = np.any(squares < 0, axis=1)
    _refuse(family, negative, "X'X has a negative diagonal", "sums of squares")
    length = np.sqrt(np.maximum(squares, 0.0))
    apart = np.abs(whole - np.swapaxes(whole, 1, 2))
    allowed = GENEROUS * length[:, :, None] * length[:, None, :]
    _refuse(
        family, np.any(apart > allowed, axis=(1, 2)), "X'X is not symmetric", "x_k'x_l = x_l'x_k"
    )


def _means(whole: Array, n: Array) -> Array:
    """Means (P + 1, J) by the constant predictor; 0 where there is none."""
    for k in range(whole.shape[1] - 1):
        if np.all(np.abs(whole[:, k, k] - n) <= GENEROUS * n):
            return rows_last(whole[:, k]) / np.where(n > 0, n, 1.0)
    return np.zeros((whole.shape[1], len(n)))


def _refuse(family: str, wrong: NDArray[np.bool_], found: str, expected: str) -> None:
    if np.any(wrong):
        stores = np.flatnonzero(wrong)
        others = f" (and {len(stores) - 1} more)" if len(stores) > 1 else ""
        raise StatisticsError(
            f"{found}{others}",
            where={"family": family, "store": int(stores[0])},
            expected=expected,
            remedy="check how these sums were built, or pass n, means and centred cross-products",
        )
