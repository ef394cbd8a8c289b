"""The log posterior of the hyperparameters of pools with covariates, in working variables.

The working variables are those of the base family at the mean row of the covariates (location,
log spread, log noise: see ``geometry.py``) and then the other standard coefficients. So modes,
windows, checks and first-order posteriors are found by the same code as without covariates.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from hbpipe.model.covariates.likelihood import (
    log_marginal,
    log_probability,
    log_restriction,
)
from hbpipe.model.covariates.prior import CoefficientPrior
from hbpipe.model.family import Array, Codes, Derivatives, Family
from hbpipe.model.geometry import LOCATION, SPREAD, Geometry, geometry_of
from hbpipe.model.integration.target import Target
from hbpipe.model.numerics import jets
from hbpipe.model.numerics.jets import Jet


def geometry_at_the_mean(base: Family) -> Geometry:
    """Return the base family's geometry; it reads the sketch of the pools as a whole."""
    geometry = geometry_of(base)
    return replace(geometry, median_size=lambda sketch: geometry.median_size(sketch.whole))


def by_place(coordinates: Array, width: int) -> Array:
    """Coordinates (G, D) in the order of the working variables: the first coefficient first."""
    others = coordinates.shape[1] - width
    order = [0, *range(width, width + others), *range(1, width)]
    return np.asarray(coordinates[:, order])


@dataclass(frozen=True)
class RegressionTarget(Target):
    """Log marginal likelihood times hyperprior, the coefficients among the working variables.

    ``family`` is the base family and ``sketch`` is in standard units; ``held`` (G, V) is in the
    order of the working variables.
    """

    prior: CoefficientPrior

    @property
    def quadratic(self) -> tuple[int, ...]:
        """Places of the coefficients in normal families."""
        if not self.geometry.location_is_analytic:
            return ()
        return (LOCATION, *range(self.geometry.n_working, self.held.shape[1]))

    def evaluate(self, point: Array) -> Jet:
        """Log posterior density with respect to the free working variables, at a point."""
        working = self._working(point)
        coordinates = self._coordinates(working)
        at = np.stack([jet.value for jet in coordinates], axis=1)
        value, gradient, hessian = log_marginal(self.family, self.sketch, at)
        return jets.chain(value, gradient, hessian, coordinates) + self.prior.in_working(working)

    def log_density(self, point: Array) -> Array:
        """Evaluate the same for counts without derivatives, (G,)."""
        bare = [jets.constant(jet.value) for jet in self._working(point)]
        at = np.stack([jet.value for jet in self._coordinates(bare)], axis=1)
        likelihood = log_probability(self.family, self.sketch, at)
        return likelihood + self.prior.in_working(bare).value

    def given_spread(self, log_spread: Array) -> Target:
        """Return itself: with covariates nothing is shorter at a given spread."""
        return self

    def in_user_units(self, points: Array) -> tuple[Array, Array]:
        """Working points (G, ..., V) -> the user's coefficients (G, ..., P), log A at location 0.

        log A is (G, ...).
        """
        own, follows = self.geometry.n_working, self.geometry.spread_follows
        standard = np.concatenate([points[..., :1], points[..., own:]], axis=-1)
        coefficients = np.einsum("gpq,g...q->g...p", self.sketch.units.matrix, standard)
        return coefficients, points[..., SPREAD] - follows * points[..., LOCATION]

    def _coordinates(self, working: list[Jet]) -> list[Jet]:
        own = self.geometry.n_working
        location, *others = self.geometry.coordinates(working[:own])
        return [location, *working[own:], *others]

    def _working(self, point: Array) -> list[Jet]:
        working = super()._working(point)
        for place in range(self.geometry.n_working, len(working)):
            if place not in self.free:
                working[place] = working[place] * 0.0 + self.held[:, place]
        return working


@dataclass(frozen=True)
class IntegratedTarget(Target):
    """The same for normal families with the coefficients integrated out, which is exact.

    The location is a place without meaning, held at 0. Where the coefficients are held, ``fixed``
    (G, P) has them in standard units and nothing is integrated.
    """

    prior: CoefficientPrior
    fixed: Array | None = None

    def select(self, pools: Codes) -> Self:
        """Return the target of some pools."""
        cut = super().select(pools)
        return cut if self.fixed is None else replace(cut, fixed=self.fixed[pools])

    def evaluate(self, point: Array) -> Jet:
        """Log posterior density of spread and noise, at a point."""
        working = self._working(point)
        coordinates = self.geometry.coordinates(working)
        at = np.stack([jet.value for jet in coordinates], axis=1)
        value, slope, curvature = self._marginal(at[:, 1:])
        gradient, hessian = np.zeros_like(at), np.zeros((*at.shape, at.shape[1]))
        gradient[:, 1:], hessian[:, 1:, 1:] = slope, curvature
        return jets.chain(value, gradient, hessian, coordinates) + self.prior.base.in_working(
            working
        )

    def given_spread(self, log_spread: Array) -> Target:
        """Return itself: with covariates nothing is shorter at a given spread."""
        return self

    def coefficients(self, others: Array) -> tuple[Array, Array]:
        """Posterior mean (G, P) and covariance (G, P, P) of the coefficients given the rest.

        ``others`` (G, D − P) are the coordinates after them. The posterior is exactly normal.
        """
        width = self.sketch.x.shape[1]
        start = np.zeros((len(others), width)) if self.fixed is None else self.fixed
        if self.fixed is not None:
            return start, np.zeros((*start.shape, width))
        _, gradient, hessian = self._given(np.concatenate([start, others], axis=1))
        covariance = np.linalg.inv(-hessian[:, :width, :width])
        mean = np.einsum("gpq,gq->gp", covariance, gradient[:, :width])
        return np.asarray(mean), np.asarray(covariance)

    def _given(self, coordinates: Array) -> Derivatives:
        """Likelihood times the hyperprior of the coefficients."""
        width = self.sketch.x.shape[1]
        value, gradient, hessian = log_marginal(self.family, self.sketch, coordinates)
        distance = coordinates[:, :width] - self.prior.centre
        pull = np.einsum("gpq,gq->gp", self.prior.precision, distance)
        gradient[:, :width] -= pull
        hessian[:, :width, :width] -= self.prior.precision
        return value - 0.5 * np.sum(pull * distance, axis=1), gradient, hessian

    def _marginal(self, others: Array) -> Derivatives:
        """Integral over the coefficients and its derivatives in the coordinates after them."""
        width = self.sketch.x.shape[1]
        mean, covariance = self.coefficients(others)
        at = np.concatenate([mean, others], axis=1)
        value, gradient, hessian = self._given(at)
        curvature = hessian[:, width:, width:]
        if self.fixed is not None:
            return value, gradient[:, width:], curvature
        # Along the ridge of the coefficients the slope is the partial one.
        mixed = hessian[:, :width, width:]
        curvature = curvature + np.einsum("gpi,gpq,gqj->gij", mixed, covariance, mixed)
        volume, by_others, curved = log_restriction(
            self.family, self.sketch, at, self.prior.precision
        )
        return (
            value + volume,
            gradient[:, width:] + by_others[:, width:],
            curvature + curved[:, width:, width:],
        )
