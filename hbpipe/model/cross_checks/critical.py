"""Critical values for intervals that hold whatever the shape of the prior.

An interval around a shrunken estimate is off by noise Z ~ N(0, 1) and by the bias b of shrinkage,
both in standard errors of the estimate. Let only b's second moment m₂ be known, and a bound κ on
its kurtosis. The largest probability that |Z + b| > χ is

    ρ(m₂, κ, χ) = sup E r(b²)  over  E b² = m₂, E b⁴ ≤ κ m₂²,    r(t) = Φ(−√t − χ) + Φ(√t − χ),

and cva(m₂, κ; α) is the χ at which it is α (Armstrong, Kolesár and Plagborg-Møller 2022,
*Econometrica* 90, 2567-2602). r is convex below an inflection point and concave above it, so the
least favourable b² has at most two values (their Appendix B):

* m₂ itself, where r is concave: m₂ ≥ t₀, the point at which the line from (0, r(0)) touches r;
* 0 and t₀, while that law's kurtosis, t₀/m₂, is at most κ;
* otherwise x₁ < m₂ < x₂, with the mean m₂ and second moment κ m₂² just met; x₂ between κ m₂
  (where x₁ = 0) and t₀ is found by a search on ever finer grids.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import special
from scipy.interpolate import CubicSpline

from hbpipe.errors import FitError
from hbpipe.model.family import Array

_BISECTIONS = 50
#: Points of one grid, and grids; each is 16 times finer than the one before.
_POINTS, _GRIDS = 33, 6
#: The line from 0 touches r less than this beyond χ, for every χ below 1e9.
_BEYOND = 6.5
#: From this second moment on the noise plays no part.
_LARGE = 1e12
#: Up to this second moment there is no bias that arithmetic could see, and m₂² does not underflow.
_SMALL = 1e-100
#: Nodes of the interpolated critical value; see :func:`relative_cva`.
_NODES = 257


class LeastFavourable(NamedTuple):
    """The worst law of the squared bias: two ``values`` with ``probabilities``, (K, 2) each."""

    values: Array
    probabilities: Array


def cva(m2: Array | float, kurtosis: float = np.inf, alpha: float = 0.05) -> Array:
    """Critical value of an interval whose bias has second moment ``m2``.

    Parameters
    ----------
    m2
        (K,) or a number: second moment of the bias over the standard error.
    kurtosis
        Bound κ ≥ 1 on E b⁴/(E b²)²; ∞ for none, 3 for a normal law.
    alpha
        Probability of a miss that is allowed, between 0 and 1.

    Returns
    -------
    (K,); ∞ where ``m2`` is.

    Raises
    ------
    FitError
        If an argument is outside its range.
    """
    moments = np.atleast_1d(np.asarray(m2, np.float64))
    _check(moments, kurtosis, alpha)
    found = np.sqrt(moments) * _without_noise(kurtosis, alpha)
    finite = moments < _LARGE
    within = moments[finite]
    # Chebyshev's inequality for Z + b bounds the root from above.
    low, high = np.zeros(len(within)), np.sqrt((1.0 + within) / alpha)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        too_often = non_coverage(within, kurtosis, middle) > alpha
        low, high = np.where(too_often, middle, low), np.where(too_often, high, middle)
    found[finite] = 0.5 * (low + high)
    return found


def relative_cva(weight: Array, kurtosis: float, alpha: float) -> Array:
    """Half-length of the robust interval in plug-in posterior sds, by the store's own weight w.

    The half-length cva(s²/τ²) w s is cva((1 − w)/w) √w times the posterior sd √w s, and z is what
    a normal prior would need. At w = 0, a store without data, it is the limit without noise. A
    spline through exact values serves any number of stores; its relative error is below 1e-5 for
    α ≥ 0.001.
    """
    spline = _spline(float(kurtosis), float(alpha))
    return np.asarray(spline(2.0 / np.pi * np.arcsin(np.clip(weight, 0.0, 1.0) ** 0.25)))


def non_coverage(m2: Array, kurtosis: float, chi: Array) -> Array:
    """Evaluate ρ(m₂, κ, χ), (K,): the largest probability that |Z + b| > χ."""
    worst = least_favourable(m2, kurtosis, chi)
    each = _miss(np.sqrt(worst.values), np.asarray(chi)[:, None])
    return np.asarray(np.sum(worst.probabilities * each, axis=1))


def normal_non_coverage(weight: Array, kurtosis: float, alpha: float) -> Array:
    """Largest non-coverage of the interval that takes the prior for normal, by weight (K,).

    At weight 0, a store without data, it is the limit.
    """
    kept = np.maximum(weight, 1.0 / _LARGE)
    m2 = (1.0 - kept) / kept
    return non_coverage(m2, kurtosis, -special.ndtri(alpha / 2) * np.sqrt(1.0 + m2))


def least_favourable(m2: Array, kurtosis: float, chi: Array) -> LeastFavourable:
    """Find the law of b² that attains ρ(m₂, κ, χ), for m₂ and χ (K,)."""
    m2, chi = np.broadcast_arrays(np.asarray(m2, np.float64), np.asarray(chi, np.float64))
    touch = _touching(chi) ** 2
    linear = (m2 < touch) & (m2 > _SMALL) & (kurtosis > 1)
    upper = np.where(linear, touch, m2)
    share = np.where(linear, m2 / np.where(linear, touch, 1.0), 1.0)
    lower = np.zeros(m2.shape)
    binding = np.flatnonzero(linear & (kurtosis * share < 1.0))
    if len(binding):
        some = m2[binding]
        high = _search(some, kurtosis, chi[binding], touch[binding])
        upper[binding] = high
        lower[binding] = _partner(some, kurtosis, high)
        share[binding] = (some - lower[binding]) / (high - lower[binding])
    return LeastFavourable(np.stack([lower, upper], axis=1), np.stack([1.0 - share, share], axis=1))


def _check(m2: Array, kurtosis: float, alpha: float) -> None:
    if not (np.all(m2 >= 0) and kurtosis >= 1 and 0 < alpha < 1):
        raise FitError(
            f"second moments from {np.min(m2):g}, kurtosis {kurtosis:g} and alpha {alpha:g}",
            expected="moments of at least 0, a kurtosis of at least 1, alpha between 0 and 1",
            remedy="a kurtosis of inf sets no bound",
        )


def _miss(bias: Array, chi: Array) -> Array:
    """P(|Z + b| > χ)."""
    return np.asarray(special.ndtr(-bias - chi) + special.ndtr(bias - chi))


def _density(x: Array) -> Array:
    return np.asarray(np.exp(-0.5 * x * x) / np.sqrt(2.0 * np.pi))


def _touching(chi: Array) -> Array:
    """√t₀, where the line from (0, r(0)) touches r: r(t) − r(0) = t r'(t); 0 where r is concave."""
    low, high = np.sqrt(np.maximum(chi**2 - 3.0, 0.0)), chi + _BEYOND
    at_zero = _miss(np.zeros(chi.shape), chi)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        slope = 0.5 * middle * (_density(middle - chi) - _density(middle + chi))
        above = _miss(middle, chi) - at_zero > slope
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(chi**2 <= 3.0, 0.0, 0.5 * (low + high))


def _partner(m2: Array, kurtosis: float, upper: Array) -> Array:
    """x₁ that x₂ leaves: (m₂ − x₁)(x₂ − m₂) = (κ − 1) m₂²."""
    return np.maximum(m2 - (kurtosis - 1.0) * m2**2 / (upper - m2), 0.0)


def _search(m2: Array, kurtosis: float, chi: Array, touch: Array) -> Array:
    """Find x₂ by the largest non-coverage, on a grid in √x₂ that closes in on it."""
    m2, chi = m2[:, None], chi[:, None]
    first, last = np.sqrt(kurtosis * m2), np.sqrt(touch)[:, None]
    low, high, steps = first, last, np.linspace(0.0, 1.0, _POINTS)[None]
    for _ in range(_GRIDS):
        root = low + (high - low) * steps
        lower = _partner(m2, kurtosis, root**2)
        share = (m2 - lower) / (root**2 - lower)
        value = (1.0 - share) * _miss(np.sqrt(lower), chi) + share * _miss(root, chi)
        best = np.take_along_axis(root, np.argmax(value, axis=1)[:, None], axis=1)
        width = (high - low) / (_POINTS - 1)
        low, high = np.maximum(best - width, first), np.minimum(best + width, last)
    return np.asarray(best[:, 0] ** 2)


def _without_noise(kurtosis: float, alpha: float) -> float:
    """Solve P(|b| > c) = α at its largest, for E b² = 1: Markov's or Cantelli's bound for b²."""
    if alpha * kurtosis >= 1:
        return float(1.0 / np.sqrt(alpha))
    return float(np.sqrt(1.0 + np.sqrt((kurtosis - 1.0) * (1.0 - alpha) / alpha)))


@lru_cache(maxsize=64)
def _spline(kurtosis: float, alpha: float) -> CubicSpline:
    """Spline of cva((1 − w)/w) √w in u with w = sin⁴(πu/2): smooth in u at both ends."""
    nodes = np.linspace(0.0, 1.0, _NODES)
    weight = np.sin(0.5 * np.pi * nodes[1:]) ** 4
    value = cva((1.0 - weight) / weight, kurtosis, alpha) * np.sqrt(weight)
    return CubicSpline(nodes, np.concatenate([[_without_noise(kurtosis, alpha)], value]))
