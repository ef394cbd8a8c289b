"""Cdfs of Beta and Gamma laws for the price of a few exponentials, within 1e-3.

On the law's line the log density ℓ has one mode m, and with r = ±√(2 (ℓ(m) − ℓ(u))) and
q = −ℓ'(u)/√(−ℓ''(m)) the cdf is nearly Φ(r + log(q/r)/r) (Barndorff-Nielsen 1986; DiCiccio and
Martin 1991). The error is 1e-3 where the shape is 2 and falls faster than its inverse; smaller
shapes, a few in most pools, have the law's own cdf, and large ones the cube root's normal score
(Wilson and Hilferty 1931; Abramowitz and Stegun 1964, 26.5.22), whose error is 0.006 over shape.
"""

from __future__ import annotations

import numpy as np
from scipy import special

from hbpipe.model.distributions.laws import BETA, GAMMA, NORMAL, STUDENT_T, Law, Pair, Parameters
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array

#: Shapes below have the exact cdf, from there on the cube root is as good; values of r below have
#: the limit of log(q/r)/r, which would lose its digits.
_SMALL, _LARGE, _AT_MODE = 2.0, 12.0, 1e-2
_TAIL = 0.5 * np.array([0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429])
#: Values of an array, which should stay in the processor's cache.
_BLOCK = 2**14


def near_cdf(mixture: Mixture, u: Array) -> Array:
    """Cdfs (R, N) of R mixtures at points ``u`` (R, N) on the law's line, each row its own."""
    found = np.zeros(u.shape)
    length = max(1, _BLOCK // u.shape[1])
    for k, weights in enumerate(mixture.weight.T):
        present = np.flatnonzero(weights)
        for begin in range(0, len(present), length):
            some = present[begin : begin + length]
            own = tuple(values[some, k, None] for values in mixture.parameters)
            found[some] += weights[some, None] * _cdf(mixture.law, own, u[some])
    return np.clip(found, 0.0, 1.0)


def line_moments(mixture: Mixture) -> Pair:
    """Mean and sd on the law's line, (R,); of Student's t with few degrees of freedom a width."""
    law, (first, second) = mixture.law, mixture.parameters[-2:]
    if law is BETA:
        mean = special.digamma(first) - special.digamma(second)
        variance = special.zeta(2.0, first) + special.zeta(2.0, second)
    elif law is GAMMA:
        mean, variance = special.digamma(first) - np.log(second), special.zeta(2.0, first)
    else:
        mean, variance = first, np.square(second)
        if law is STUDENT_T:
            variance = variance * (1.0 + 2.0 / np.maximum(mixture.parameters[0] - 2.0, 1.0))
    centre = np.sum(mixture.weight * mean, axis=1)
    spread = variance + (mean - centre[:, None]) ** 2
    return centre, np.sqrt(np.sum(mixture.weight * spread, axis=1))


def _cdf(law: Law, parameters: Parameters, u: Array) -> Array:
    if law is NORMAL:
        mean, sd = parameters
        return _normal_cdf((u - mean) / np.maximum(sd, 1e-300))
    if law.shape is None:
        return np.asarray(law.cdf(*parameters, u))
    first, second = parameters
    shape = law.shape(first, second)[:, 0]
    found = np.empty(u.shape)
    for rows, score in (
        (np.flatnonzero(shape >= _LARGE), _cube_root),
        (np.flatnonzero((shape >= _SMALL) & (shape < _LARGE)), _signed_root),
    ):
        found[rows] = _normal_cdf(score(law, first[rows], second[rows], u[rows]))
    rows = np.flatnonzero(shape < _SMALL)
    if len(rows):
        found[rows] = law.cdf(first[rows], second[rows], law.from_line(u[rows]))
    return found


def _normal_cdf(z: Array) -> Array:
    """Φ to 1e-7, several times faster than to the last digit (Abramowitz and Stegun 7.1.26)."""
    t = 1.0 / (1.0 + 0.3275911 / np.sqrt(2.0) * np.abs(z))
    tail = t * np.exp(-0.5 * np.square(np.clip(z, -30.0, 30.0)))
    tail *= _TAIL[0] + t * (_TAIL[1] + t * (_TAIL[2] + t * (_TAIL[3] + t * _TAIL[4])))
    return np.asarray(np.where(z > 0, 1.0 - tail, tail))


def _cube_root(law: Law, first: Array, second: Array, u: Array) -> Array:
    """Return the normal score by the cube root of the odds, or of the value."""
    root = np.exp(np.clip((u - np.log(first / second)) / 3.0, -100.0, 100.0))
    low, high = 1.0 / (9.0 * first), 1.0 / (9.0 * second)
    if law is GAMMA:
        return np.asarray((root - (1.0 - low)) / np.sqrt(low))
    return np.asarray(((1.0 - high) * root - (1.0 - low)) / np.sqrt(high * root * root + low))


def _signed_root(law: Law, first: Array, second: Array, u: Array) -> Array:
    """Return the normal score r + log(q/r)/r."""
    offset = np.clip(u - np.log(first / second), -300.0, 300.0)
    rise = np.exp(offset) - 1.0
    if law is BETA:
        share = first / (first + second)
        relative = 1.0 + share * rise
        fall = (first + second) * np.log(relative) - first * offset
        scale = np.sqrt(first * (1.0 - share))
        q, bend = scale * rise / relative, (1.0 - 2.0 * share) / scale
    else:
        fall = first * (rise - offset)
        q, bend = np.sqrt(first) * rise, 1.0 / np.sqrt(first)
    r = np.copysign(np.sqrt(2.0 * np.maximum(fall, 0.0)), offset)
    near = np.abs(r) < _AT_MODE
    safe = np.where(near, 1.0, r)
    return np.asarray(r + np.where(near, bend / 3.0, np.log(np.where(near, 1.0, q) / safe) / safe))
