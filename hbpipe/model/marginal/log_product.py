"""The logarithm of a product, p(w; L) = Σ_{j<L} log(1 + jw), with derivatives, also for large L.

By the Euler-Maclaurin formula (Abramowitz and Stegun 1964, 23.1.30). Its corrections fall like
w^(2r−1): where w ≤ 1/8 the nine used leave less than 1e-16, and less than 1e-12 of a second
derivative.
"""

from __future__ import annotations

import numpy as np

from hbpipe.model.family import Array
from hbpipe.model.marginal.log1p import log1p_integral, log1p_integral_value
from hbpipe.model.numerics.horner import horner

#: B_2r / (2r (2r − 1)), the coefficients s_r of Stirling's series Σ s_r x^(2r−1), and those of
#: its two derivatives; powers of x².
_STIRLING: Array = np.array(
    [
        *(1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188),
        *(-691 / 360_360, 1 / 156, -3617 / 122_400, 43_867 / 244_188),
    ]
)
_POWERS: Array = np.arange(1.0, 18.0, 2.0)
_STIRLING_SLOPE: Array = _STIRLING * _POWERS
_STIRLING_CURVATURE: Array = (_STIRLING * _POWERS * (_POWERS - 1))[1:]


def log_product(w: Array, length: Array) -> tuple[Array, Array, Array]:
    """Evaluate p(w; L) = Σ_{j<L} log(1 + jw) and its first two derivatives in w.

    Euler-Maclaurin: L h(Lw) − ½ log(1 + Lw) + Σ_r s_r w^(2r−1) [(1 + Lw)^(1−2r) − 1], where
    h(u) = (1 + 1/u) log(1 + u) − 1 is the integral and s_r are Stirling's coefficients.

    Parameters
    ----------
    w : (R,) in [0, 1/8].
    length : (R,) L ≥ 0; where it is not whole, p is log Γ(1/w + L) − log Γ(1/w) + L log w.
    """
    begin = stirling(w)
    p, p_w, p_ww = (part - term for part, term in zip(ending_at(w, length), begin, strict=True))
    return p, p_w, p_ww


def ending_at(w: Array, length: Array) -> tuple[Array, Array, Array]:
    """Evaluate p without the part of Stirling's series that depends on w alone, −S(w)."""
    u = length * w
    h, h_u, h_uu = log1p_integral(u)
    inverse = 1.0 / (1.0 + u)
    half = 0.5 * length * inverse
    p = length * h - 0.5 * np.log1p(u)
    p_w = length**2 * h_u - half
    p_ww = length**3 * h_uu + half * length * inverse
    # With x = w/(1 + u): dx/dw = 1/(1 + u)², d²x/dw² = −2L/(1 + u)³.
    x, x_w, x_ww = w * inverse, inverse**2, -2.0 * length * inverse**3
    s, s_x, s_x_x = stirling(x)
    p += s
    p_w += s_x * x_w
    p_ww += s_x_x * x_w**2 + s_x * x_ww
    return p, p_w, p_ww


def ending_value(w: Array, length: Array) -> Array:
    """Evaluate the first of ``ending_at`` alone."""
    u = length * w
    log, h = log1p_integral_value(u)
    return np.asarray(length * h - 0.5 * log + stirling_value(w / (1.0 + u)))


def ending_of_sums(w: Array, length: Array) -> tuple[Array, Array, Array]:
    """Evaluate p, Σ 1/(1 + jw) and Σ 1/(1 + jw)² over j < L, without what depends on w alone.

    The sums are differences of digamma and trigamma functions of 1/w + L and 1/w, by Stirling's
    series S: with u = Lw and x = w/(1 + u),

        log(1 + u)/w + ½ u/(1 + u) − x S'(x)/(1 + u)   and
        L/(1 + u) + ½ (1 − 1/(1 + u)²) − x (2 S'(x) + x S''(x))/(1 + u)².

    What is left out is that of :func:`beginning_of_sums`.
    """
    u = length * w
    log, h = log1p_integral_value(u)
    inverse = 1.0 / (1.0 + u)
    x = w * inverse
    s, s_x, s_x_x = stirling(x)
    first = np.divide(log, w, out=length + 0.0 * w, where=w > 0)
    return (
        length * h - 0.5 * log + s,
        first + inverse * (0.5 * u - x * s_x),
        length * inverse + 0.5 - inverse**2 * (0.5 + x * (2.0 * s_x + x * s_x_x)),
    )


def beginning_of_sums(w: Array) -> tuple[Array, Array, Array]:
    """Evaluate what ``ending_of_sums`` leaves out, with its sign: −S, w S' and w (2 S' + w S'')."""
    s, s_w, s_w_w = stirling(w)
    return -s, w * s_w, w * (2.0 * s_w + w * s_w_w)


def stirling(x: Array) -> tuple[Array, Array, Array]:
    """Evaluate Σ s_r x^(2r−1) and its first two derivatives."""
    square = x * x
    return (
        x * horner(square, _STIRLING),
        horner(square, _STIRLING_SLOPE),
        x * horner(square, _STIRLING_CURVATURE),
    )


def stirling_value(x: Array) -> Array:
    """Evaluate Σ s_r x^(2r−1) alone."""
    return np.asarray(x * horner(x * x, _STIRLING))
