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

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hbpipe.model.family import Array, Statistics
from hbpipe.model.numerics.jets import Jet, log1p, reciprocal

#: Statistics that have a column for each day.
_DAILY = ("n", "mean", "m2")


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
class Level:
    """The law of a day's level: its mean, and its variance in units of σ².

    ``share`` is what a change of the first day's prior mean changes the mean by.
    """

    mean: Array
    variance: Array
    share: Array

    def drifted(self, ratio: Array) -> Level:
        """Return the law of the next day's level."""
        return Level(self.mean, self.variance + ratio, self.share)

    def seen(self, n: Array, mean: Array) -> Level:
        """Return the law given the mean of n values of the day; n = 0 changes nothing."""
        kept = 1.0 / (1.0 + n * self.variance)
        gain = n * self.variance * kept
        level = self.mean + gain * (mean - self.mean)
        return Level(level, self.variance * kept, self.share * kept)


def predicted(
    n: Array, mean: Array, location: Array, spread: Array, ratio: Array
) -> Iterator[Level]:
    """Give the law of each day's level before its values are seen, from N(location, spread).

    Parameters
    ----------
    n, mean
        (..., D) values of each day and their mean.
    location, spread, ratio
        μ, τ²/σ² and q; they broadcast against n and mean without their last axis.
    """
    shape = np.broadcast_shapes(n.shape[:-1], *(np.shape(x) for x in (location, spread, ratio)))
    start = (np.broadcast_to(np.asarray(x, np.float64), shape) for x in (location, spread, 1.0))
    level = Level(*start)
    for day in range(n.shape[-1]):
        yield level
        level = level.seen(n[..., day], mean[..., day]).drifted(ratio)


def filtered(n: Array, mean: Array, location: Array, spread: Array, ratio: Array) -> Level:
    """Return the law of the last day's level given all days; parameters as of ``predicted``."""
    *_, last = predicted(n, mean, location, spread, ratio)
    return last.seen(n[..., -1], mean[..., -1])


def ahead(statistics: Statistics) -> dict[str, Any]:
    """Add a day without values, so that the last day is the one after the window."""
    return {name: np.pad(np.asarray(statistics[name]), ((0, 0), (0, 1))) for name in _DAILY}


def without_last_day(statistics: Statistics) -> dict[str, Any]:
    """Take the values of the last day away, so that it is predicted from those before."""
    last = np.arange(np.shape(statistics["n"])[1]) == np.shape(statistics["n"])[1] - 1
    return {name: np.where(last, 0, statistics[name]) for name in _DAILY}
