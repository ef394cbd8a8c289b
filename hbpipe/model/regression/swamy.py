"""Moment estimates of a regression with random coefficients, and the scale of its coordinates."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.estimation.moments import ratio
from hbpipe.model.family import Array
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.marginal.factors import Factors, factors_of, inverse_of
from hbpipe.model.marginal.regression import log_marginal
from hbpipe.model.numerics.cross import fold_cross_moments
from hbpipe.model.numerics.grouped import Rows
from hbpipe.model.numerics.optimise import Curvature
from hbpipe.model.numerics.parts import total
from hbpipe.model.numerics.small import product, rows_first, rows_last, transposed
from hbpipe.model.regression.relative import loading_of, triangle

#: |log σ| at most: σ between 1e-33 and 1e33, derivatives, with σ⁻⁶ in them, are still numbers.
LOG_SIGMA_BOUND = 75.0


def swamy(sketch: RegressionSketch, held: Array) -> Array:
    """Moments of the stores' own least-squares fits (Swamy 1970, *Econometrica* 38).

    σ² = Σ RSS/Σ(n − P). With b_j the fits of the stores whose predictors have full rank,
    Σ = cov(b_j) − σ² mean((X_j'X_j)⁻¹), its negative directions cut off in units of the pooled
    X'X; fewer than two such stores give none. μ is generalised least squares at these, over all
    stores.
    """
    size, pools = sketch.size, sketch.n_pools
    sigma_squared = _sigma_squared(sketch, held)
    covariance, centre = _between(sketch, sigma_squared)
    start = np.zeros((pools, held.shape[1]))
    start[:, -1] = log_sigma_of(sigma_squared)
    sigma = np.exp(start[:, -1])
    rows, columns = triangle(size)
    start[:, size:-1] = loading_of(covariance, sigma)[:, rows, columns]
    start = np.where(np.isnan(held), start, held)
    start[:, :size] = centre
    _, gradient, hessian = log_marginal(sketch, start)
    location = np.arange(held.shape[1]) < size
    used = location & (sketch.n_groups > 0)[:, None]
    step = Curvature.of(hessian, 0.0 * gradient, np.ones_like(start), used).solve(gradient * used)
    return start + np.where(used, step, 0.0)


def _between(sketch: RegressionSketch, sigma_squared: Array) -> tuple[Array, Array]:
    """Covariance (G, P, P) between the stores' coefficients, and their mean (G, P)."""
    parts = sketch.rows.each(_own_fits)
    fits = {name: np.concatenate([own[name] for own, _ in parts]) for name in parts[0][0]}
    pools = np.tile(np.arange(sketch.n_pools), len(parts))
    found = fold_cross_moments(fits, pools, sketch.n_pools)
    noise = total([summed for _, summed in parts])
    stores = found["n"].astype(np.float64)[:, None, None]
    average = ratio(noise, stores)
    covariance = ratio(found["cross"], stores - 1.0) - sigma_squared[:, None, None] * average
    together = factors_of(sketch.together)
    singular = np.any(together.collinear, axis=0)[:, None, None]
    enough = np.asarray((stores > 1) & ~singular)
    covariance = np.where(enough, _cut_off(covariance, together), 0.0)
    return covariance, np.where(enough[:, 0], found["means"], least_squares_of(together))


def _own_fits(rows: Rows) -> tuple[dict[str, NDArray[Any]], Array]:
    """Moments of the stores' own coefficients by pool, and Σ (X'X)⁻¹ (G, P, P)."""
    factor = rows_last(rows["factor"])
    full = np.flatnonzero(np.all([row[k] > 0 for k, row in enumerate(factor)], axis=0))
    inverse = inverse_of(factor[:, :, full])
    pool, count = rows.pool[full], rows["n"][full]
    about = product(product(inverse, rows_last(rows["cross"][full])), transposed(inverse))
    means = product(inverse, rows_last(rows["means"][full])[:, None])[:, 0]
    fits = {"n": count, "means": rows_first(means), "cross": rows_first(about)}
    noise = product(inverse, transposed(inverse))
    table = Rows(rows.n_pools, pool, {})
    summed = np.stack([[table.sum(count * v) for v in line] for line in noise])
    return fold_cross_moments(fits, pool, rows.n_pools), rows_first(summed)


def _cut_off(covariance: Array, together: Factors) -> Array:
    """Set negative directions of Σ to zero, in units that make the pooled X'X the identity."""
    size = len(together.factor)
    factor = rows_first(together.regular)
    turned = factor @ covariance @ np.swapaxes(factor, 1, 2)
    values, vectors = np.linalg.eigh(turned)
    root = rows_last(vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :])
    back = product(inverse_of(rows_last(factor)), root)
    return rows_first(product(back, transposed(back))).reshape(-1, size, size)


def least_squares_of(together: Factors) -> Array:
    """Coefficients (G, P) of one regression through all rows; 0 where they are not determined."""
    fits = product(inverse_of(together.regular), together.response[:, None])[:, 0]
    return rows_first(np.where(together.collinear.any(axis=0), 0.0, fits))


def _sigma_squared(sketch: RegressionSketch, held: Array) -> Array:
    """Give the held σ², or Σ RSS/Σ(n − P), or the variance about one regression where that is 0."""
    free = np.isnan(held[:, -1])
    within = ratio(sketch.within, sketch.freedom)
    within = np.where(within > 0, within, total_variance(sketch))
    return np.where(free, within, np.exp(2.0 * np.where(free, 0.0, held[:, -1])))


def total_variance(sketch: RegressionSketch) -> Array:
    """Mean square about one regression through all rows of a pool, (G,)."""
    return ratio(factors_of(sketch.together).residual, sketch.n_values)


def log_sigma_of(sigma_squared: Array) -> Array:
    """½ log σ², inside the bounds of the coordinate."""
    with np.errstate(divide="ignore"):
        return np.clip(0.5 * np.log(sigma_squared), -LOG_SIGMA_BOUND, LOG_SIGMA_BOUND)


def scale(sketch: RegressionSketch) -> Array:
    """Sd of each coefficient from one row, in units of σ for Λ; one unit of log σ.

    √(N [(X'X)⁻¹]_kk) over all rows of the pool, so that a predictor's unit and origin count.
    """
    inverse = inverse_of(factors_of(sketch.together).regular)
    single = rows_first(np.sqrt(np.sum(np.square(inverse), axis=1) * sketch.n_values))
    single = np.where(single > 0, single, 1.0)
    total = np.sqrt(total_variance(sketch))[:, None]
    rows, _ = triangle(sketch.size)
    one = np.ones((len(single), 1))
    return np.concatenate([single * np.where(total > 0, total, 1.0), single[:, rows], one], axis=1)
