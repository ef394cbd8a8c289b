"""Integration over the hyperparameters (μ, κ, d₀, s₀²) of ``normal_inverse_gamma``.

Working variables, each over the whole line: z = (μ − μ̂)/(s₀ √((φ + 1/n̄)/J)) for J stores of n̄
values on average, u = ½ log φ (the log sd of θ in units of σ), v = ½ logit(x/x_max) (about the
log sd of log σ_j², which is √(2/d₀) for large d₀), log s₀. In z, the non-centred form of
Papaspiliopoulos, Roberts and Sköld (2007), the data may have any unit, and the density is no funnel
along u, which no law of fixed scales covers. The posterior of the hyperparameters is no product
and has no Gaussian factor, so all four are sampled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.distributions.laws import STUDENT_T
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array, Description, Statistics
from hbpipe.model.hyperpriors import LogPrior, Spec, compile_hyperprior
from hbpipe.model.integration.sampling import Conditional, NodeValues, Predictive, Sampling
from hbpipe.model.inverse_gamma.algebra import (
    LOG_S0_BOUND,
    NAMES,
    X_BOUND,
    from_coordinates,
    student,
    update,
)
from hbpipe.model.inverse_gamma.hyperpriors import check_proper, integrable
from hbpipe.model.marginal.normal_inverse_gamma import (
    LOG_S0,
    MU,
    PHI,
    VarianceSketch,
    X,
    log_likelihood,
)
from hbpipe.model.numerics.jets import Jet

WORKING = ("standard_mu", "log_relative_sd", "log_sd_of_log_variance", "log_s0")
#: φ times the largest n, and x, of a start that stands for an estimate of 0.
_NEXT_TO_NONE = 1e-6
#: Points times rows of stores that are evaluated together.
_ROWS = 2**18


@dataclass(frozen=True)
class VarianceTarget:
    """The log posterior of the hyperparameters of one pool; see ``sampling.HyperTarget``.

    Parameters
    ----------
    sketch
        Of one pool.
    prior
        The compiled hyperprior of the free hyperparameters.
    held, estimate
        (4,) coordinates that are known, NaN where free, and the point estimate.
    """

    sketch: VarianceSketch
    prior: LogPrior
    held: Array
    estimate: Array

    @property
    def free(self) -> NDArray[np.int64]:
        """Numbers of the working variables that are not held."""
        return np.flatnonzero(np.isnan(self.held))

    @property
    def names(self) -> tuple[str, ...]:
        """The free working variables."""
        return tuple(WORKING[i] for i in self.free)

    @property
    def spreads(self) -> tuple[int, ...]:
        """Those that are log sds between stores: of the means, and of the log variances."""
        return tuple(number for number, i in enumerate(self.free) if i in (PHI, X))

    @property
    def start(self) -> Array:
        """The point estimate, (V,); one on a bound is moved next to it."""
        _, phi, x, log_s0 = np.where(np.isnan(self.held), self.estimate, self.held)
        least = _NEXT_TO_NONE / np.max(self.sketch.rows["n"], initial=1)
        share = np.clip(x / X_BOUND, _NEXT_TO_NONE, 1.0 - 1e-3)
        at = np.array([0.0, 0.5 * np.log(max(phi, least)), 0.5 * special.logit(share), log_s0])
        return at[self.free]

    def coordinates(self, points: Array) -> Array:
        """Points (S, V) → coordinates (S, 4), held ones at their values."""
        out = np.broadcast_to(self.held, (len(points), 4)).copy()
        out[:, self.free] = points
        if PHI in self.free:
            out[:, PHI] = np.exp(np.minimum(2.0 * out[:, PHI], 600.0))
        if X in self.free:
            out[:, X] = X_BOUND * special.expit(2.0 * out[:, X])
        if MU in self.free:
            out[:, MU] = self.estimate[MU] + np.exp(self._log_width(out)) * out[:, MU]
        return out

    def _log_width(self, coordinates: Array) -> Array:
        """Log of about the sd of μ given the others, (S,)."""
        stores = float(self.sketch.n_groups[0])
        size = float(self.sketch.n_values[0]) / stores
        relative = np.log((coordinates[:, PHI] + 1.0 / size) / stores)
        # Beyond its bound, where the density is 0, a width need only be a number.
        log_s0 = np.clip(coordinates[:, LOG_S0], -LOG_S0_BOUND, LOG_S0_BOUND)
        return np.asarray(log_s0 + 0.5 * relative)

    def log_density(self, points: Array) -> Array:
        """Log of marginal likelihood × hyperprior × Jacobian at points (S, V)."""
        coordinates = self.coordinates(points)
        possible = np.abs(coordinates[:, LOG_S0]) <= LOG_S0_BOUND
        value = np.full(len(points), -np.inf)
        length = max(1, _ROWS // max(1, self.sketch.n_rows))
        for begin in range(0, len(points), length):
            some = begin + np.flatnonzero(possible[begin : begin + length])
            likelihood = log_likelihood(self.sketch, coordinates[some])
            value[some] = likelihood + self._log_prior(points[some], coordinates[some])
        return np.where(np.isnan(value), -np.inf, value)

    def _log_prior(self, points: Array, coordinates: Array) -> Array:
        """Log hyperprior with respect to the free working variables, (S,)."""
        working = np.zeros((len(points), 4))
        working[:, self.free] = points
        working[:, MU] = coordinates[:, MU]
        nothing = np.zeros((len(points), 0)), np.zeros((len(points), 0, 0))
        jets = [Jet(column, *nothing) for column in working.T]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            log_prior = self.prior.in_working(jets).value
        return np.asarray(log_prior + self._log_width(coordinates) * (MU in self.free))

    def nodes(self, points: Array) -> dict[str, Array]:
        """Return mu, kappa, d0 and s0_squared at points, (S,) each."""
        return from_coordinates(self.coordinates(points))


def variance_sampling(family: str) -> Sampling:
    """Return the slot ``sampling`` of the family of this name."""
    return Sampling(
        target=partial(_target, family),
        conditional=conditional,
        deviation=deviation,
        predict=predict,
        integrable=lambda sketch, held: integrable(sketch),
        representatives=representatives,
    )


def _target(
    family: str, sketch: VarianceSketch, spec: Spec, held: Array, estimate: Array
) -> VarianceTarget:
    from hbpipe.model.families import get_family  # families import this module

    known = frozenset(name for name, value in zip(NAMES, held, strict=True) if not np.isnan(value))
    prior = compile_hyperprior(get_family(family), spec, sketch, held=known)
    check_proper(sketch, prior, held, spec)
    return VarianceTarget(sketch, prior, held, estimate)


def conditional(statistics: Statistics, nodes: NodeValues) -> Conditional:
    """Student's t of θ for ``J`` stores at ``S`` nodes."""
    stores = {name: np.asarray(statistics[name])[:, None] for name in ("n", "mean", "m2")}
    posterior = update(stores, nodes)
    freedom, location, scale = (
        np.broadcast_to(values, posterior["mu"].shape)[..., None] for values in student(posterior)
    )
    n = np.asarray(stores["n"], np.float64)[..., None]
    kappa = nodes["kappa"][None, :, None]
    return Conditional(
        law=STUDENT_T,
        parameters=(freedom, location, scale),
        mean=location,
        variance=np.square(STUDENT_T.mean_sd(freedom, location, scale)[1]),
        weight=n / (kappa + n),
        prior_mean=np.broadcast_to(nodes["mu"][None, :, None], location.shape),
        noise=posterior["s0_squared"],
    )


def deviation(statistics: Statistics, nodes: NodeValues) -> Conditional:
    """Student's t of θ − μ for ``J`` stores at ``S`` nodes; μ is known at a node."""
    found = conditional(statistics, nodes)
    freedom, _, scale = found.parameters
    raw = np.asarray(statistics["mean"], np.float64)[:, None, None]
    offset = found.weight * (raw - found.prior_mean)
    return replace(
        found,
        parameters=(freedom, offset, np.maximum(scale, 1e-150)),
        mean=offset,
        prior_mean=np.zeros_like(offset),
    )


def predict(found: Conditional, nodes: NodeValues, exposure: Array) -> Predictive:
    """Student's t of the mean of ``exposure`` (J,) further values of each store."""
    freedom, location, scale = (values[..., 0] for values in found.parameters)
    noise = np.asarray(found.noise, np.float64)
    wider = np.sqrt(np.square(scale) + noise / np.asarray(exposure, np.float64)[:, None])
    mean, sd = STUDENT_T.mean_sd(freedom, location, wider)

    def mixed(weight: Array, levels: Array) -> Description:
        shares = np.broadcast_to(weight, location.shape)
        mixture = Mixture(STUDENT_T, shares, (freedom, location, wider))
        centre, variance = mixture.moments()

        def cdf(points: Any) -> Array:
            return mixture.cdf(np.broadcast_to(np.asarray(points, np.float64), centre.shape))

        return Description(centre, np.sqrt(variance), mixture.quantiles(levels), cdf)

    return Predictive(mean, np.square(sd), mixed)


def representatives(sketch: VarianceSketch) -> dict[str, NDArray[Any]]:
    """Give the smallest and the largest store, the one farthest out, and one without values."""
    rows = sketch.rows
    distance = np.abs(rows["mean"] - np.median(rows["mean"]))
    chosen = [int(np.argmin(rows["n"])), int(np.argmax(rows["n"])), int(np.argmax(distance))]
    return {name: np.append(rows[name][chosen], 0) for name in ("n", "mean", "m2")}
