"""Likelihoods at a given spread, as functions of the other working variables (``geometry``).

Integration holds the spread A and moves the rest, many times. At a given A most of a likelihood
is a constant: of normal families all of it is a parabola, of counts a term or two. So what
depends on A alone is summed over stores once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbpipe.model.family import Array, Codes, Derivatives
from hbpipe.model.geometry import LOCATION, NOISE
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.numerics.grouped import Rows


def in_location(value: Array, slope: Array, curvature: Array) -> Derivatives:
    """Return derivatives of a function of the location, (G,) each, in (location, log spread)."""
    gradient, hessian = np.zeros((len(value), 2)), np.zeros((len(value), 2, 2))
    gradient[:, LOCATION], hessian[:, LOCATION, LOCATION] = slope, curvature
    return value, gradient, hessian


@dataclass(frozen=True)
class NormalGivenSpread:
    """The likelihood of a normal family at given A = τ²/σ², exactly, (G,) each.

    constant − values log σ − ½ [squares + precision (μ − centre)²]/σ², where σ is 1 if it is not
    a hyperparameter.
    """

    constant: Array
    values: Array
    squares: Array
    precision: Array
    centre: Array

    @classmethod
    def of(
        cls, rows: Rows, weight: Array | float, variance: Array, within: Array, values: Array
    ) -> NormalGivenSpread:
        """Sum up store means whose variances are V/w in units of σ².

        Parameters
        ----------
        rows : from :func:`hbpipe.model.marginal.means.mean_rows`.
        weight, variance : (R,) w and V.
        within, values : (G,) squares within stores, and the number of values.
        """
        n = rows["n"]
        precision = weight * n / variance
        total = rows.sum(precision)
        centre = rows.sum(precision * rows["mean"]) / np.where(total > 0, total, 1.0)
        deviation = rows["mean"] - centre[rows.pool]
        between = rows.sum(weight * (rows["m2"] + n * deviation**2) / variance)
        constant = -0.5 * (values * LOG_2PI + rows.sum(n * np.log(variance)))
        return cls(constant, values, within + between, total, centre)

    @property
    def n_rows(self) -> int:
        """One for each pool."""
        return len(self.constant)

    def select(self, pools: Codes) -> NormalGivenSpread:
        """Return the likelihoods of some pools."""
        return NormalGivenSpread(**{name: part[pools] for name, part in vars(self).items()})

    def value(self, point: Array) -> Array:
        """Evaluate the log likelihood at working points (G, V), (G,)."""
        return self.derivatives(point)[0]

    def derivatives(self, point: Array) -> Derivatives:
        """Evaluate it with its derivatives in the location and, where there is one, the noise."""
        pools, width = point.shape
        has_noise = width > NOISE
        log_sigma = point[:, NOISE] if has_noise else np.zeros(pools)
        inverse, distance = np.exp(-2.0 * log_sigma), point[:, LOCATION] - self.centre
        pull = self.precision * distance * inverse
        scaled = self.squares * inverse + pull * distance
        gradient, hessian = np.zeros((pools, width)), np.zeros((pools, width, width))
        gradient[:, LOCATION], hessian[:, LOCATION, LOCATION] = -pull, -self.precision * inverse
        if has_noise:
            gradient[:, NOISE], hessian[:, NOISE, NOISE] = scaled - self.values, -2.0 * scaled
            hessian[:, LOCATION, NOISE] = hessian[:, NOISE, LOCATION] = 2.0 * pull
        return self.constant - self.values * log_sigma - 0.5 * scaled, gradient, hessian
