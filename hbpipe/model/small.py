"""Linear algebra of many small matrices, with the many along the last axes.

A matrix of each of R rows is one array (P, P, R), so that every operation is a loop over P and an
elementwise operation along the rows. For P of a few that is an order of magnitude faster than one
LAPACK call a matrix, and a row's bits do not depend on its place among the others.
"""

from __future__ import annotations

import numpy as np

from hbpipe.model.family import Array


def rows_last(values: Array) -> Array:
    """Move the axis of rows from the front to the end, in memory too."""
    return np.ascontiguousarray(np.moveaxis(values, 0, -1))


def rows_first(values: Array) -> Array:
    """Move the axis of rows from the end to the front, in memory too."""
    return np.ascontiguousarray(np.moveaxis(values, -1, 0))


def diagonal(matrix: Array) -> Array:
    """Diagonal (P, ...) of matrices (P, P, ...)."""
    return np.asarray(np.einsum("kk...->k...", matrix))


def cholesky(matrix: Array) -> Array:
    """Lower L with L L' = matrix, (P, P, ...); the matrix must be positive definite."""
    size = len(matrix)
    lower = np.zeros_like(matrix)
    for k in range(size):
        for i in range(k, size):
            left = matrix[i, k].copy()
            for j in range(k):
                left -= lower[i, j] * lower[k, j]
            lower[i, k] = np.sqrt(left) if i == k else left / lower[k, k]
    return lower


def semidefinite(matrix: Array, floor: Array) -> Array:
    """Lower L with L L' = matrix for a matrix that may be singular.

    A pivot of at most its ``floor`` (P, ...) is taken for zero, and its column of L is zero.
    """
    lower = np.zeros_like(matrix)
    for k in range(len(matrix)):
        left = matrix[k:, k].copy()
        for j in range(k):
            left -= lower[k, j] * lower[k:, j]
        kept = left[0] > floor[k]
        root = np.sqrt(np.where(kept, left[0], 1.0))
        lower[k:, k] = np.where(kept, left / root, 0.0)
    return lower


def forward(lower: Array, right: Array) -> Array:
    """Solve L x = right for right (P, K, ...)."""
    solved: list[Array] = []
    for i in range(len(lower)):
        left = right[i]
        for j in range(i):
            left = left - lower[i, j] * solved[j]
        solved.append(left / lower[i, i])
    return np.stack(solved)


def product(left: Array, right: Array) -> Array:
    """Matrix product of (P, K, ...) and (K, L, ...)."""
    rows = []
    for i in range(len(left)):
        total = left[i, 0] * right[0]
        for k in range(1, len(right)):
            total = total + left[i, k] * right[k]
        rows.append(total)
    return np.stack(rows)


def transposed(matrix: Array) -> Array:
    """Swap the two axes of the matrices."""
    return np.swapaxes(matrix, 0, 1)


def log_det(lower: Array) -> Array:
    """Log determinant of L L'."""
    total = np.log(lower[0, 0])
    for k in range(1, len(lower)):
        total = total + np.log(lower[k, k])
    return np.asarray(2.0 * total)
