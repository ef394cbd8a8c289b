"""Quantiles of mixtures of thousands of laws, by way of mixtures of a few dozen.

Integration over many hyperparameters leaves a store with a conjugate law for each of thousands
of nodes. Row by row, those of nearly the same mean and sd are put into one cell of a grid, and a
cell becomes two laws: their means one sd of its members' means below and above its centre, their
variances on the regression of variance on mean. Two such points carry the first moments of a
cell exactly (Gauss's rule of two nodes), and leave the skewness of each law alone. What they
miss is estimated from the moments that they do not carry. Where that could matter, the members
of a cell are too unlike, and the large mixture is solved itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array
from hbpipe.model.laws import STUDENT_T, Law, Pair, Parameters
from hbpipe.model.mixture import Mixture

#: Cells of a row's grid, and the sds from its centre that the grid reaches.
_CELLS, _REACH = 48, 3.5
#: How wide a cell should be at most: in the mean, in sds of a component, but no narrower than a
#: share of the mixture's sd; and in the root of a component's sd, in that of the mixture's.
_WIDTH, _NARROWEST, _ROOT_WIDTH = 1.5, 0.05, 0.12
#: Estimated error of a limit, in sds, up to which the small mixture is taken: true errors of
#: limits from 0.025 to 0.975 are below twice the estimate.
_ENOUGH = 0.001
#: Below so many degrees of freedom the variance of Student's law says little of its width.
_LEAST_FREEDOM = 3.0
#: What the variance of 1 / degrees of freedom within cells adds to the estimated error.
_TAILS = 4.0


def mixture_quantiles(law: Law, weight: Array, parameters: Parameters, levels: Array) -> Array:
    """Quantiles of R mixtures of S laws, (R, Q).

    For levels from 0.025 to 0.975 they are within 0.005 sd of those of the whole mixture. A row's
    numbers do not depend on the other rows.

    Parameters
    ----------
    law, parameters
        The law, and its parameters, (R, S) each.
    weight
        (S,), adding to one; the same for all rows.
    levels
        (Q,).
    """
    whole = Mixture(law, np.broadcast_to(weight, parameters[0].shape), parameters)
    if len(weight) <= 2 * _CELLS or not len(levels):
        return whole.quantiles(levels)
    small, error = condensed(law, weight, parameters)
    found = np.empty((len(error), len(levels)))
    usable = np.flatnonzero(error < np.inf)
    found[usable] = small.take(usable).quantiles(levels)
    rough = np.flatnonzero((error > _ENOUGH) & (error < np.inf))
    if len(rough):
        found[rough] = whole.take(rough).quantiles(levels, start=found[rough])
    unusable = np.flatnonzero(error == np.inf)
    if len(unusable):
        found[unusable] = whole.take(unusable).quantiles(levels)
    return found


def condensed(law: Law, weight: Array, parameters: Parameters) -> tuple[Mixture, Array]:
    """Mixtures of 64 laws for R mixtures of S, and the estimated error of their limits, (R,).

    The error is in sds of a mixture; it is infinite where a cell's laws would have moments that
    the law cannot have.
    """
    mean, variance = centre_and_variance(law, parameters)
    cells = _Cells.of(weight, mean, variance)
    step = np.sqrt(cells.between)
    slope = np.divide(cells.covariance, step, out=np.zeros_like(step), where=step > 0)
    slope = np.clip(slope, -0.8 * cells.variance, 0.8 * cells.variance)
    centre = cells.in_units(cells.mean - step, cells.mean + step)
    spread = cells.scale**2 * cells.pair(cells.variance - slope, cells.variance + slope)
    error = cells.error(slope)
    if law is STUDENT_T:
        heaviness = cells.average(1.0 / parameters[0])
        unlike = cells.average(np.square(1.0 / parameters[0])) - heaviness**2
        error = error + _TAILS * np.sum(cells.share * unlike, axis=1)
        freedom = 1.0 / np.maximum(cells.pair(heaviness, heaviness), 1e-15)
        found = with_moments(law, centre, spread, (freedom,))
    else:
        found = with_moments(law, centre, spread)
    low, high = law.from_line(np.array([-np.inf, np.inf]))
    possible = (centre > low) & (centre < high) & (found[-1] > 0)
    error = np.where(possible.all(axis=1), error, np.inf)
    return Mixture(law, np.repeat(0.5 * cells.share, 2, axis=1), found), error


def centre_and_variance(law: Law, parameters: Parameters) -> Pair:
    """Mean and variance of a law; of Student's with few degrees of freedom a finite width."""
    if law is not STUDENT_T:
        mean, sd = law.mean_sd(*parameters)
        return mean, np.square(sd)
    freedom, mean, scale = parameters
    return mean, np.square(scale) * _inflation(freedom)


def with_moments(law: Law, mean: Array, variance: Array, like: Parameters = ()) -> Parameters:
    """Parameters of the law with these moments, in the sense of :func:`centre_and_variance`.

    ``like`` has Student's degrees of freedom first, which moments leave open.
    """
    if law is not STUDENT_T:
        return law.from_moments(mean, variance)
    return like[0], mean, np.sqrt(variance / _inflation(like[0]))


def _inflation(freedom: Array) -> Array:
    return np.asarray(1.0 + 2.0 / (np.maximum(freedom, _LEAST_FREEDOM) - 2.0))


@dataclass(frozen=True)
class _Cells:
    """Cells of R rows, (R, C) each, and the moments of their members.

    Moments are in units of ``scale`` (R, 1), the sd of a row's mixture, from ``origin`` (R, 1), its
    mean. ``between`` is the variance of the members' means, ``covariance`` that of their means
    and variances, ``unlike`` the variance of their variances. ``codes`` (R, S) is the cell of
    each member and ``weighted`` (S,) its weight.
    """

    codes: NDArray[np.int64]
    weight: Array
    origin: Array
    scale: Array
    share: Array
    mean: Array
    variance: Array
    between: Array
    covariance: Array
    unlike: Array

    @staticmethod
    def of(weight: Array, mean: Array, variance: Array) -> _Cells:
        """Sort the members by mean and variance, (R, S) each."""
        origin = np.sum(weight * mean, axis=1, keepdims=True)
        offset = mean - origin
        scale = np.sqrt(np.sum(weight * (variance + offset**2), axis=1, keepdims=True))
        offset, variance = offset / scale, variance / scale**2
        codes = _codes(weight, offset, np.sqrt(np.sqrt(variance)))
        share = _sums(codes, np.broadcast_to(weight, offset.shape))
        safe = np.where(share > 0, share, 1.0)

        def average(values: Array) -> Array:
            return _sums(codes, weight * values) / safe

        centre, own = average(offset), average(variance)
        return _Cells(
            codes=codes,
            weight=weight,
            origin=origin,
            scale=scale,
            share=share,
            mean=centre,
            variance=own,
            between=np.maximum(average(offset**2) - centre**2, 0.0),
            covariance=average(offset * variance) - centre * own,
            unlike=np.maximum(average(variance**2) - own**2, 0.0),
        )

    def average(self, values: Array) -> Array:
        """Average over the members of each cell, (R, S) -> (R, C)."""
        safe = np.where(self.share > 0, self.share, 1.0)
        return _sums(self.codes, self.weight * values) / safe

    def pair(self, lower: Array, upper: Array) -> Array:
        """Two laws for each cell, (R, 2 C); those of the fullest cell in cells without members."""
        fullest = np.argmax(self.share, axis=1)[:, None]
        both = np.stack([lower, upper], axis=2)
        kept = np.take_along_axis(both, fullest[:, :, None], axis=1)
        filled = np.where(self.share[:, :, None] > 0, both, kept)
        return np.asarray(filled.reshape(len(both), -1))

    def in_units(self, lower: Array, upper: Array) -> Array:
        """Means of both laws of each cell, in the units of θ, (R, 2 C)."""
        return np.asarray(self.origin + self.scale * self.pair(lower, upper))

    def error(self, slope: Array) -> Array:
        """Estimate the error of limits in sds, (R,): a cumulant expansion of each cell.

        The first two terms are the kurtosis of unlike variances and the skewness of variances
        that go with means, as far as two laws do not carry them; the last is the unknown shape
        of the members' means. The factors are fitted to mixtures solved exactly.
        """
        own = np.where(self.share > 0, self.variance, 1.0)
        left = np.maximum(self.unlike - slope**2, 0.0) / own**2
        together = np.abs(self.covariance) / own**1.5
        wide = (self.between / own) ** 1.5
        terms = np.sqrt(own) * (0.3 * left + 0.1 * together + 0.1 * wide)
        return np.asarray(np.sum(self.share * terms, axis=1))


def _sums(codes: NDArray[np.int64], values: Array) -> Array:
    """Sum over the members of each cell, in their order, (R, S) -> (R, C)."""
    total = np.bincount(codes.ravel(), values.ravel(), len(codes) * _CELLS)
    return np.asarray(total.reshape(len(codes), _CELLS))


def _codes(weight: Array, offset: Array, root: Array) -> NDArray[np.int64]:
    """Cell of each member, (R, S), by its mean and the root of its sd, in mixture's sds."""
    middle = np.sum(weight * root, axis=1, keepdims=True)
    sd_mean = np.sqrt(np.sum(weight * offset**2, axis=1, keepdims=True))
    sd_root = np.sqrt(np.sum(weight * (root - middle) ** 2, axis=1, keepdims=True))
    wanted_mean = 2.0 * _REACH * sd_mean / np.maximum(_WIDTH * middle**2, _NARROWEST)
    wanted_root = 2.0 * _REACH * sd_root / _ROOT_WIDTH
    balance = np.maximum(wanted_root, 1.0) / np.maximum(wanted_mean, 1.0)
    across = np.clip(np.rint(np.sqrt(_CELLS * balance)), 1, _CELLS // 2).astype(np.int64)
    along = _CELLS // across
    row = _CELLS * np.arange(len(offset))[:, None]
    codes = row + _place(root - middle, sd_root, across) * along + _place(offset, sd_mean, along)
    return np.asarray(codes)


def _place(offset: Array, sd: Array, cells: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the interval that an offset falls in, the first or last one for those outside."""
    per_unit = np.divide(cells, 2.0 * _REACH * sd, out=np.zeros_like(sd), where=sd > 0)
    return np.clip(offset * per_unit + 0.5 * cells, 0, cells - 1).astype(np.int64)
