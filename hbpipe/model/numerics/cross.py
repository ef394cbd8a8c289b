"""Counts, means and centred cross-products by group: the statistics of a regression.

The merge is that of Chan, Golub and LeVeque (1983, *The American Statistician* 37) for vectors:
means are weighted, and cross-products gain n (m − mean)(m − mean)'. No raw X'X occurs, so a
predictor far from zero (a year, a timestamp) costs no digits. Sums run in row order, one pair of
columns at a time, so a group's bits depend on its own rows and nothing else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.numerics.grouped import float_sums, integer_sums


def cross_moments_of(values: Array, codes: Codes, n_groups: int) -> dict[str, NDArray[Any]]:
    """Count, means and centred cross-products by group, in two passes.

    Parameters
    ----------
    values : (R, K) one row per event.
    codes : (R,) group of each row.
    n_groups : the number of groups.

    Returns
    -------
    ``n`` int64 (n_groups,), ``means`` (n_groups, K) and ``cross`` (n_groups, K, K); zeros for an
    empty group.
    """
    n = np.bincount(codes, minlength=n_groups).astype(np.int64, copy=False)
    means, cross = _centred(values, None, codes, n_groups, n)
    return {"n": n, "means": means, "cross": cross}


def fold_cross_moments(
    statistics: Statistics, codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Merge rows (n, means, cross) of one store, in row order; a row with n = 0 changes nothing."""
    n = integer_sums(statistics["n"], codes, n_stores)
    weights = np.asarray(statistics["n"], np.float64)
    means, between = _centred(
        np.where(weights[:, None] > 0, statistics["means"], 0.0), weights, codes, n_stores, n
    )
    size = means.shape[1]
    within = np.where(weights[:, None, None] > 0, statistics["cross"], 0.0)
    for k in range(size):
        for other in range(k, size):
            added = float_sums(within[:, k, other], codes, n_stores)
            between[:, k, other] = between[:, other, k] = between[:, k, other] + added
    return {"n": n, "means": means, "cross": between}


def _centred(
    values: Array, weights: Array | None, codes: Codes, n_groups: int, totals: NDArray[Any]
) -> tuple[Array, Array]:
    """Weighted means (n_groups, K) and centred cross-products (n_groups, K, K).

    ``weights`` (R,) are 1 where None. A second pass adds the mean of the differences from the
    first mean, which is what rounding took from it (their eq. 1.7).
    """
    size = values.shape[1]
    safe = np.where(totals > 0, totals, 1)
    means = np.empty((n_groups, size))
    deviations, weighted = [], []
    for k in range(size):
        column = values[:, k]
        mean = float_sums(_times(weights, column), codes, n_groups) / safe
        lacking = float_sums(_times(weights, column - mean[codes]), codes, n_groups) / safe
        means[:, k] = mean + lacking
        deviations.append(column - means[codes, k])
        weighted.append(_times(weights, deviations[k]))
    cross = np.empty((n_groups, size, size))
    for k in range(size):
        for other in range(k, size):
            with np.errstate(over="ignore"):
                products = weighted[k] * deviations[other]
            cross[:, k, other] = cross[:, other, k] = float_sums(products, codes, n_groups)
    return means, cross


def _times(weights: Array | None, values: Array) -> Array:
    return values if weights is None else weights * values
