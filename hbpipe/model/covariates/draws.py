"""The posterior of counts with covariates: importance sampling along the spread.

Points are drawn as for every family with more than two hyperparameters
(``integration/drawing.py``), in the coordinates of ``ridge.py``. They are enough when posteriors
of a few made-up stores have settled: stores without data, typical ones and typical ones far out,
where covariates are most usual and where they are most unusual. Looked at are probabilities below
points near their limits, as the limits themselves cost more where they are next to 0, and the
moments of a store without data need not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.covariates.ridge import Ridge, find_ridges
from hbpipe.model.covariates.stores import conditional
from hbpipe.model.covariates.target import RegressionTarget
from hbpipe.model.family import Array
from hbpipe.model.geometry import SPREAD
from hbpipe.model.integration.drawing import Density, draw, drawn_nodes
from hbpipe.model.integration.first_order import marginal_mode
from hbpipe.model.integration.peak import Peak
from hbpipe.model.integration.sampled_nodes import PoolNodes
from hbpipe.model.numerics.modes import Mode
from hbpipe.model.update.sampled_stores import StorePosterior

#: How far out a typical store may lie, in predictive sds.
_FAR_OUT = 2.0
#: Levels at which the made-up stores are looked at, at given hyperparameters (further in for the
#: mixture), and the normal density there.
_LEVELS, _WORTH = np.array([0.025, 0.5, 0.975]), np.array([0.0584, 0.3989, 0.0584])

#: Points with less than this share of the largest weight say nothing.
_NEGLIGIBLE = 1e-10


def draw_counts(target: RegressionTarget, peak: Peak) -> list[PoolNodes]:
    """Draw the hyperparameters of each pool by itself."""
    ridges = find_ridges(target, peak)
    centre, variance = peak.point[:, SPREAD], np.ones(target.n_pools)
    if SPREAD in target.free:
        centre = marginal_mode(target, peak)[:, SPREAD]
        variance = peak.covariance[:, SPREAD, SPREAD]
    found = []
    for pool, ridge in enumerate(ridges):
        alone = OnRidge(target.select(np.array([pool])), ridge)
        try:
            found.append(_of_pool(alone, float(centre[pool]), float(variance[pool])))
        except FitError as error:
            raise error.at(pool=pool) from error
    return found


def _of_pool(target: OnRidge, centre: float, variance: float) -> PoolNodes:
    sketch = target.target.sketch
    density = Density(target, sketch.n_rows)
    start, covariance = np.zeros(len(target.names)), np.eye(len(target.names))
    if target.ridge.has_spread:
        start[0], covariance[0, 0] = centre, variance
    mode = Mode(start, float(density.far(start[None])[0]), covariance, True)
    drawn = draw(density, mode, Typical.of(target, start), few=True)
    return drawn_nodes(drawn, target.nodes(drawn.points), int(sketch.n_groups[0]))


@dataclass(frozen=True)
class OnRidge:
    """The log posterior of one pool in the coordinates of its ridge."""

    target: RegressionTarget
    ridge: Ridge

    @property
    def names(self) -> tuple[str, ...]:
        """Log spread, where it is free, and the others in units of their conditional sds."""
        others = tuple(f"z{place}" for place in self.ridge.places)
        return ("log_spread", *others) if self.ridge.has_spread else others

    def log_density(self, points: Array) -> Array:
        """Log density at points, (S, V) -> (S,); −∞ beyond the range of floats."""
        working, stretch = self.ridge.points(points)
        value = self.target.repeat(len(points)).log_density(working) + stretch
        return np.where(np.isnan(value), -np.inf, value)

    def nodes(self, points: Array) -> dict[str, Array]:
        """Values at points (S, V), as ``stores.py`` reads them."""
        working = self.ridge.points(points)[0]
        if not self.ridge.has_spread:
            working = self.target.repeat(len(points)).complete(working)
        coefficients, log_spread = self.target.in_user_units(working[None])
        return {
            "coefficients": coefficients[0],
            "spread": np.exp(log_spread[0]),
            "noise": np.ones(len(points)),
        }


@dataclass(frozen=True)
class Typical:
    """Made-up stores whose probabilities decide when there are points enough.

    ``size`` and ``raw`` (J,), ``covariates`` (J, P); ``limits`` (J, L) near the ends and the middle
    of their posteriors.
    """

    target: OnRidge
    size: Array
    raw: Array
    covariates: Array
    limits: Array

    @classmethod
    def of(cls, target: OnRidge, centre: Array) -> Typical:
        """Make them up from the hyperparameters at ``centre`` (V,)."""
        sketch, geometry = target.target.sketch, target.target.geometry
        unusual = np.sum(np.square(sketch.x), axis=1)
        x = sketch.rows["given"][[np.argmin(unusual), np.argmax(unusual)]]
        size = float(geometry.median_size(sketch)[0])
        nodes = target.nodes(centre[None])
        new = conditional(geometry, nodes, np.zeros(2), np.zeros(2), x)
        mean, variance = new.mean[:, 0, 0], new.variance[:, 0, 0]
        _, v1, v2 = geometry.variance
        away = _FAR_OUT * np.sqrt(variance + (v1 * mean + v2 * mean**2) / size)
        highest = 1.0 if v2 < 0 else np.inf
        raw = [0.0 * mean, mean, np.maximum(mean - away, 0.0), np.minimum(mean + away, highest)]
        sizes, raws = np.repeat([0.0, size, size, size], 2), np.concatenate(raw)
        at = conditional(geometry, nodes, sizes, raws, np.tile(x, (4, 1)))
        limits = at.law.ppf(*(values[:, 0] for values in at.parameters), _LEVELS)
        return cls(target, sizes, raws, np.tile(x, (4, 1)), limits)

    def __call__(self, points: Array, weight: Array) -> tuple[Array, Array]:
        """Probabilities below the limits at weighted points (S, V), and what an sd is worth.

        Both are (J L,). A normal law has the density ``_WORTH`` at its limits, in units of its sd.
        """
        geometry = self.target.target.geometry
        # Points without weight may be beyond the range of floats.
        used = weight > _NEGLIGIBLE * np.max(weight)
        nodes = self.target.nodes(points[used])
        at = conditional(geometry, nodes, self.size, self.raw, self.covariates)
        posterior = StorePosterior(at, weight[used], nodes)
        found = [posterior.cdf(limit[:, None])[:, 0] for limit in self.limits.T]
        return np.concatenate(found), np.repeat(_WORTH, len(self.size))
