"""Ratios of log(1 + u) and u with two derivatives, exact also for small u."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.polynomial.polynomial import polyder
from numpy.typing import NDArray

from hbpipe.model.family import Array
from hbpipe.model.numerics.horner import horner

#: Below this argument, closed forms cancel and the power series is used.
_SMALL = 0.1
_INDEX = np.arange(1, 19)
#: Coefficients of log1p_integral and log1p_ratio in powers of u, and of their two derivatives.
_INTEGRAL_SERIES = [
    polyder(np.concatenate([[0.0], (-1.0) ** (_INDEX - 1) / (_INDEX * (_INDEX + 1))]), order)
    for order in range(3)
]
_RATIO_SERIES = [
    polyder(np.concatenate([[1.0], (-1.0) ** _INDEX / (_INDEX + 1)]), order) for order in range(3)
]


def log1p_integral(u: Array) -> tuple[Array, Array, Array]:
    """Evaluate h(u) = (1/u) ∫₀ᵘ log(1 + x) dx = (1 + 1/u) log(1 + u) − 1 and two derivatives.

    Series for small u: Σ_{i≥1} (−1)^(i−1) uⁱ / (i (i + 1)).
    """
    small, y = _split(u)
    inverse, log = 1.0 / y, np.log1p(y)
    per = log * inverse
    closed = (
        log + per - 1.0,
        (1.0 - per) * inverse,
        (1.0 / (1.0 + y) + 2.0 * (per - 1.0) * inverse) * inverse,
    )
    return _with_series(closed, _INTEGRAL_SERIES, u, small)


def log1p_integral_value(u: Array) -> tuple[Array, Array]:
    """Evaluate log(1 + u), and the same h(u) without derivatives."""
    log = np.log1p(u)
    small = u < _SMALL
    value = log + np.divide(log, u, out=np.ones_like(u), where=~small) - 1.0
    if small.any():
        value[small] = horner(u[small], _INTEGRAL_SERIES[0])
    return log, value


def log1p_ratio(u: Array) -> tuple[Array, Array, Array]:
    """Evaluate ℓ(u) = log(1 + u)/u and two derivatives.

    Series for small u: Σ_{i≥0} (−1)ⁱ uⁱ / (i + 1).
    """
    small, y = _split(u)
    inverse, slope = 1.0 / y, 1.0 / (1.0 + y)
    per = np.log1p(y) * inverse
    closed = (
        per,
        (slope - per) * inverse,
        (2.0 * (per - slope) * inverse - slope**2) * inverse,
    )
    return _with_series(closed, _RATIO_SERIES, u, small)


def _split(u: Array) -> tuple[NDArray[np.bool_], Array]:
    """Where the series holds, and arguments for the closed form that are harmless there."""
    small = u < _SMALL
    return small, np.where(small, 1.0, u)


def _with_series(
    closed: tuple[Array, Array, Array],
    series: Sequence[Array],
    u: Array,
    small: NDArray[np.bool_],
) -> tuple[Array, Array, Array]:
    """Put a power series and its derivatives in place of the closed forms at small arguments."""
    if small.any():
        at = u[small]
        for values, coefficients in zip(closed, series, strict=True):
            values[small] = horner(at, coefficients)
    return closed
