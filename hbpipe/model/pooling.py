"""No pooling, complete pooling and partial pooling side by side.

Three answers to how much stores have in common (Gelman and Hill 2007, chapter 12): every store by
itself, all stores as one, and the prior in between. The estimates of the first two have a
sampling variance V(θ)/n, with V the family's variance function and n the size of the store or of
the whole pool (see ``geometry``). An estimate on the edge of what is possible, such as no success,
would have none at all: its variance is taken half an event inside.

With covariates, stores that are alike are stores on one line: complete pooling is the regression
without spread, and every store has the mean g⁻¹(x'b) at its own covariates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from scipy import special

from hbpipe.model.estimation.alike import by_information
from hbpipe.model.estimation.problem import Problem, diagnose
from hbpipe.model.family import Array, Codes, Family, Hyperparameters, Statistics
from hbpipe.model.geometry import LOCATION, NOISE, Geometry, geometry_of
from hbpipe.model.numerics.jets import variables
from hbpipe.model.numerics.optimise import Curvature, Optimum, maximise

if TYPE_CHECKING:
    from hbpipe.model.fits import Fit, PoolFits


@dataclass(frozen=True)
class CompletePooling:
    """Every pool as a single store: the fit at no spread, (G,) each.

    ``estimate`` with its sampling ``sd``, (G, P) where a store has coefficients;
    ``log_likelihood`` with the number of ``parameters`` estimated. A pool without data has
    estimate NaN and sd ∞.

    With covariates ``estimate`` (G, P) are the coefficients b, and ``covariance`` (G, P, P) is
    theirs; NaN and ∞ where the stores with data do not determine them.
    """

    estimate: Array
    sd: Array
    log_likelihood: Array
    parameters: Array
    covariance: Array | None = None

    def of_stores(
        self, family: Family, statistics: Statistics, pools: Codes
    ) -> tuple[Array, Array]:
        """Estimate and sd for each store, (J,) or (J, P), whose pools are ``pools`` (J,).

        With covariates the sd is that of x'b on the family's line, by the delta method.
        """
        if self.covariance is None:
            return self.estimate[pools], self.sd[pools]
        geometry, x = geometry_of(family), np.asarray(statistics["covariates"], np.float64)
        known = np.asarray(np.isfinite(self.estimate).all(axis=1))
        covariance = np.where(known[:, None, None], self.covariance, 0.0)[pools]
        line = np.einsum("jp,jp->j", x, np.where(known[:, None], self.estimate, 0.0)[pools])
        slope = np.exp(_log_slope(geometry, line))
        sd = slope * np.sqrt(np.maximum(np.einsum("jp,jpq,jq->j", x, covariance, x), 0.0))
        mean = np.where(known[pools], geometry.mean(line), np.nan)
        return mean, np.where(known[pools], sd, np.inf)


class Level(NamedTuple):
    """A maximised log likelihood and the number of parameters estimated for it."""

    log_likelihood: float
    parameters: int


@dataclass(frozen=True)
class Pooling:
    """The likelihoods of one pool under complete, partial and no pooling.

    Parameters
    ----------
    complete, partial, none
        All stores alike; the marginal likelihood at its maximum, whatever the estimator of the
        fit; each store with its own θ (∞ where that likelihood has no bound, None where the
        family does not say).
    """

    complete: Level
    partial: Level
    none: Level | None

    @property
    def likelihood_ratio(self) -> float:
        """Twice the log likelihood that a spread between stores gains."""
        return max(0.0, 2.0 * (self.partial.log_likelihood - self.complete.log_likelihood))

    @property
    def p_value(self) -> float:
        """Of no spread: half of χ² with one degree of freedom, half a point at 0.

        No spread is the end of the range, so the plain χ² is too cautious (Self and Liang 1987,
        *JASA* 82).
        """
        if self.partial.parameters == self.complete.parameters:
            return 1.0
        statistic = self.likelihood_ratio
        return float(0.5 * special.chdtrc(1.0, statistic)) if statistic > 0 else 1.0

    @property
    def homogeneity(self) -> float | None:
        """Twice the log likelihood that an own θ for each store gains over one for all.

        For estimates with known variances it is Cochran's Q, for counts the deviance G².
        """
        if self.none is None:
            return None
        return max(0.0, 2.0 * (self.none.log_likelihood - self.complete.log_likelihood))

    @property
    def homogeneity_p_value(self) -> float | None:
        """Of one θ for all: χ² with as many degrees of freedom as own parameters are added."""
        if self.none is None:
            return None
        degrees = self.none.parameters - self.complete.parameters
        return float(special.chdtrc(degrees, self.homogeneity)) if degrees > 0 else 1.0


#: A logit, or the logarithm of a rate, that is still an ordinary number.
_FARTHEST = 12.0
#: The fits at no spread, for as long as the fits live: posteriors of several shards ask once.
_COMPLETE: WeakKeyDictionary[PoolFits, CompletePooling] = WeakKeyDictionary()


def no_pooling(
    family: Family, statistics: Statistics, hyperparameters: Hyperparameters
) -> tuple[Array, Array]:
    """Raw estimate of each store and its sampling sd, (J,) or (J, P); NaN and ∞ without data.

    ``hyperparameters`` are those of each store, name -> (J, ...): a within-store sd is among them.
    """
    raw, geometry = family.raw_estimates(statistics), family.geometry
    if geometry is None:
        assert family.raw_sd is not None, f"{family.name} has neither a geometry nor raw_sd"
        return raw, family.raw_sd(statistics, hyperparameters)
    noise = np.square(hyperparameters["sigma"]) if geometry.has_noise else 1.0
    size, estimate = geometry.sizes(statistics)
    return raw, _sampling_sd(geometry, estimate, size, noise)


def complete_pooling(fits: PoolFits) -> CompletePooling:
    """Fit every pool at no spread, of stores or of groups; what the user held stays held."""
    fits = fits.without_levels().single_law()
    if fits not in _COMPLETE:
        _COMPLETE[fits] = _fit_complete(fits)
    return _COMPLETE[fits]


def log_likelihood_no_pooling(fits: PoolFits) -> Array:
    """Log likelihood (G,) when every store has its own θ; NaN where the family does not say."""
    family = fits.model
    if family.log_no_pooling is None:
        return np.full(len(fits.status), np.nan)
    return family.log_no_pooling(fits.sketch, fits.held)


def compare(fit: Fit) -> Pooling:
    """Compare the three likelihoods for the stores of one fit."""
    complete, held = complete_pooling(fit.pools), fit.pools.held[0]
    location = held[: fit.pools.covariates or 1]
    shared, none = int(complete.parameters[0] - np.isnan(location).sum()), None
    if fit.pools.model.log_no_pooling is not None:
        value = float(log_likelihood_no_pooling(fit.pools)[0])
        none = Level(value, fit.n_groups + shared)
    return Pooling(
        complete=Level(float(complete.log_likelihood[0]), int(complete.parameters[0])),
        partial=Level(_partial(fit), int(np.isnan(held).sum())),
        none=none,
    )


def _partial(fit: Fit) -> float:
    """Maximum of the marginal likelihood, found anew where the fit was of another kind."""
    from hbpipe.model.fit import fit_pools  # a fit shows its comparison

    if fit.estimator == "ml":
        return fit.log_marginal_likelihood
    again = fit_pools(fit.pools.model, fit.sketch, fixed=fit.pools.fixed)
    return float(again.log_marginal_likelihood[0])


def _fit_complete(fits: PoolFits) -> CompletePooling:
    if fits.covariates is not None:
        return _fit_regression(fits)
    family, held = fits.model, fits.held.copy()
    held[:, family.spreads] = 0.0
    best, parameters = _climb(family, fits, held), np.isnan(held).sum(axis=1)
    if (geometry := family.geometry) is None:
        estimate, sd = by_information(family, best, held)
        return CompletePooling(estimate, sd, best.value, parameters)
    located = np.asarray(geometry.mean(best.coordinates[:, LOCATION]), np.float64)
    noise = np.ones(len(located))
    if geometry.has_noise:
        noise = np.exp(2.0 * best.coordinates[:, NOISE])
    seen = np.asarray(fits.sketch.n_groups) > 0
    size = np.where(seen, _total_size(family, fits, best.coordinates, noise), 0.0)
    known = ~np.isnan(held[:, LOCATION])
    return CompletePooling(
        estimate=np.where(seen | known, located, np.nan),
        sd=np.where(known, 0.0, _sampling_sd(geometry, located, size, noise)),
        log_likelihood=best.value,
        parameters=parameters,
    )


def _fit_regression(fits: PoolFits) -> CompletePooling:
    """Fit the regression without spread, in the units in which fits with covariates walk."""
    family, width = fits.model, fits.covariates
    assert family.standardise is not None
    sketch = family.standardise(fits.sketch, True)
    held = sketch.units.inside(fits.held)
    held[:, family.spreads] = 0.0
    pinned, status, identified = diagnose(family, sketch, held, estimator="ml")
    problem = Problem(family, sketch, held, pinned, status, identified, restricted=False)
    best = _maximise(problem)
    used = problem.free & (best.active == 0)
    gradient = np.where(used, best.gradient, 0.0)
    curvature = Curvature.of(best.hessian, gradient, family.scale(sketch), used)
    covariance = sketch.units.covariance_outside(curvature.covariance())[:, :width, :width]
    estimate = sketch.units.outside(best.coordinates)[:, :width]
    known = identified[:, None]
    return CompletePooling(
        estimate=np.where(known, estimate, np.nan),
        sd=np.where(known, np.sqrt(np.einsum("gpp->gp", covariance)), np.inf),
        log_likelihood=best.value,
        parameters=np.isnan(held).sum(axis=1),
        covariance=np.where(known[:, :, None], covariance, np.inf),
    )


def _climb(family: Family, fits: PoolFits, held: Array) -> Optimum:
    """Maximise the likelihood without spread, which has one summit."""
    pools = len(held)
    problem = Problem(
        family,
        fits.sketch,
        held,
        pinned=np.full(held.shape, np.nan),
        status=np.full(pools, ""),
        identified=np.ones(pools, bool),
        restricted=False,
    )
    return _maximise(problem)


def _maximise(problem: Problem) -> Optimum:
    family, sketch = problem.family, problem.sketch
    start = problem.settle(family.start(sketch, problem.held))
    return maximise(problem.objective, start, *family.bounds, family.scale(sketch), problem.free)


def _total_size(family: Family, fits: PoolFits, coordinates: Array, noise: Array) -> Array:
    """Size of a whole pool, (G,): without spread the information on the mean is size/V(mean).

    That holds at any mean, because a store's size enters a natural exponential family that way;
    so it is taken where neither end of the range eats digits.
    """
    geometry, at = geometry_of(family), coordinates.copy()
    if not geometry.location_is_analytic:
        at[:, LOCATION] = np.clip(at[:, LOCATION], -_FARTHEST, _FARTHEST)
    _, _, hessian = family.log_marginal(fits.sketch, at)
    slope = np.exp(_log_slope(geometry, at[:, LOCATION]))
    variance = _variance(geometry, np.asarray(geometry.mean(at[:, LOCATION])), noise)
    return np.asarray(-hessian[:, LOCATION, LOCATION] / slope**2 * variance)


def _log_slope(geometry: Geometry, location: Array) -> Array:
    """Log of the derivative of the mean in the location, (G,)."""
    # The location is the same in coordinates and in working variables, and alone in its factor.
    factor = geometry.log_jacobian[geometry.parametrisations[0][0]]
    at = np.zeros((len(location), geometry.n_working))
    at[:, LOCATION] = location
    return np.asarray(factor(variables(at)).value)


def _variance(geometry: Geometry, mean: Array, noise: Array | float) -> Array:
    v0, v1, v2 = geometry.variance
    return np.asarray(v0 * noise + v1 * mean + v2 * mean**2)


def _sampling_sd(geometry: Geometry, estimate: Array, size: Array, noise: Array | float) -> Array:
    """√(V/size), with counts on the edge half an event inside; ∞ without data."""
    _, v1, v2 = geometry.variance
    seen = size > 0
    safe = np.where(seen, size, 1.0)
    inside = np.where(seen, estimate, 0.0)
    if v2 < 0:  # of less than an event, one half is all that lies inside
        half = np.minimum(0.5 / safe, 0.5)
        inside = np.clip(inside, half, 1.0 - half)
    elif v1 > 0:
        inside = np.maximum(inside, 0.5 / safe)
    return np.where(seen, np.sqrt(_variance(geometry, inside, noise) / safe), np.inf)
