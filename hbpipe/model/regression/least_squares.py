"""Each store's own regression, without a prior: ordinary least squares from centred moments.

A store whose events vary in nothing, or are few, determines only some of its coefficients: x and
2x cannot be told apart, and a store that was never on display says nothing about displays. A
coefficient is *determined* (estimable) when no direction along which the fit does not change
moves it (Searle 1971, *Linear Models*, section 5.4).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Hyperparameters, Statistics

#: Least eigenvalue of scaled products that is not rounding.
_TOLERANCE = 1e-12
#: Parts of a direction that are smaller are rounding.
_TOUCHES = 1e-6
_EPSILON = 2.0**-52
#: Stores taken at once, so that memory is bounded.
_BLOCK = 2**16


def least_squares(statistics: Statistics) -> Array:
    """Return the least-squares coefficients of each store, (J, P).

    Parameters and result are those of :func:`coefficients_and_variances`.
    """
    return coefficients_and_variances(statistics)[0]


def least_squares_sd(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Return their sampling sds, (J, P), ∞ where undetermined; ``sigma`` is that of each store."""
    _, variance = coefficients_and_variances(statistics)
    return np.asarray(np.asarray(hyperparameters["sigma"])[..., None] * np.sqrt(variance))


def coefficients_and_variances(statistics: Statistics) -> tuple[Array, Array]:
    """Return the least-squares coefficients of each store, and their sampling variances over σ².

    Parameters
    ----------
    statistics
        ``n`` (J,), ``means`` (J, P + 1) and centred ``cross`` (J, P + 1, P + 1), predictors
        first and the response last.

    Returns
    -------
    (J, P) each; NaN and ∞ where the store's own events do not determine a coefficient.
    """
    stores, columns = np.shape(statistics["means"])
    found, variance = np.full((2, stores, columns - 1), np.nan)
    for begin in range(0, stores, _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        n = np.asarray(statistics["n"][rows], np.float64)
        means, cross = statistics["means"][rows], statistics["cross"][rows]
        found[rows], variance[rows] = _coefficients(n, means, cross)
    return found, variance


def _coefficients(n: Array, means: Array, cross: Array) -> tuple[Array, Array]:
    """Solve the normal equations of some stores, around their means where they can be.

    A predictor that is constant within a store (the column of ones, as a rule) carries its level:
    slopes then depend on centred products alone, so a predictor far from zero costs no digits.
    Without one the line passes through the origin, and products about it are what there is.
    """
    x, y = means[:, :-1], means[:, -1]
    products, totals = cross[:, :-1, :-1], cross[:, :-1, -1]
    rounding = 8.0 * _EPSILON * np.abs(x) * np.sqrt(n)[:, None]
    still = np.sqrt(np.maximum(np.einsum("jkk->jk", products), 0.0)) <= rounding
    level = _first(still & (x != 0.0))
    shift = np.where(level.any(axis=1), 0.0, n)[:, None]
    products = products + shift[:, :, None] * x[:, :, None] * x[:, None, :]
    totals = totals + shift * y[:, None] * x
    slopes, inverse, free = _solve(products, totals, ~still, level, rounding)
    carried = np.sum(x * level, axis=1)
    unit = np.where(carried != 0.0, carried, 1.0)
    rest = (y - np.sum(x * slopes, axis=1)) / unit
    of_mean = 1.0 / np.maximum(n, 1.0) + np.einsum("jk,jkl,jl->j", x, inverse, x)
    variance = np.where(level, (of_mean / unit**2)[:, None], np.einsum("jkk->jk", inverse))
    # The level moves along with directions whose parts do not cancel in the mean response.
    moved, size = np.einsum("jk,jkv->jv", x, free), np.einsum("jk,jkv->jv", abs(x), abs(free))
    level_free = (np.abs(moved) > _TOUCHES * size).any(axis=1)
    undetermined = np.where(level, level_free[:, None], (free != 0.0).any(axis=2))
    found = np.where(level, rest[:, None], slopes)
    return np.where(undetermined, np.nan, found), np.where(undetermined, np.inf, variance)


def _first(marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Keep the first mark of each row."""
    return np.asarray(marked & (np.cumsum(marked, axis=1) == 1))


def _solve(
    products: Array,
    totals: Array,
    used: NDArray[np.bool_],
    level: NDArray[np.bool_],
    rounding: Array,
) -> tuple[Array, Array, Array]:
    """Least-norm solution (J, P), the products' inverse, and directions that do not change the fit.

    Those are the columns of (J, P, P), zero where there are fewer, in the units of the
    coefficients. Predictors that are not ``used`` are such directions themselves, but for the
    ``level``, which is 0 in both.
    """
    size = np.sqrt(np.maximum(np.einsum("jkk->jk", products), 0.0))
    used = used & (size > 0.0)
    inverse = np.where(used, 1.0 / np.where(used, size, 1.0), 0.0)
    scaled = products * inverse[:, :, None] * inverse[:, None, :]
    values, vectors = np.linalg.eigh(scaled + np.eye(level.shape[1]) * level[:, None, :])
    least = _TOLERANCE + 2.0 * np.max(rounding * inverse, axis=1)
    real = values > least[:, None]
    kept = np.where(real, 1.0 / np.where(real, values, 1.0), 0.0)
    of_scaled = np.einsum("jkv,jv,jlv->jkl", vectors, kept, vectors)
    solved = of_scaled * inverse[:, :, None] * inverse[:, None, :]
    slopes = np.einsum("jkl,jl->jk", solved, totals)
    free = np.where(real[:, None, :] | (np.abs(vectors) < _TOUCHES), 0.0, vectors)
    return slopes, solved, free * np.where(used, inverse, 1.0)[:, :, None]
