"""Units of the covariates in which the likelihood is round.

A fit walks in *standard coefficients* γ, with β = T γ. In them the covariates z = x T have mean
square one and are uncorrelated over the stores with data, and the prior mean at the mean row of
the covariates is g⁻¹(γ₀). A year, or a size in square metres, beside an intercept then costs no
digits. T is found by Gram-Schmidt, orthogonalised twice (Björck 1967), and one reflection.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.estimation.moments import ratio
from hbpipe.model.family import Array, Codes
from hbpipe.model.numerics.grouped import Rows

#: A column whose part that is no combination of the columns before it is smaller than this, as
#: a share of its own size, is collinear.
_COLLINEAR = 1e-10
#: Below this length the mean row says nothing: every covariate is centred, none is constant.
_CENTRED = 1e-6


@dataclass(frozen=True)
class Units:
    """Standard units of the covariates of ``G`` pools.

    Parameters
    ----------
    matrix
        T (G, P, P): coefficients = T @ standard coefficients.
    collinear
        (G,) the first column that is a combination of those before it, −1 where there is none.
    runaway
        (G, P) at which standard coefficients the likelihood has its supremum where that is
        infinitely far away, cut at a large number; NaN elsewhere. See ``separation.py``.
    """

    matrix: Array
    collinear: NDArray[np.int64]
    runaway: Array

    @property
    def log_determinant(self) -> Array:
        """Log |det T|, (G,): what REML's constant gains in the user's units."""
        return np.asarray(np.linalg.slogdet(self.matrix)[1])

    def select(self, pools: Codes) -> Units:
        """Return the units of some pools."""
        return Units(**{item.name: getattr(self, item.name)[pools] for item in fields(self)})

    def apply(self, rows: Rows) -> Array:
        """Covariates (U, P) of sub-pools in standard units."""
        return _in_units(rows, self.matrix)

    def inside(self, coordinates: Array) -> Array:
        """Coordinates (G, D) in standard units; coefficients of NaN stay NaN."""
        width = self.matrix.shape[1]
        out = coordinates.copy()
        known = np.isfinite(coordinates[:, :width]).all(axis=1)
        out[known, :width] = np.linalg.solve(self.matrix[known], coordinates[known, :width, None])[
            ..., 0
        ]
        return out

    def outside(self, coordinates: Array) -> Array:
        """Coordinates (G, D) in the user's units."""
        width = self.matrix.shape[1]
        out = coordinates.copy()
        out[:, :width] = np.einsum("gpq,gq->gp", self.matrix, coordinates[:, :width])
        return out

    def covariance_outside(self, covariance: Array) -> Array:
        """Covariances (G, D, D) of coordinates in the user's units."""
        width, dimension = self.matrix.shape[1], covariance.shape[1]
        whole = np.broadcast_to(np.eye(dimension), covariance.shape).copy()
        whole[:, :width, :width] = self.matrix
        return np.asarray(np.einsum("gab,gbc,gdc->gad", whole, covariance, whole))


def columns_dot(x: Array, coefficients: Array) -> Array:
    """Row by row Σ_p x_p b_p, (U,), in the order of the columns; (U, P) both.

    A plain sum: its bits depend on the row alone, and not on how many rows there are.
    """
    total = x[:, 0] * coefficients[:, 0]
    for p in range(1, x.shape[1]):
        total = total + x[:, p] * coefficients[:, p]
    return np.asarray(total)


def standard_units(rows: Rows, runaway: NDArray[np.bool_] | None = None) -> Units:
    """Find standard units of the covariates ``x`` (U, P) of sub-pools with so many ``stores``.

    ``runaway`` (U,) marks sub-pools that the likelihood drives to the end of the line. They do not
    count; directions that matter to them alone are axes of their own, marked by 0 in
    ``Units.runaway``.
    """
    weight = rows["stores"] if runaway is None else np.where(runaway, 0.0, rows["stores"])
    matrix, dependent = orthogonal(rows, weight)
    # Axes without any weight go to the end, so that the first can face the mean row.
    order = np.argsort(dependent, axis=1, kind="stable")
    matrix = np.take_along_axis(matrix, order[:, None, :], axis=2)
    dependent = np.take_along_axis(dependent, order, axis=1)
    matrix = _facing_the_mean(rows, weight, matrix, dependent)
    size = _root_mean_square(rows, _in_units(rows, matrix), rows["stores"])
    alone = dependent & (size > _COLLINEAR)
    width = matrix.shape[1]
    lost = np.min(np.where(dependent & ~alone, order, width), axis=1)
    return Units(
        matrix / np.where(alone, size, 1.0)[:, None, :],
        np.where(lost < width, lost, -1),
        np.where(alone, 0.0, np.nan),
    )


def orthogonal(rows: Rows, weight: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Make columns orthonormal one after the other: T (G, P, P) and which columns are dependent.

    A dependent column of T is a combination that vanishes on every row with weight.
    """
    x, total = rows["x"], rows.sum(weight)
    width = x.shape[1]
    matrix = np.zeros((rows.n_pools, width, width))
    dependent = np.zeros((rows.n_pools, width), bool)
    usual = _root_mean_square(rows, x, rows["stores"])
    done: list[Array] = []
    for k in range(width):
        column = x[:, k]
        matrix[:, k, k] = 1.0
        size = _root_mean_square(rows, column[:, None], weight)[:, 0]
        for j in [*range(k), *range(k)]:
            share = ratio(rows.sum(weight * done[j] * column), total)
            column = column - share[rows.pool] * done[j]
            matrix[:, :, k] -= share[:, None] * matrix[:, :, j]
        left = _root_mean_square(rows, column[:, None], weight)[:, 0]
        lost = dependent[:, k] = left <= _COLLINEAR * size
        scale = np.where(lost, usual[:, k], left)
        scale = np.where(scale > 0, scale, 1.0)
        done.append(np.where(lost[rows.pool], 0.0, column / scale[rows.pool]))
        matrix[:, :, k] /= scale[:, None]
    return matrix, dependent


def _facing_the_mean(
    rows: Rows, weight: Array, matrix: Array, dependent: NDArray[np.bool_]
) -> Array:
    """Reflect the axes so that the mean row lies on the first, at 1 (Householder 1958).

    Where a combination of the columns is constant, the first covariate is then 1 for all stores
    and the others have mean zero.
    """
    total = rows.sum(weight)
    z = _in_units(rows, matrix)
    mean = np.stack([ratio(rows.sum(weight * column), total) for column in z.T], axis=1)
    mean = np.where(dependent, 0.0, mean)
    length = np.sqrt(np.sum(mean**2, axis=1))
    centred = length < _CENTRED
    length = np.where(centred, 1.0, length)
    first = np.eye(matrix.shape[1])[0]
    mirror = np.where(centred[:, None], 0.0, mean / length[:, None] - first)
    squared = np.sum(mirror**2, axis=1)
    factor = np.where(squared > 0, 2.0 / np.where(squared > 0, squared, 1.0), 0.0)
    along = np.einsum("gpq,gq->gp", matrix, mirror)
    turned = matrix - factor[:, None, None] * along[:, :, None] * mirror[:, None, :]
    turned[:, :, 0] /= length[:, None]
    return np.asarray(turned)


def _in_units(rows: Rows, matrix: Array) -> Array:
    """Covariates x T of the rows, (U, P)."""
    columns = [matrix[:, :, k][rows.pool] for k in range(matrix.shape[2])]
    return np.stack([columns_dot(rows["x"], column) for column in columns], axis=1)


def _root_mean_square(rows: Rows, columns: Array, weight: Array) -> Array:
    """Root mean square of each column (U, K) by pool, (G, K); 0 where a pool has no weight."""
    total = rows.sum(weight)
    squares = [ratio(rows.sum(weight * column**2), total) for column in columns.T]
    return np.sqrt(np.stack(squares, axis=1))
