"""Correlation matrices in canonical partial correlations, and the law LKJ(η), ∝ |R|^(η−1).

A correlation matrix is the same as partial correlations z_ij of i and j given those before j, each
free between −1 and 1 (Lewandowski, Kurowicka and Joe 2009, *J. Multivariate Analysis* 100; their
C-vine). Under LKJ(η) these are independent, z_ij (from 0) being symmetric Beta on (−1, 1) with
both parameters b_j = η + (P − 2 − j)/2, so that the density needs no determinant and its constant
is exact. Working variables are y = atanh z, on which it is ∝ (1 − z²)^b.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from hbpipe.model.family import Array

#: |atanh z| at a singular correlation matrix: 1 − |z| = 1e-5.
_NEARLY_ONE = 6.0


def pairs(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places (i, j), j < i, of the partial correlations, row by row."""
    return np.tril_indices(size, -1)


def factor_of(partial: Array, size: int) -> Array:
    """Lower L (P, P, S) with L L' = R, from atanh of the partial correlations (P(P−1)/2, S)."""
    lower = np.zeros((size, size, *partial.shape[1:]))
    correlation, rest = np.tanh(partial), 1.0 / np.cosh(partial)
    number = 0
    for i in range(size):
        left = np.ones(partial.shape[1:])
        for j in range(i):
            lower[i, j] = correlation[number] * left
            left = left * rest[number]
            number += 1
        lower[i, i] = left
    return lower


def partial_of(correlation: Array) -> Array:
    """Atanh of the partial correlations of R (P, P), finite where R is singular."""
    size, found = len(correlation), []
    left = np.ones(size)
    lower = np.zeros((size, size))
    for i in range(size):
        for j in range(i):
            explained = float(lower[i, :j] @ lower[j, :j])
            scale = lower[j, j] * np.sqrt(left[i])
            z = (correlation[i, j] - explained) / scale if scale > 0 else 0.0
            z = float(np.clip(z, -np.tanh(_NEARLY_ONE), np.tanh(_NEARLY_ONE)))
            lower[i, j] = z * np.sqrt(left[i])
            left[i] *= 1.0 - z * z
            found.append(np.arctanh(z))
        lower[i, i] = np.sqrt(left[i])
    return np.array(found)


def log_density(partial: Array, size: int, eta: float) -> Array:
    """Log density of LKJ(η) in atanh of the partial correlations (P(P−1)/2, S), (S,)."""
    _, columns = pairs(size)
    total = np.zeros(partial.shape[1:])
    for y, j in zip(partial, columns, strict=True):
        b = eta + 0.5 * (size - 2 - j)
        far = np.abs(y)
        log_cosh = far + np.log1p(np.exp(-2.0 * far)) - np.log(2.0)
        total = total - 2.0 * b * log_cosh - betaln(b, 0.5)
    return total
