"""Cdf and quantiles of finite mixtures of one law: Normal, Beta, Gamma or Student's t.

Integrating over hyperparameters turns each store's posterior into a mixture of conjugate laws,
one component for each node. Limits come from the mixture itself: laws with matched moments are
wrong by up to 0.9 posterior sd where the spread is uncertain.

Quantiles of Beta and Gamma mixtures come from the density (``sinc``) wherever it has a moderate
range. Others are found by Newton's method on the probit scale, z = Φ⁻¹(F), on which the cdf of a
law that is nearly normal is nearly a straight line. What has not converged after a few steps is
finished between brackets that contain the quantile for certain.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.distributions.laws import Law, Pair, Parameters, ascending
from hbpipe.model.distributions.sinc import sinc_quantiles
from hbpipe.model.family import Array

#: A step from a residual below this leaves an error near its square, 1e-10 on the probit scale.
_RESIDUAL = 1e-5
_QUICK_STEPS = 6
_SAFE_STEPS = 200
#: Laws that stand for the mixtures of conjugate families: ranks then move by 1e-3 typically, and
#: by 5e-3 where hyperparameters are hardly known. Groups range over sds with so much weight.
_FEW, _OF_NOTE = 4, 1e-2


@dataclass(frozen=True)
class Mixture:
    """``J`` mixtures of ``K`` components of one law.

    ``weight`` (J, K) sums to one along its last axis; ``parameters`` are the law's, (J, K) each,
    in the order of :class:`hbpipe.model.distributions.laws.Law`.
    """

    law: Law
    weight: Array
    parameters: Parameters

    def take(self, rows: NDArray[np.int64]) -> Mixture:
        """Return the mixtures of the given rows."""
        return Mixture(
            self.law, self.weight[rows], tuple(values[rows] for values in self.parameters)
        )

    def moments(self) -> Pair:
        """Return mean and variance, each (J,)."""
        mean, sd = self.law.mean_sd(*self.parameters)
        centre = np.sum(self.weight * mean, axis=1)
        spread = sd**2 + (mean - centre[:, None]) ** 2
        return centre, np.sum(self.weight * spread, axis=1)

    def cdf(self, x: Array) -> Array:
        """Return the cdf of each mixture at its own ``x`` (J,)."""
        parts = self.law.cdf(*self.parameters, x[:, None])
        # Weights add up to 1 within rounding, a probability is never more.
        return np.asarray(np.minimum(np.sum(self.weight * parts, axis=1), 1.0))

    def density(self, u: Array) -> Array:
        """Return the density of each mixture at its own ``u`` (J,), on the law's line."""
        parts = self.law.density(*self.parameters, u[:, None])
        return np.asarray(np.sum(self.weight * parts, axis=1))

    def quantiles(self, levels: Array) -> Array:
        """Return quantiles (J, Q) at ``levels`` (Q,) strictly between 0 and 1.

        They never fall as the level rises. With several components, those of Beta and Gamma
        laws that are below 1e-300 are given as 1e-300.
        """
        if self.weight.shape[1] == 1:
            return self.law.quantiles(tuple(values[:, 0] for values in self.parameters), levels)
        out = np.full((len(self.weight), len(levels)), np.nan)
        if self.law.kernel is not None:
            a, b = self.parameters
            u = sinc_quantiles(self.law.kernel, self.weight, a, b, levels)
            out = np.asarray(self.law.from_line(u))
        left = np.flatnonzero(np.isnan(out).any(axis=1))
        if len(left):
            out[left] = self.take(left)._by_cdf(levels, out[left])
        return ascending(out, levels)

    def _by_cdf(self, levels: Array, known: Array) -> Array:
        """Fill in the quantiles (J, Q) that are not known, from those of matched laws."""
        start = matched_quantiles(self.law, *self.moments(), levels)
        for column, level in enumerate(levels.tolist()):
            rows = np.flatnonzero(np.isnan(known[:, column]))
            at = self.law.to_line(start[rows, column])
            known[rows, column] = _solve(self.take(rows), level, at)
        return known


def few(mixture: Mixture) -> Mixture:
    """Put the components of R mixtures into a few groups by sd, each a law of its moments."""
    law, weight = mixture.law, mixture.weight
    if weight.shape[1] <= _FEW:
        return mixture
    size, carries = np.log(law.mean_sd(*mixture.parameters)[1]), weight > _OF_NOTE
    low = np.min(np.where(carries, size, np.inf), axis=1, keepdims=True)
    high = np.max(np.where(carries, size, -np.inf), axis=1, keepdims=True)
    place = _FEW * (size - low) / np.maximum(high - low, 1e-9)
    group = np.clip(place, 0, _FEW - 1).astype(np.int64)
    parts = []
    for number in range(_FEW):
        own = np.where(group == number, weight, 0.0)
        share = np.sum(own, axis=1)
        # A group without members is a component without weight.
        own = np.where((share > 0)[:, None], own, weight)
        own = own / np.sum(own, axis=1)[:, None]
        parts.append((share, *Mixture(law, own, mixture.parameters).moments()))
    share, centre, variance = (np.stack(part, axis=1) for part in zip(*parts, strict=True))
    return Mixture(law, share, law.from_moments(centre, variance))


def matched_quantiles(law: Law, mean: Array, variance: Array, levels: Array) -> Array:
    """Return quantiles (J, Q) of the law with the given mean and variance (J,).

    NaN where the variance is infinite, as it may be for Student's t: brackets then do all.
    """
    parameters = law.from_moments(mean, variance)
    with np.errstate(invalid="ignore"):
        return np.asarray(law.ppf(*(values[:, None] for values in parameters), levels[None, :]))


def _solve(mixture: Mixture, level: float, u: Array) -> Array:
    """Newton on the probit scale from ``u``; the rest between brackets."""
    u, open_rows = u.copy(), np.arange(len(u))
    for _ in range(_QUICK_STEPS):
        residual, step = _newton_step(mixture.take(open_rows), level, u[open_rows])
        u[open_rows] = u[open_rows] + np.where(np.isfinite(step), step, 0.0)
        open_rows = open_rows[~((np.abs(residual) <= _RESIDUAL) & np.isfinite(step))]
        if not len(open_rows):
            break
    if len(open_rows):
        u[open_rows] = _solve_bracketed(mixture.take(open_rows), level)
    # Both ways end at the line's end exactly, so that quantiles too small for a float keep order.
    end = mixture.law.to_line(np.asarray(-np.inf))
    return np.asarray(mixture.law.from_line(np.where(u > end + 1e-9, u, end)))


def _newton_step(mixture: Mixture, level: float, u: Array) -> Pair:
    """Residual on the probit scale and the step in ``u`` that removes it, clipped to ±2."""
    probability = mixture.cdf(mixture.law.from_line(u))
    z = special.ndtri(np.clip(probability, 1e-300, 1.0 - 1e-16))
    residual = z - special.ndtri(level)
    with np.errstate(divide="ignore", over="ignore"):
        slope = mixture.density(u) * np.sqrt(2.0 * np.pi) * np.exp(0.5 * z * z)
        return residual, -np.clip(residual, -2.0, 2.0) / slope


def _solve_bracketed(mixture: Mixture, level: float) -> Array:
    """Bisect between the extreme quantiles of the components, which enclose the mixture's.

    On the line, because a quantile near 0 may be hundreds of powers of ten below its bracket's
    upper end: more halvings of ``x`` than there are steps.
    """
    parts = np.asarray(mixture.law.ppf(*mixture.parameters, np.asarray(level)))
    present = mixture.weight > 0
    low = mixture.law.to_line(np.min(np.where(present, parts, np.inf), axis=1))
    high = mixture.law.to_line(np.max(np.where(present, parts, -np.inf), axis=1))
    for _ in range(_SAFE_STEPS):
        # A row that is done no longer moves, so its bits do not depend on the other rows.
        searching = high - low > 1e-15 * np.maximum(np.abs(low), np.abs(high))
        if not searching.any():
            break
        middle = 0.5 * (low + high)
        below = mixture.cdf(mixture.law.from_line(middle)) < level
        low = np.where(searching & below, middle, low)
        high = np.where(searching & ~below, middle, high)
    return np.asarray(0.5 * (low + high))
