"""Store means whose variance depends on their size: the marginal likelihood of normal families.

A store's mean ȳ is normal with mean μ and variance V/w. Both families fit, with a fixed vector
(w, fixed) per store:

* σ unknown: w = n and V = σ² + n τ² (``normal``);
* known sampling variance v: w = 1 and V = v + τ² (``normal_known_variance``).

Stores with equal size share V, so their count, mean and centred sum of squares are sufficient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes, Derivatives, Pearson
from hbpipe.model.nested.messages import Message
from hbpipe.model.numerics.grouped import Rows, fold_moments, group, moments_of, stack
from hbpipe.model.numerics.jets import Jet, reciprocal

LOG_2PI = float(np.log(2.0 * np.pi))


def mean_rows(pool: Codes, size: NDArray[np.float64], means: Array, n_pools: int) -> Rows:
    """Compress store means: one row per pool and distinct size.

    Returns
    -------
    Rows with ``size``, ``n`` (stores), ``mean`` and ``m2`` of the store means.
    """
    rows, inverse = group(pool, size, n_pools)
    return Rows(
        n_pools,
        rows.pool,
        {"size": rows["key"], **moments_of(means, inverse, len(rows.pool))},
    )


def merge_mean_rows(tables: Sequence[Rows]) -> Rows:
    """Merge tables of disjoint stores."""
    pool, columns = stack(tables)
    rows, inverse = group(pool, columns.pop("size"), tables[0].n_pools)
    merged = fold_moments(columns, inverse, len(rows.pool))
    return Rows(rows.n_pools, rows.pool, {"size": rows["key"], **merged})


def location_moments(rows: Rows) -> dict[str, NDArray[np.float64]]:
    """Count the store means of each pool, with their plain mean and centred squares, (G,)."""
    columns = {name: rows[name] for name in ("n", "mean", "m2")}
    return fold_moments(columns, rows.pool, rows.n_pools)


def regroup_mean_rows(rows: Rows, parents: Codes, n_parents: int) -> Rows:
    """Put the stores of pools together: those of pool ``g`` go to ``parents[g]``."""
    moved = Rows(n_parents, np.asarray(parents, np.int64)[rows.pool], rows.columns)
    return merge_mean_rows([moved])


@dataclass(frozen=True)
class RowVariance:
    """V of each row as a function of the coordinates after μ.

    Parameters
    ----------
    value
        (R,).
    first
        ∂V/∂x by number of the coordinate (1 and up; 0 is μ), (R,) each.
    second
        ∂²V/∂xᵢ∂xⱼ where it is not zero, by (i, j) with i ≤ j.
    """

    value: Array
    first: Mapping[int, Array]
    second: Mapping[tuple[int, int], Array]

    def values(self) -> RowVariance:
        """Return V without its derivatives."""
        return RowVariance(self.value, {}, {})

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield the pairs i ≤ j of coordinates of the variance."""
        return combinations_with_replacement(self.first, 2)


def log_density_of_means(
    rows: Rows, weight: Array | float, mu: Array, variance: RowVariance
) -> Derivatives:
    """Evaluate −½ Σ [log V + w (ȳ − μ)²/V] by pool, with its derivatives.

    The terms −½ log 2π and ½ log w belong to the caller.

    Parameters
    ----------
    rows : from :func:`mean_rows`.
    weight : (R,) w, so that a store mean has variance V/w.
    mu : (G,) the common mean.
    variance : V and its derivatives.

    Returns
    -------
    Value (G,), gradient (G, D), Hessian (G, D, D) with coordinate 0 = μ.
    """
    n = rows["n"]
    deviation = rows["mean"] - mu[rows.pool]
    precision = 1.0 / variance.value
    scaled = weight * (rows["m2"] + n * deviation**2) * precision
    slope = weight * n * deviation * precision
    by_v = 0.5 * precision * (scaled - n)
    by_v_v = precision**2 * (0.5 * n - scaled)

    value = rows.sum(-0.5 * (n * np.log(variance.value) + scaled))
    gradient, hessian = _empty(rows.n_pools, 1 + len(variance.first))
    gradient[:, 0] = rows.sum(slope)
    hessian[:, 0, 0] = rows.sum(-weight * n * precision)
    for i, by_i in variance.first.items():
        gradient[:, i] = rows.sum(by_v * by_i)
        hessian[:, 0, i] = hessian[:, i, 0] = rows.sum(-slope * precision * by_i)
    for i, j in variance.pairs():
        mixed = by_v_v * variance.first[i] * variance.first[j]
        mixed = mixed + by_v * variance.second.get((i, j), 0.0)
        hessian[:, i, j] = hessian[:, j, i] = rows.sum(mixed)
    return value, gradient, hessian


def log_restriction_of_means(
    rows: Rows, weight: Array | float, variance: RowVariance
) -> Derivatives:
    """Evaluate what REML adds: ½ log 2π − ½ log Σ w n/V, the integral over a flat prior on μ.

    The constant is lme4's: no ½ log|X'X| (Bates et al. 2015, *JSS* 67(1), eq. 41).

    Returns
    -------
    As :func:`log_density_of_means`; the row of μ is zero.
    """
    precision = 1.0 / variance.value
    information = weight * rows["n"] * precision
    # Without any store there is nothing to integrate: 2π makes the logarithm's value 0.
    total = rows.sum(information)
    total = np.where(total > 0, total, 2.0 * np.pi)
    value = 0.5 * (LOG_2PI - np.log(total))
    gradient, hessian = _empty(rows.n_pools, 1 + len(variance.first))
    relative = {i: by_i * precision for i, by_i in variance.first.items()}
    for i, by_i in relative.items():
        gradient[:, i] = 0.5 * rows.sum(information * by_i) / total
    for i, j in variance.pairs():
        second = variance.second.get((i, j), 0.0) * precision
        curvature = rows.sum(information * (2.0 * relative[i] * relative[j] - second)) / total
        mixed = -0.5 * curvature + 2.0 * gradient[:, i] * gradient[:, j]
        hessian[:, i, j] = hessian[:, j, i] = mixed
    return value, gradient, hessian


def pearson_of_means(
    rows: Rows, weight: Array | float, mu: Array, variance: RowVariance
) -> Pearson:
    """Evaluate Σ w (ȳ − μ)²/V, which grows with τ² as Σ w/V; arguments as above."""
    precision = weight / variance.value
    squares = rows["m2"] + rows["n"] * (rows["mean"] - mu[rows.pool]) ** 2
    return Pearson(
        rows.sum(precision * squares),
        rows.sum(precision * rows["n"]),
        rows.sum(precision**2 * rows["n"]),
    )


def message_of_means(
    rows: Rows, weight: Array | float, variance: RowVariance, dimension: int
) -> Message:
    """Return what store means say of the common mean of each pool, as a function of it.

    With deviations d from a mean c nearby, a pool's log density is
    fall + moment (μ − c) − ½ precision (μ − c)², sums over its stores.

    Parameters
    ----------
    rows : from :func:`mean_rows`.
    weight : (R,) w, so that a store mean has variance V/w.
    variance : V and its derivatives, none where only values are wanted.
    dimension : the number of coordinates, 0 where only values are wanted.
    """
    n, inverse = rows["n"], 1.0 / variance.value
    precision = weight * n * inverse
    total = rows.sum(precision)
    centre = rows.sum(precision * rows["mean"]) / np.where(total > 0, total, 1.0)
    deviation = rows["mean"] - centre[rows.pool]
    scaled = weight * (rows["m2"] + n * deviation**2) * inverse
    # Of each sum the terms, and their first and second derivatives in V, times V and V².
    parts = (
        (precision, -precision, 2.0 * precision),
        (precision * deviation, -precision * deviation, 2.0 * precision * deviation),
        (
            -0.5 * (n * np.log(variance.value) + scaled),
            -0.5 * (n - scaled),
            0.5 * n - scaled,
        ),
    )
    sums = [_sum_of(rows, part, variance, dimension) for part in parts]
    inverse_precision = reciprocal(sums[0] + (total == 0))
    shift = sums[1] * inverse_precision
    return Message(sums[0], shift + centre, sums[2] + sums[1] * shift * 0.5)


def _sum_of(
    rows: Rows, part: tuple[Array, Array, Array], variance: RowVariance, dimension: int
) -> Jet:
    """Sum a function of V by pool, with its derivatives in the coordinates."""
    value, first, second = part
    gradient = np.zeros((rows.n_pools, dimension))
    hessian = np.zeros((rows.n_pools, dimension, dimension))
    relative = {i: by_i / variance.value for i, by_i in variance.first.items()}
    for i, by_i in relative.items():
        gradient[:, i] = rows.sum(first * by_i)
    for i, j in variance.pairs():
        mixed = second * relative[i] * relative[j]
        mixed = mixed + first * variance.second.get((i, j), 0.0) / variance.value
        hessian[:, i, j] = hessian[:, j, i] = rows.sum(mixed)
    return Jet(rows.sum(value), gradient, hessian)


def _empty(n_pools: int, dimensions: int) -> tuple[Array, Array]:
    return np.zeros((n_pools, dimensions)), np.zeros((n_pools, dimensions, dimensions))
