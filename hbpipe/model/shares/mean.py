"""The mean shares of a pool at a known spread: mode and curvature, for many spreads at once.

At a given A = 1/Σ α the likelihood is a product of one factor for each class, times a constant
(``marginal/dirichlet_multinomial.py``). With a Dirichlet(c) hyperprior the log density on the
softmax scale is Σ_k h_k(log μ_k), h_k = Σ_j R(μ_k, A; y_jk) + c log μ_k, under Σ μ_k = 1. As a
function of μ it is concave, so there is one mode, and its Hessian along log μ is a diagonal W on
the hyperplane Σ μ_k dlog μ_k = 0. Newton steps, the covariance and the determinant follow from W
and μ without a matrix:

    step_k = (s_k − λ μ_k)/W_k with λ = Σ(μ s/W)/Σ(μ²/W),  s_k = ∂h_k/∂log μ_k
    log |−H| = Σ log W_k + log Σ(μ²/W)      in the log ratios to any class
    Var(log μ_k) = 1/W_k − (μ_k/W_k)²/Σ(μ²/W)

The softmax scale is that on which Laplace's method is exact in the mean of a Dirichlet law, also
where a class was never seen (MacKay 1998, *Machine Learning* 33).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Codes
from hbpipe.model.marginal.rising import RisingCounts

#: Steps of Newton's method, and the largest relative step at which a spread is done.
_ROUNDS, _SETTLED = 60, 1e-10
#: A step changes no share by more than this factor, as a logarithm.
_LONGEST = 1.5


@dataclass(frozen=True)
class MeanShares:
    """Mean shares of one pool at ``S`` spreads.

    Parameters
    ----------
    mean
        (S, K).
    information
        W (S, K); ∞ where the mean is known.
    log_value
        (S,) Σ h_k at the mode.
    """

    mean: Array
    information: Array
    log_value: Array

    @property
    def log_integral(self) -> Array:
        """Log of the integral over the mean by Laplace's method, (S,), but for (2π)^((K−1)/2)."""
        free = np.isfinite(self.information[:, 0])
        w = np.where(free[:, None], self.information, 1.0)
        width = np.sum(np.log(w), axis=1) + np.log(np.sum(self.mean**2 / w, axis=1))
        return np.asarray(self.log_value - 0.5 * np.where(free, width, 0.0))


def variance_of_shares(mean: Array, information: Array) -> Array:
    """Variance of each mean share, (S, K).

    The one of the Beta law whose mode and curvature on the softmax scale are those found: with v
    the variance by the delta method, 1/(1/v + 1/(μ(1 − μ))).
    """
    pull = mean / information
    linear = mean * (pull - pull**2 * mean / total_pull(mean, information)[:, None])
    noise = mean * (1.0 - mean)
    return np.asarray(linear * noise / np.maximum(noise + linear, np.finfo(np.float64).tiny))


def total_pull(mean: Array, information: Array) -> Array:
    """Σ μ²/W (S,), 1 where the mean is known."""
    found = np.sum(mean**2 / information, axis=1)
    return np.where(found > 0, found, 1.0)


def mean_shares(classes: RisingCounts, spread: Array, weight: float, start: Array) -> MeanShares:
    """Find the mode of the mean shares of the only pool at each spread.

    Parameters
    ----------
    classes
        The counts, by class.
    spread
        A (S,).
    weight
        c, the parameter of the Dirichlet hyperprior; zero for none.
    start
        (K,) shares to begin at, all positive.

    Raises
    ------
    FitError
        If the search does not end.
    """
    points, size = len(spread), len(start)
    table = _Table(classes, spread, weight)
    mean = np.tile(start / np.sum(start), (points, 1))
    moving = np.arange(points)
    for _ in range(_ROUNDS):
        _, slope, information = table.at(mean[moving], moving)
        step = _newton(mean[moving], slope, information)
        longest = np.max(np.abs(step), axis=1)
        short = _LONGEST / np.maximum(longest, _LONGEST)
        moved = mean[moving] * np.exp(step * short[:, None])
        mean[moving] = moved / np.sum(moved, axis=1, keepdims=True)
        moving = moving[longest > _SETTLED * np.sqrt(size)]
        if len(moving) == 0:
            break
    else:
        raise FitError(
            f"the mean shares at a spread of {spread[moving[0]]:g} have not settled",
            where={"classes": size, "rounds": _ROUNDS},
            expected="a concave density, which Newton's method climbs in some 25 rounds",
            remedy="this is a fault of the family, not of the data: report it with the data",
        )
    value, _, information = table.at(mean, np.arange(points))
    return MeanShares(mean, information, value)


def known_shares(classes: RisingCounts, spread: Array, mean: Array) -> MeanShares:
    """Give the same where the mean (K,) is known."""
    shares = np.tile(mean, (len(spread), 1))
    value, _, _ = _Table(classes, spread, 0.0).at(shares, np.arange(len(spread)))
    return MeanShares(shares, np.full(shares.shape, np.inf), value)


def _newton(mean: Array, slope: Array, information: Array) -> Array:
    pull = mean / information
    level = np.sum(pull * slope, axis=1) / np.sum(pull * mean, axis=1)
    return np.asarray((slope - level[:, None] * mean) / information)


@dataclass(frozen=True)
class _Table:
    """Σ h_k and its derivatives at ``S`` spreads."""

    classes: RisingCounts
    spread: Array
    weight: float

    def at(self, mean: Array, points: Codes) -> tuple[Array, Array, Array]:
        """Value (S',), slopes s and information W (S', K) at the spreads with these numbers."""
        count, size = mean.shape
        some = self.classes.select(np.tile(np.arange(size), count))
        found = some.along(mean.ravel(), np.repeat(self.spread[points], size))
        value, by_mean, curvature = (part.reshape(count, size) for part in found)
        total = np.sum(value + self.weight * np.log(mean), axis=1)
        return total, mean * by_mean + self.weight, self.weight - mean**2 * curvature
