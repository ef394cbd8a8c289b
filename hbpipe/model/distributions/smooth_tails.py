"""Tails of wide Beta-Binomial laws: sums of thousands of counts as integrals.

Where a law is wide its probabilities change little from one count to the next. Then the sum of f
over counts beyond k, and half of f(k), is the integral from k on but for f'(k)/12 and less (the
formula of Euler and Maclaurin): a share of about z²/(12 sd²) at z sds from the mean. Gauss' rule
takes the integral on panels of one sd.
"""

from __future__ import annotations

import numpy as np

from hbpipe.model.distributions.discrete import beta_binomial_cdf
from hbpipe.model.distributions.walk import beta_binomial_mass, beta_binomial_tails
from hbpipe.model.family import Array

#: Laws of at least this sd, whose α and β are at least this: their probabilities are smooth also at
#: the ends.
_SD, _SHAPE = 60.0, 3.0
#: So many sds from an end where probabilities have a pole, a panel resolves them.
_STEEP = 0.3
#: Panels outward, and nodes of each.
_PANELS, _NODES = 12, 6
_BLOCK = 2**17


def mid_cdf(points: Array, trials: Array, alpha: Array, beta: Array, weight: Array) -> Array:
    """P(Y < point) + P(Y = point)/2 of mixtures of Beta-Binomial counts, (J,).

    Both tails of wide laws are within 1e-3 of themselves down to 1e-8; others are exact.

    Parameters
    ----------
    points, trials
        (J,), whole.
    alpha, beta, weight
        (J, K).
    """
    found = _smooth(points, trials, alpha, beta, weight)
    for method in (_from_the_point, _exact):
        left = np.flatnonzero(np.isnan(found))
        at, n, a, b, shares = (values[left] for values in (points, trials, alpha, beta, weight))
        found[left] = method(at, n, a, b, shares)
    return found


def _from_the_point(
    points: Array, trials: Array, alpha: Array, beta: Array, weight: Array
) -> Array:
    return beta_binomial_tails(points, trials, alpha, beta, weight, half=True)


def _exact(points: Array, trials: Array, alpha: Array, beta: Array, weight: Array) -> Array:
    below, upto = (
        beta_binomial_cdf(last, trials, alpha, beta, weight) for last in (points - 1.0, points)
    )
    return np.asarray(0.5 * (below + upto))


def _smooth(points: Array, trials: Array, alpha: Array, beta: Array, weight: Array) -> Array:
    """Return the same, NaN where a law is not wide and smooth enough."""
    size = alpha + beta
    parts = trials[:, None] * (alpha / size)
    variance = parts * (beta / size) * ((size + trials[:, None]) / (size + 1.0))
    mean = np.sum(weight * parts, axis=1)
    sd = np.sqrt(np.sum(weight * (variance + (parts - mean[:, None]) ** 2), axis=1))
    no_pole = np.min(alpha, axis=1) >= _SHAPE
    # With a small α the lower end is steep, and the upper tail is taken, from far enough on.
    smooth = (np.min(beta, axis=1) >= _SHAPE) & (no_pole | (points >= _STEEP * sd))
    smooth &= np.min(variance, axis=1) >= _SD**2
    # A panel is no wider than the narrowest component can bear.
    smooth &= sd**2 <= 4.0 * np.min(variance, axis=1)
    found, rows = np.full(len(points), np.nan), np.flatnonzero(smooth)
    length = max(1, _BLOCK // (alpha.shape[1] * _PANELS * _NODES))
    for first in range(0, len(rows), length):
        some = rows[first : first + length]
        down = (points[some] < mean[some]) & no_pole[some]
        tail = _tail(
            points[some],
            np.where(down, -sd[some], sd[some]),
            *(values[some] for values in (trials, alpha, beta, weight)),
        )
        found[some] = np.where(down, tail, 1.0 - tail)
    return found


def _tail(
    start: Array, step: Array, trials: Array, alpha: Array, beta: Array, weight: Array
) -> Array:
    """Integrate from ``start`` outwards, panel by panel, to where nothing is left; (J,)."""
    edges = start[:, None] + step[:, None] * np.arange(_PANELS + 1.0)
    edges = np.clip(edges, -0.5, trials[:, None] + 0.5)
    x, w = np.polynomial.legendre.leggauss(_NODES)
    half = 0.5 * np.diff(edges, axis=1)[:, :, None]
    at = 0.5 * (edges[:, 1:] + edges[:, :-1])[:, :, None] + half * x
    at = np.clip(at, 0.0, trials[:, None, None]).reshape(len(start), 1, -1)
    each = beta_binomial_mass(at, trials[:, None, None], alpha[:, :, None], beta[:, :, None])
    mixed = np.sum(weight[:, :, None] * each, axis=1)
    return np.asarray(np.sum(mixed * np.abs(half * w).reshape(len(start), -1), axis=1))
