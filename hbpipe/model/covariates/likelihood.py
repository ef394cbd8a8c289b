"""The marginal likelihood of stores with covariates: that of their sub-pools, and the chain rule.

Sub-pool u has the location x_u'β, cut where numbers end. The base family gives value,
gradient and Hessian in (location, spread, ...); the location is linear in β, so the chain rule is
sums of those times x.

Coordinates: the P coefficients, then those of the base family after its location.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.covariates.sketch import CovariateSketch, StandardSketch
from hbpipe.model.covariates.units import columns_dot
from hbpipe.model.family import Array, Derivatives, Family
from hbpipe.model.marginal.means import LOG_2PI

#: Beyond e^±300 the squares in a derivative of a likelihood of counts overflow.
_LONGEST_LINE = 300.0
#: Information about the coefficients is singular when its smallest eigenvalue, its diagonal scaled
#: to one, is below this.
_SINGULAR = 1e-13


def locations(
    base: Family, sketch: CovariateSketch, coordinates: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """Coordinates of the base family at every sub-pool, and where they moved freely.

    Returns
    -------
    (U + 1, D), the last row for the empty sub-pool, and (U,) False where x'β was clipped.
    """
    width, pool = sketch.x.shape[1], sketch.rows.pool
    line = columns_dot(sketch.x, coordinates[pool, :width])
    end = _LONGEST_LINE if np.isfinite(base.coordinates[0].upper) else np.inf
    within = np.abs(line) <= end
    at = np.zeros((len(pool) + 1, len(base.coordinates)))
    at[:-1, 0] = np.clip(line, -end, end)
    at[:-1, 1:] = coordinates[pool, width:]
    return at, np.asarray(within)


def by_sub_pool(base: Family, sketch: CovariateSketch, coordinates: Array) -> Derivatives:
    """Log marginal of each sub-pool and its derivatives in its location, spread, ...; (U, ...)."""
    at, within = locations(base, sketch, coordinates)
    value, gradient, hessian = (part[:-1] for part in base.log_marginal(sketch.parts, at))
    # Beyond the end of the line nothing changes any more.
    gradient[:, 0] *= within
    hessian[:, 0, :] *= within[:, None]
    hessian[:, 1:, 0] *= within[:, None]
    return value, gradient, hessian


def log_marginal(base: Family, sketch: CovariateSketch, coordinates: Array) -> Derivatives:
    """Log marginal likelihood of the pools, the base family's constants included.

    Returns
    -------
    Value (G,), gradient (G, D), Hessian (G, D, D).
    """
    value, gradient, hessian = by_sub_pool(base, sketch, coordinates)
    rows, x = sketch.rows, sketch.x
    width, beyond = x.shape[1], gradient.shape[1] - 1
    out = np.empty((rows.n_pools, width + beyond))
    curvature = np.empty((rows.n_pools, width + beyond, width + beyond))
    for p in range(width):
        out[:, p] = rows.sum(gradient[:, 0] * x[:, p])
        weighted = hessian[:, 0, 0] * x[:, p]
        for q in range(p + 1):
            curvature[:, p, q] = curvature[:, q, p] = rows.sum(weighted * x[:, q])
        for i in range(beyond):
            mixed = rows.sum(hessian[:, 0, 1 + i] * x[:, p])
            curvature[:, p, width + i] = curvature[:, width + i, p] = mixed
    for i in range(beyond):
        out[:, width + i] = rows.sum(gradient[:, 1 + i])
        for j in range(i + 1):
            both = rows.sum(hessian[:, 1 + i, 1 + j])
            curvature[:, width + i, width + j] = curvature[:, width + j, width + i] = both
    return rows.sum(value), out, curvature


def log_probability(base: Family, sketch: CovariateSketch, coordinates: Array) -> Array:
    """Evaluate the log marginal likelihood of counts without derivatives, (G,)."""
    assert base.regression is not None
    assert base.regression.log_probability is not None
    at, _ = locations(base, sketch, coordinates)
    return sketch.rows.sum(base.regression.log_probability(sketch.parts, at)[:-1])


def log_no_pooling(base: Family, sketch: CovariateSketch, held: Array) -> Array:
    """Log likelihood (G,) where every store has its own θ: covariates then say nothing."""
    assert base.log_no_pooling is not None
    free = np.full((len(held), 1), np.nan)
    own = np.concatenate([free, held[:, sketch.x.shape[1] :]], axis=1)
    return base.log_no_pooling(sketch.whole, own)


def log_restriction(
    base: Family, sketch: CovariateSketch, coordinates: Array, precision: Array | float = 0.0
) -> Derivatives:
    """Evaluate what REML adds: (P/2) log 2π − ½ log |Σ x I x'|, in the user's units.

    I is the information of a sub-pool about its location (Patterson and Thompson 1971; Harville
    1977). The constant is lme4's: no ½ log |X'X| (Bates et al. 2015, *JSS* 67(1), eq. 41).
    ``precision`` (G, P, P) is that of a normal hyperprior of the coefficients, added to the sum.

    Returns
    -------
    As :func:`log_marginal`; the rows of the coefficients are zero.
    """
    width = sketch.x.shape[1]
    information, first, second = _information(base, sketch, coordinates)
    inverse, log_determinant, regular = _inverse(_outer(sketch, information) + precision)
    beyond = first.shape[1]
    value = 0.5 * np.where(regular, width * LOG_2PI - log_determinant, 0.0)
    if isinstance(sketch, StandardSketch):
        value = value + np.where(regular, sketch.units.log_determinant, 0.0)
    gradient = np.zeros((sketch.n_pools, width + beyond))
    hessian = np.zeros((sketch.n_pools, width + beyond, width + beyond))
    change = [inverse @ _outer(sketch, first[:, i]) for i in range(beyond)]
    for i in range(beyond):
        gradient[:, width + i] = -0.5 * np.trace(change[i], axis1=1, axis2=2)
        for j in range(i + 1):
            curved = np.trace(inverse @ _outer(sketch, second[:, i, j]), axis1=1, axis2=2)
            product = np.einsum("gpq,gqp->g", change[i], change[j])
            both = 0.5 * (product - curved)
            hessian[:, width + i, width + j] = hessian[:, width + j, width + i] = both
    return value, gradient, hessian


def _information(
    base: Family, sketch: CovariateSketch, coordinates: Array
) -> tuple[Array, Array, Array]:
    """Information of each sub-pool about its location, and its derivatives in the spread, ....

    The base family's own restriction is ½ log 2π − ½ log I.
    """
    assert base.log_restriction is not None
    at, _ = locations(base, sketch, coordinates)
    value, gradient, hessian = (part[:-1] for part in base.log_restriction(sketch.parts, at))
    information = np.exp(LOG_2PI - 2.0 * value)
    slope = -2.0 * gradient[:, 1:]
    curvature = -2.0 * hessian[:, 1:, 1:] + slope[:, :, None] * slope[:, None, :]
    return information, information[:, None] * slope, information[:, None, None] * curvature


def _outer(sketch: CovariateSketch, weight: Array) -> Array:
    """Σ w x x' by pool, (G, P, P)."""
    x, rows = sketch.x, sketch.rows
    width = x.shape[1]
    total = np.empty((rows.n_pools, width, width))
    for p in range(width):
        for q in range(p + 1):
            total[:, p, q] = total[:, q, p] = rows.sum(weight * x[:, p] * x[:, q])
    return total


def _inverse(matrix: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Inverse and log determinant of (G, P, P), and where there is one; else 0 and 0."""
    diagonal = np.einsum("gpp->gp", matrix)
    unit = 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = matrix * unit[:, :, None] * unit[:, None, :]
    eigenvalues, vectors = np.linalg.eigh(scaled)
    regular = eigenvalues[:, 0] > _SINGULAR
    safe = np.where(regular[:, None], eigenvalues, 1.0)
    vectors = vectors * unit[:, :, None]
    inverse = np.einsum("gpk,gk,gqk->gpq", vectors, regular[:, None] / safe, vectors)
    log_determinant = np.sum(np.log(safe) - 2.0 * np.log(unit), axis=1)
    return inverse, np.where(regular, log_determinant, 0.0), np.asarray(regular)
