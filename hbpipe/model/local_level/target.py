"""The posterior of the hyperparameters (τ, q, σ) of one pool of levels that drift.

Working variables, each over the whole line: u = log(τ/σ), v = ½ log q, log σ. Given these the
likelihood is Gaussian in μ, which is integrated out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array
from hbpipe.model.hyperpriors import LogPrior, Spec, compile_hyperprior
from hbpipe.model.local_level.algebra import LOG_SIGMA_BOUND, NAMES, RATIO_BOUND
from hbpipe.model.local_level.filtering import evidence
from hbpipe.model.local_level.hyperpriors import check_proper
from hbpipe.model.marginal.local_level import LOG_SIGMA, MU, RATIO, TAU_SQUARED, DailySketch
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.numerics.jets import Jet

WORKING = ("mu", "log_relative_sd", "log_step", "log_sigma")
#: A times the largest size, and q times that and the days, of a start that stands for 0.
_NEXT_TO_NONE = 1e-6
#: Points times rows of stores that are evaluated together.
_ROWS = 2**17


class _Parabola(NamedTuple):
    """Log density as a function of μ, about the point estimate: c + g δ − ½ I δ², (S,) each."""

    constant: Array
    gradient: Array
    information: Array


@dataclass(frozen=True)
class DriftTarget:
    """A :class:`hbpipe.model.integration.sampling.HyperTarget`.

    Parameters
    ----------
    sketch
        Of one pool.
    prior
        The compiled hyperprior of the free hyperparameters.
    held, estimate
        (4,) coordinates that are known, NaN where free, and the point estimate.
    """

    sketch: DailySketch
    prior: LogPrior
    held: Array
    estimate: Array

    @property
    def free(self) -> NDArray[np.int64]:
        """Numbers of the working variables that are sampled."""
        return np.flatnonzero(np.isnan(self.held) & (np.arange(4) != MU))

    @property
    def names(self) -> tuple[str, ...]:
        """The free working variables."""
        return tuple(WORKING[i] for i in self.free)

    @property
    def spreads(self) -> tuple[int, ...]:
        """The log sds between stores and between days."""
        return tuple(number for number, i in enumerate(self.free) if i != LOG_SIGMA)

    @property
    def start(self) -> Array:
        """The point estimate, (V,); one on its bound is moved next to it."""
        _, variance, ratio, log_sigma = np.where(np.isnan(self.held), self.estimate, self.held)
        least = _NEXT_TO_NONE / np.max(self.sketch.rows["size"], initial=1.0)
        days = self.sketch.rows["n"].shape[1]
        odds = max(variance * np.exp(-2.0 * log_sigma), least)
        at = [0.0, 0.5 * np.log(odds), 0.5 * np.log(max(ratio, least / days)), log_sigma]
        return np.array(at)[self.free]

    def working(self, points: Array) -> Array:
        """Points (S, V) → all working variables (S, 4), held ones at their values, μ at μ̂."""
        out = np.zeros((len(points), 4))
        out[:, self.free] = points
        out[:, MU] = self.estimate[MU] if np.isnan(self.held[MU]) else self.held[MU]
        if LOG_SIGMA not in self.free:
            out[:, LOG_SIGMA] = self.held[LOG_SIGMA]
        with np.errstate(divide="ignore"):
            if TAU_SQUARED not in self.free:
                out[:, TAU_SQUARED] = 0.5 * np.log(self.held[TAU_SQUARED]) - out[:, LOG_SIGMA]
            if RATIO not in self.free:
                out[:, RATIO] = 0.5 * np.log(self.held[RATIO])
        return out

    def log_density(self, points: Array) -> Array:
        """Log of marginal likelihood × hyperprior × Jacobian at points (S, V), without μ."""
        working = self.working(points)
        # Beyond these the likelihood has long gone; what lies there need only be no number.
        near = np.abs(working[:, LOG_SIGMA]) <= LOG_SIGMA_BOUND
        near &= working[:, RATIO] <= 0.5 * np.log(RATIO_BOUND)
        near &= working[:, TAU_SQUARED] <= LOG_SIGMA_BOUND
        value = np.full(len(points), -np.inf)
        if near.any():
            found = self._parabola(working[near])
            value[near] = found.constant + self._log_prior(working[near])
            if np.isnan(self.held[MU]):
                value[near] += 0.5 * np.square(found.gradient) / found.information
                value[near] += 0.5 * (LOG_2PI - np.log(found.information))
        return np.where(np.isnan(value), -np.inf, value)

    def nodes(self, points: Array) -> dict[str, Array]:
        """Give mu with its variance, τ²/σ² (odds), q and σ at points, (S,) each."""
        working = self.working(points)
        mu, variance = working[:, MU], np.zeros(len(points))
        if np.isnan(self.held[MU]):
            found = self._parabola(working)
            mu, variance = mu + found.gradient / found.information, 1.0 / found.information
        return {
            "mu": mu,
            "mu_variance": variance,
            "odds": np.exp(2.0 * working[:, TAU_SQUARED]),
            "signal_ratio": np.exp(2.0 * working[:, RATIO]),
            "sigma": np.exp(working[:, LOG_SIGMA]),
        }

    def _parabola(self, working: Array) -> _Parabola:
        length = max(1, _ROWS // max(1, self.sketch.n_rows))
        blocks = [working[first : first + length] for first in range(0, len(working), length)]
        parts = [self._likelihood(block) for block in blocks]
        found = _Parabola(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        known = self.prior.term("mu")
        if known is None or known.density != "normal":
            return found
        mean, sd = (float(np.ravel(x)[0]) for x in known.arguments)
        pull = (mean - working[:, MU]) / sd**2
        return _Parabola(found.constant, found.gradient + pull, found.information + sd**-2.0)

    def _likelihood(self, working: Array) -> _Parabola:
        rows = self.sketch.rows
        mu, log_relative, log_step, log_sigma = working.T
        days = evidence(rows["n"], rows["mean"], np.exp(2.0 * log_step)[:, None])
        signal = days.size * np.exp(2.0 * log_relative)[:, None]
        weight, apart = days.size / (1.0 + signal), days.mean - mu[:, None]
        unit, values = np.exp(-2.0 * log_sigma), float(self.sketch.n_values[0])
        squares = np.sum(rows["within"] + days.squares + weight * np.square(apart), axis=1)
        logs = np.sum(np.log1p(signal) + days.fading, axis=1)
        constant = -0.5 * (squares * unit + logs) - values * (log_sigma + 0.5 * LOG_2PI)
        return _Parabola(
            constant, np.sum(weight * apart, axis=1) * unit, np.sum(weight, axis=1) * unit
        )

    def _log_prior(self, working: Array) -> Array:
        """Log hyperprior with respect to the free working variables, μ at its value, (S,)."""
        nothing = np.zeros((len(working), 0)), np.zeros((len(working), 0, 0))
        jets = [Jet(column, *nothing) for column in working.T]
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self.prior.in_working(jets).value


def drift_target(
    family: str, sketch: DailySketch, spec: Spec, held: Array, estimate: Array
) -> DriftTarget:
    """Return the target of the only pool of a sketch.

    Raises
    ------
    FitError
        For a hyperprior that does not fit the family, or leaves the posterior improper.
    """
    from hbpipe.model.families import get_family  # families import this module

    known = frozenset(name for name, value in zip(NAMES, held, strict=True) if not np.isnan(value))
    model = get_family(family, sketch.rows["n"].shape[1])
    prior = compile_hyperprior(model, spec, sketch, held=known)
    check_proper(sketch, prior, held, spec)
    return DriftTarget(sketch, prior, held, estimate)
