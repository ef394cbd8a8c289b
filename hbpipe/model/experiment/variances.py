"""Sampling variances of the means of two arms, from variances that the chain shrinks.

A store's own s² is unknown for one value and uncertain for few, and for skewed money it is small
where the mean is small: a mean weighted by precision is biased then. Here the variance of a store
is that of *both its arms together*, whose correlation with the difference of the means is zero to
leading order, shrunk by the chain's distribution of variances: σ_j² ~ scaled-inverse-χ²(d₀, s₀²),
estimated from the moments of log s_j² (Smyth 2004, *Statistical Applications in Genetics and
Molecular Biology* 3(1), section 6.2). How the chain's arms differ is put back as a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.estimation.moments import ratio
from hbpipe.model.families import ARMS
from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.inverse_gamma.algebra import FEWEST_DEGREES, LARGEST
from hbpipe.model.inverse_gamma.variances import log_bias, trigamma_inverse
from hbpipe.model.numerics.grouped import float_sums, fold_moments, moments_of

#: Squares that are all rounding: a difference of some bits of the mean for every value.
_ROUNDING = 4.0 * float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class VarianceScale:
    """Variances within the stores of chains: of each arm (2, G), and their law (G,)."""

    arms: Array
    d0: Array
    s0_squared: Array

    def variances(self, statistics: Statistics, pools: Codes) -> Array:
        """Return the expected sampling variance of the mean of each arm, (2, J).

        E σ_j² = (d₀ s₀² + d s²)/(d₀ + d − 2), d the degrees of freedom of both arms: as wide as
        the uncertainty about σ_j² makes the mean. An arm without values has variance ∞.
        """
        n, degrees, squares = _of_arms(statistics)
        d0, d = self.d0[pools], degrees.sum(axis=0)
        total = d0 * self.s0_squared[pools] + squares.sum(axis=0)
        store = total / (d0 + d - 2.0)
        arms = self.arms[:, pools]
        mixed = np.where(d > 0, ratio(np.sum(degrees * arms, axis=0), d), 1.0)
        factor = np.where(mixed > 0, arms / np.where(mixed > 0, mixed, 1.0), 1.0)
        return np.where(n > 0, store * factor / np.maximum(n, 1.0), np.inf)


@dataclass(frozen=True)
class VarianceSums:
    """What the variances of chains rest on, additive over stores.

    ``degrees`` and ``squares`` (2, G) are those within the arms. ``logs`` are n, mean and m2 (G,)
    of the stores' log variances without their bias, ``noise`` (G,) the sum of their sampling
    variances.
    """

    degrees: Array
    squares: Array
    logs: dict[str, NDArray[np.float64]]
    noise: Array

    @classmethod
    def of(cls, statistics: Statistics, pools: Codes, n_pools: int) -> VarianceSums:
        """Add up stores by pool; a store whose values are all alike has no log variance."""
        _, degrees, squares = _of_arms(statistics)
        of_pools, squares_of_pools = (
            np.stack([float_sums(own, pools, n_pools) for own in part])
            for part in (degrees, squares)
        )
        d, m2 = degrees.sum(axis=0), squares.sum(axis=0)
        seen = np.flatnonzero(m2 > 0)
        half = 0.5 * d[seen]
        logs = np.log(m2[seen] / d[seen]) + log_bias(half)
        noise = float_sums(special.polygamma(1, half), pools[seen], n_pools)
        return cls(of_pools, squares_of_pools, moments_of(logs, pools[seen], n_pools), noise)

    @classmethod
    def added(cls, parts: Sequence[VarianceSums]) -> VarianceSums:
        """Add up the sums of disjoint stores, in the order given."""
        pools = len(parts[0].noise)
        rows = {key: np.concatenate([one.logs[key] for one in parts]) for key in parts[0].logs}
        return cls(
            np.sum([part.degrees for part in parts], axis=0),
            np.sum([part.squares for part in parts], axis=0),
            fold_moments(rows, np.tile(np.arange(pools), len(parts)), pools),
            np.sum([part.noise for part in parts], axis=0),
        )

    def scale(self) -> VarianceScale:
        """Estimate the law of variances in each chain by Smyth's moments.

        One variance for all stores, the pooled one, where they vary no more than by chance.
        """
        degrees, squares = self.degrees.sum(axis=0), self.squares.sum(axis=0)
        together = ratio(squares, degrees)
        stores = self.logs["n"].astype(np.float64)
        spread = ratio(self.logs["m2"], stores - 1.0) - ratio(self.noise, stores)
        half = trigamma_inverse(np.where(stores > 1, spread, 0.0))
        vary = np.isfinite(half)
        half = np.maximum(np.where(vary, half, 1.0), 0.5 * FEWEST_DEGREES)
        s0_squared = np.exp(self.logs["mean"] - log_bias(half))
        arms = np.where(self.degrees > 0, ratio(self.squares, self.degrees), together)
        return VarianceScale(
            ratio(arms, np.broadcast_to(together, arms.shape)),
            np.where(vary, 2.0 * half, LARGEST),
            np.where(vary, s0_squared, together),
        )


def _of_arms(statistics: Statistics) -> tuple[Array, Array, Array]:
    """Return size, degrees of freedom and squares of each arm, (2, J) each.

    Squares that are rounding alone are none.
    """
    n, mean, m2 = (
        np.stack([np.asarray(statistics[f"{name}_{arm}"], np.float64) for arm in ARMS])
        for name in ("n", "mean", "m2")
    )
    alike = m2 <= n * np.square(_ROUNDING * mean)
    return n, np.maximum(n - 1.0, 0.0), np.where(alike, 0.0, m2)
