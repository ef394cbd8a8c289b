"""Quantiles of mixtures of thousands of laws, by way of mixtures of a few dozen.

Integration over many hyperparameters leaves a store with a conjugate law for each of thousands
of nodes. Row by row, those of nearly the same mean and sd are put into one cell of a grid, and a
cell becomes two laws: their means one sd of its members' means below and above its centre, their
variances on the regression of variance on mean. Two such points carry the first moments of a
cell exactly (Gauss's rule of two nodes) and leave the skewness of each law alone.

The quantiles of the small mixture are then corrected by the difference of both cdfs. That is the
difference of two sums of Φ(score), where the score is the law's quick approximation of the
normal score: its errors are nearly the same in both sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.distributions.laws import BETA, STUDENT_T, Law, Pair, Parameters
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array

#: Cells of a row's grid, and the sds from its centre that the grid reaches.
_CELLS, _REACH = 16, 3.5
#: How wide a cell should be at most: in the mean, in sds of a component, but no narrower than a
#: share of the mixture's sd; and in the root of a component's sd, in that of the mixture's.
_WIDTH, _NARROWEST, _ROOT_WIDTH = 1.5, 0.05, 0.12
#: Corrections of a quantile, and the difference on the probit scale after which it needs no more.
_CORRECTIONS, _CLOSE = 3, 3e-3
#: A score is of no use where it misses the cdf of the small mixture by more than this share of
#: the variance q(1 − q) of the level: shapes far below one.
_POOR = 0.25
#: Below so many degrees of freedom the variance of Student's law says little of its width.
_LEAST_FREEDOM = 3.0
#: A variance on (0, 1) is below mean (1 − mean).
_LARGEST_SHARE = 0.98


def mixture_quantiles(law: Law, weight: Array, parameters: Parameters, levels: Array) -> Array:
    """Quantiles of R mixtures of S laws, (R, Q).

    For levels from 0.025 to 0.975 they are within 0.005 sd of the exact ones. A row's numbers do
    not depend on the other rows.

    Parameters
    ----------
    law, parameters
        The law, and its parameters, (R, S) each.
    weight
        (S,), adding to one, the same for all rows; or (R, S).
    levels
        (Q,).
    """
    whole = Mixture(law, np.broadcast_to(weight, parameters[0].shape), parameters)
    if weight.shape[-1] <= 2 * _CELLS:
        return whole.quantiles(levels)
    small = condensed(law, weight, parameters)
    found = small.quantiles(levels)
    for column, level in enumerate(levels):
        u, astray = _corrected(small, whole, level, law.to_line(found[:, column]))
        found[:, column] = law.from_line(u)
        if len(astray):
            found[astray, column] = whole.take(astray).quantiles(levels[[column]])[:, 0]
    # Levels next to each other may meet in the last digits.
    order = np.argsort(levels)
    found[:, order] = np.maximum.accumulate(found[:, order], axis=1)
    return found


def _corrected(
    small: Mixture, large: Mixture, level: float, u: Array
) -> tuple[Array, NDArray[np.int64]]:
    """Newton's method for the large mixture on the probit scale, from the small one's quantile.

    The slope is that of the small mixture. Beside the quantiles on the law's line, (R,), it
    returns the rows that have not settled, or whose scores are poor.
    """
    u, law, rows = u.copy(), small.law, np.arange(len(u))
    wanted, poor = special.ndtri(level), np.zeros(len(u), bool)
    for _ in range(_CORRECTIONS):
        some, x = small.take(rows), law.from_line(u[rows])
        own, scored = some.cdf(x), _by_scores(some, x)
        poor[rows] |= np.abs(own - scored) > _POOR * level * (1.0 - level)
        probability = own + _by_scores(large.take(rows), x) - scored
        z = special.ndtri(np.clip(probability, 0.01 * level, 1.0 - 0.01 * (1.0 - level)))
        slope = some.density(u[rows]) * np.sqrt(2.0 * np.pi) * np.exp(0.5 * z * z)
        step = np.divide(wanted - z, slope, out=np.zeros_like(z), where=slope > 0)
        u[rows] = u[rows] + step
        rows = rows[~(np.abs(wanted - z) <= _CLOSE) & ~poor[rows]]
        if not len(rows):
            break
    return u, np.union1d(rows, np.flatnonzero(poor))


def _by_scores(mixture: Mixture, x: Array) -> Array:
    """Nearly the cdf of each mixture at its own ``x`` (R,)."""
    scores = mixture.law.score(*mixture.parameters, x[:, None])
    return np.asarray(np.sum(mixture.weight * special.ndtr(scores), axis=1))


def condensed(law: Law, weight: Array, parameters: Parameters) -> Mixture:
    """Mixtures of 32 laws that stand for R mixtures of S; parameters are as above."""
    mean, variance = centre_and_variance(law, parameters)
    cells = _Cells.of(weight, mean, variance)
    low, high = law.from_line(np.array([-np.inf, np.inf]))
    room = np.minimum(cells.mean - low, high - cells.mean)
    # No further than the laws overlap: their density is a slope to walk on.
    step = np.minimum(np.sqrt(np.minimum(cells.between, 0.5 * cells.variance)), 0.9 * room)
    slope = np.divide(cells.covariance, step, out=np.zeros_like(step), where=step > 0)
    slope = np.clip(slope, -0.8 * cells.variance, 0.8 * cells.variance)
    own = cells.variance + cells.between - step**2
    centre = cells.pair(cells.mean - step, cells.mean + step)
    spread = cells.pair(own - slope, own + slope)
    like: Parameters = ()
    if law is STUDENT_T:
        heaviness = cells.average(1.0 / parameters[0])
        like = (1.0 / np.maximum(cells.pair(heaviness, heaviness), 1e-15),)
    share = np.repeat(0.5 * cells.share, 2, axis=1)
    return Mixture(law, share, with_moments(law, centre, spread, like))


def centre_and_variance(law: Law, parameters: Parameters) -> Pair:
    """Mean and variance of a law; of Student's with few degrees of freedom a finite width."""
    if law is not STUDENT_T:
        mean, sd = law.mean_sd(*parameters)
        return mean, np.square(sd)
    freedom, mean, scale = parameters
    return mean, np.square(scale) * _inflation(freedom)


def with_moments(law: Law, mean: Array, variance: Array, like: Parameters = ()) -> Parameters:
    """Parameters of the law with these moments, in the sense of :func:`centre_and_variance`.

    ``like`` has Student's degrees of freedom first, which moments leave open. A variance that is
    too large for a law on (0, 1) is cut down.
    """
    if law is STUDENT_T:
        return like[0], mean, np.sqrt(variance / _inflation(like[0]))
    if law is BETA:
        variance = np.minimum(variance, _LARGEST_SHARE * mean * (1.0 - mean))
    return law.from_moments(mean, variance)


def _inflation(freedom: Array) -> Array:
    return np.asarray(1.0 + 2.0 / (np.maximum(freedom, _LEAST_FREEDOM) - 2.0))


@dataclass(frozen=True)
class _Cells:
    """Cells of R rows, (R, C) each, and the moments of their members.

    ``mean`` and ``variance`` are averages of the members', ``between`` is the variance of their
    means, ``covariance`` that of their means and variances. ``codes`` (R, S) has the cell of
    each member, ``weight`` (S,) or (R, S) its weight, ``share`` the sum of weights.
    """

    codes: NDArray[np.int64]
    weight: Array
    share: Array
    mean: Array
    variance: Array
    between: Array
    covariance: Array

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
        centre, square, own, product = (
            _sums(codes, weight * values) / safe
            for values in (offset, offset**2, variance, offset * variance)
        )
        return _Cells(
            codes=codes,
            weight=weight,
            share=share,
            mean=origin + scale * centre,
            variance=scale**2 * own,
            between=scale**2 * np.maximum(square - centre**2, 0.0),
            covariance=scale**3 * (product - centre * own),
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
    # The cells are shared out between both directions in proportion to what they ask for.
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
