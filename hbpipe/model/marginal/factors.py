"""Stores as triangular factors: what a likelihood of regressions needs of each.

With X the predictors and y the response of a store, R'R = X'X, z = R⁻ᵀX'y and RSS = y'y − z'z:
everything that the likelihood says of the store's rows is in (R, z, RSS). They are found from
centred cross-products C and means m by orthogonal steps alone: a Cholesky factor of C, then √n m'
rotated into it row by row (Golub and Van Loan 2013, *Matrix Computations*, section 6.5.4).
Columns that depend on earlier ones within a store (few rows, a constant predictor) leave a row of
zeros; that is an ordinary store with less to say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Statistics
from hbpipe.model.numerics.small import diagonal, forward, semidefinite, transposed

_EPSILON = float(np.finfo(np.float64).eps)
#: A predictor is collinear when less than this share of its length is left by those before it.
#: The product of two such shares, 1e-10, is where curvature drowns in rounding.
_COLLINEAR = 1e-5


def dependent(n: Array) -> Array:
    """Share of a diagonal element at which a pivot is rounding: sums of n terms err by √n ulps."""
    return (64.0 + 4.0 * np.sqrt(n)) * _EPSILON


@dataclass(frozen=True)
class Factors:
    """Triangular factors of ``J`` stores.

    ``factor`` (P, P, J) is R, upper, with the stores last; ``response`` (P, J) is z; ``residual``
    (J,) the residual sum of squares; ``rank`` (J,) the rank of X.
    """

    factor: Array
    response: Array
    residual: Array
    rank: NDArray[np.int64]

    @property
    def collinear(self) -> NDArray[np.bool_]:
        """Which predictors (P, J) are all but a combination of those before them."""
        length = np.sqrt(np.sum(np.square(self.factor), axis=0))
        return np.asarray(diagonal(self.factor) <= _COLLINEAR * length)

    @property
    def regular(self) -> Array:
        """R (P, P, J), and the identity where predictors are collinear."""
        identity = np.eye(len(self.factor))[:, :, None]
        return np.where(np.any(self.collinear, axis=0), identity, self.factor)


def factors_of(statistics: Statistics) -> Factors:
    """Triangular factors from n (J,), means (J, K) and cross (J, K, K), the response last."""
    n = np.asarray(statistics["n"], np.float64)
    tolerance = dependent(n)
    means = np.moveaxis(np.asarray(statistics["means"], np.float64), 0, -1)
    cross = np.moveaxis(np.asarray(statistics["cross"], np.float64), 0, -1)
    upper = transposed(semidefinite(cross, _floor(n, means, diagonal(cross))))
    _rotate_in(upper, np.sqrt(n) * means, tolerance)
    size = len(upper) - 1
    pivots = np.stack([upper[k, k] for k in range(size)])
    return Factors(
        factor=upper[:size, :size],
        response=upper[:size, size],
        residual=np.square(upper[size, size]),
        rank=np.sum(pivots > 0, axis=0),
    )


def _floor(n: Array, means: Array, squares: Array) -> Array:
    """Pivots (K, J) that are rounding, where ``squares`` (K, J) are the columns' own.

    Deviations below a few ulps of its mean are rounding in a column, and their share of its
    square is rounding in every column after it.
    """
    noise = (4.0 * _EPSILON) ** 2 * n * np.square(means)
    varies = squares > noise
    share = np.where(varies, noise / np.where(varies, squares, 1.0), 0.0)
    floor = squares * (dependent(n) + np.cumsum(share, axis=0))
    return np.asarray(np.maximum(floor, noise))


def _rotate_in(upper: Array, row: Array, tolerance: Array) -> None:
    """Givens rotations that bring one more row (K, J) into the triangle, in place."""
    first = np.abs(row)
    for k in range(len(upper)):
        left = np.where(np.abs(row[k]) > tolerance * first[k], row[k], 0.0)
        length = np.hypot(upper[k, k], left)
        safe = np.where(length > 0, length, 1.0)
        cosine = np.where(length > 0, upper[k, k] / safe, 1.0)
        sine = left / safe
        above = upper[k, k:].copy()
        upper[k, k:] = cosine * above + sine * row[k:]
        row[k:] = cosine * row[k:] - sine * above
        upper[k, k] = length


def inverse_of(factor: Array) -> Array:
    """Inverse of upper triangular matrices (P, P, J)."""
    identity = np.broadcast_to(np.eye(len(factor))[:, :, None], factor.shape)
    return transposed(forward(transposed(factor), identity))
