"""Method-of-moments estimators of (μ, τ²) from estimates with sampling variances, by pool.

Rows of equal variance carry the stores: ``n`` of them, their ``mean`` and ``m2``. The spread is
returned as the formula gives it, negative too; only Paule-Mandel's equation has no negative
solution. A pool whose formula divides by zero (no store, or one) gets spread 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array
from hbpipe.model.marginal.means import location_moments
from hbpipe.model.numerics.grouped import Rows

_PAULE_MANDEL_STEPS = 100


def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Array:
    """Divide, with 0 where the denominator is not positive."""
    positive = denominator > 0
    return np.where(positive, numerator / np.where(positive, denominator, 1.0), 0.0)


def weighted_mean(rows: Rows, weight: Array) -> tuple[Array, Array, Array]:
    """Weighted mean of the estimates of each pool and their weighted squares about it.

    Parameters
    ----------
    rows : columns ``n``, ``mean``, ``m2`` (R,).
    weight : (R,) the weight of each estimate in the row.

    Returns
    -------
    Sum of weights, mean, and Σ w (y − mean)², (G,) each.
    """
    total = rows.sum(weight * rows["n"])
    mean = ratio(rows.sum(weight * rows["n"] * rows["mean"]), total)
    deviation = rows["mean"] - mean[rows.pool]
    squares = rows.sum(weight * (rows["m2"] + rows["n"] * deviation**2))
    return total, mean, squares


def lesson(rows: Rows, variance: Array) -> tuple[Array, Array]:
    """Precision-weighted mean; Σ (y − μ)²/(J − 1) less the mean variance, biased if they differ."""
    _, mu, _ = weighted_mean(rows, 1.0 / variance)
    stores = rows.sum(rows["n"])
    squares = rows.sum(rows["m2"] + rows["n"] * (rows["mean"] - mu[rows.pool]) ** 2)
    noise = ratio(rows.sum(rows["n"] * variance), stores)
    return mu, np.where(stores > 1, ratio(squares, stores - 1) - noise, 0.0)


def hedges(rows: Rows, variance: Array) -> tuple[Array, Array]:
    """Plain mean and sample variance less the mean sampling variance (Hedges 1983)."""
    together = location_moments(rows)
    stores = together["n"]
    noise = ratio(rows.sum(rows["n"] * variance), stores)
    spread = np.where(stores > 1, ratio(together["m2"], stores - 1) - noise, 0.0)
    return together["mean"], spread


def dersimonian_laird(rows: Rows, variance: Array) -> tuple[Array, Array]:
    """DerSimonian and Laird (1986): (Q − (J − 1)) / (Σw − Σw²/Σw), w = 1/v.

    μ is the generalised least-squares mean at that τ², truncated at 0.
    """
    weight = 1.0 / variance
    total, _, q = weighted_mean(rows, weight)
    stores = rows.sum(rows["n"])
    scale = total - ratio(rows.sum(weight**2 * rows["n"]), total)
    spread = np.where(stores > 1, ratio(q - (stores - 1), scale), 0.0)
    weight = 1.0 / (variance + np.maximum(spread, 0.0)[rows.pool])
    return weighted_mean(rows, weight)[1], spread


def paule_mandel(rows: Rows, variance: Array) -> tuple[Array, Array]:
    """Paule and Mandel (1982): τ² ≥ 0 with Σ (y − μ(τ²))²/(v + τ²) = J − 1.

    The left side falls and is convex, so Newton's method from τ² = 0 climbs to the root and
    never passes it.
    """
    stores = rows.sum(rows["n"])
    spread = np.zeros(rows.n_pools)
    for _ in range(_PAULE_MANDEL_STEPS):
        weight = 1.0 / (variance + spread[rows.pool])
        _, mu, q = weighted_mean(rows, weight)
        deviation = rows["mean"] - mu[rows.pool]
        slope = rows.sum(weight**2 * (rows["m2"] + rows["n"] * deviation**2))
        step = np.maximum(ratio(q - (stores - 1), slope), 0.0) * (stores > 1)
        spread = spread + step
        if np.all(step <= 1e-15 * spread):
            break
    weight = 1.0 / (variance + spread[rows.pool])
    return weighted_mean(rows, weight)[1], spread
