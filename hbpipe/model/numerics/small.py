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


def root_of_shifted(spread: Array) -> Array:
    """Lower L with L L' = I + F F', for F (P, K, ...).

    F F' is not formed: its columns are added one by one to a factor L D L' (Gill, Golub, Murray
    and Saunders 1974, *Mathematics of Computation* 28, method C2), and nothing is ever subtracted
    from D. So columns whose squares differ by more than 1e16 leave the small ones their digits.
    """
    size = len(spread)
    one = np.ones(spread.shape[2:])
    unit: dict[tuple[int, int], Array] = {}
    pivots = [one for _ in range(size)]
    for column in range(spread.shape[1]):
        left, share = [spread[i, column] for i in range(size)], one
        for j in range(size):
            scaled = share * left[j]
            pivot = pivots[j] + scaled * left[j]
            gain, kept = scaled / pivot, pivots[j] / pivot
            for i in range(j + 1, size):
                before = unit.get((i, j), 0.0 * one)
                unit[i, j] = kept * before + gain * left[i]
                left[i] = left[i] - left[j] * before
            share, pivots[j] = share * kept, pivot
    lower = np.zeros((size, size, *spread.shape[2:]))
    for j, pivot in enumerate(pivots):
        lower[j, j] = np.sqrt(pivot)
        for i in range(j + 1, size):
            lower[i, j] = unit[i, j] * lower[j, j]
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
