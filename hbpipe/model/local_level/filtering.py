"""The local level model of a store's days: its filter, and what all days say of the first one.

    ȳ_d ~ N(θ_d, σ²/n_d),   θ_d = θ_{d−1} + N(0, q σ²),   θ_0 ~ N(μ, τ²)

(Harvey 1989, section 2.3; West and Harrison 1997, chapter 2; Durbin and Koopman 2012, chapter 2).
Variances are in units of σ² throughout: the signal ratio q is that of one day's step to one value.

Forward, the Kalman filter carries the law of the level to the last day. Backward, the same data
become one estimate of the first day's level: the likelihood of θ_0 is that of h values with mean
m, whatever the prior. A day's values join those of later days as two parts of a store do (Chan,
Golub and LeVeque 1983), and a day's step lets h values fade to h/(1 + q h). Without drift nothing
fades, and the store is one of the family ``normal``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hbpipe.model.family import Array, Statistics
from hbpipe.model.numerics.jets import Jet, log1p, reciprocal


@dataclass(frozen=True)
class Evidence:
    """What all days of R stores say of the level of the first one, at a signal ratio q.

    Parameters
    ----------
    size, mean
        h and m: the values of that day that would say as much, and their mean.
    squares
        What the days are apart by more than drift explains, in squared units of a value.
    fading
        Σ log(1 + q h) over the steps.
    """

    size: Any
    mean: Any
    squares: Any
    fading: Any


def evidence(n: Array, mean: Array, ratio: Any) -> Evidence:
    """Gather the days of R stores, from the last to the first.

    Parameters
    ----------
    n, mean
        (R, D) values of each day and their mean, 0 where there are none.
    ratio
        q: numbers that broadcast against (R,), or a jet (R,), for derivatives.
    """
    jet = isinstance(ratio, Jet)
    inverse, log_of_one_plus = (reciprocal, log1p) if jet else (np.reciprocal, np.log1p)
    size = centre = squares = fading = ratio * 0.0
    days = np.ascontiguousarray(n.T), np.ascontiguousarray(mean.T)
    for values, found in zip(*(table[::-1] for table in days), strict=True):
        lost = size * ratio
        fading = fading + log_of_one_plus(lost)
        size = size * inverse(lost + 1.0)
        # Where neither this day nor a later one has a value, nothing is shared out.
        share = inverse(size + np.where(values > 0, values, 1.0)) * values
        apart = found - centre
        squares = squares + size * share * apart * apart
        centre = centre + share * apart
        size = size + values
    return Evidence(size, centre, squares, fading)


@dataclass(frozen=True)
class Filtered:
    """The level of the last day: its mean, and its variance in units of σ².

    ``share`` is what a change of the first day's prior mean changes the mean by.
    """

    mean: Array
    variance: Array
    share: Array


def filtered(n: Array, mean: Array, location: Array, spread: Array, ratio: Array) -> Filtered:
    """Filter days forward from N(location, spread) on the first one.

    Parameters
    ----------
    n, mean
        (..., D) values of each day and their mean.
    location, spread, ratio
        μ, τ²/σ² and q; they broadcast against n and mean without their last axis.
    """
    shape = np.broadcast_shapes(n.shape[:-1], *(np.shape(x) for x in (location, spread, ratio)))
    level, variance = (np.broadcast_to(x, shape).astype(np.float64) for x in (location, spread))
    share = np.ones(shape)
    for day in range(n.shape[-1]):
        if day:
            variance = variance + ratio
        kept = 1.0 / (1.0 + n[..., day] * variance)
        gain = n[..., day] * variance * kept
        level = level + gain * (mean[..., day] - level)
        variance, share = variance * kept, share * kept
    return Filtered(level, variance, share)


def ahead(statistics: Statistics) -> dict[str, Any]:
    """Add a day without values, so that the last day is the one after the window."""
    days = {name: np.pad(np.asarray(statistics[name]), ((0, 0), (0, 1))) for name in ("n", "mean")}
    return {**statistics, **days}
