"""The likelihood of values with a common within-store sd, from n, mean and M2 of each store.

With V = σ² + n τ² (Searle, Casella and McCulloch 1992, *Variance Components*, section 3.7),

    −½ [N log 2π + Σ (n − 1) log σ² + Σ M2/σ² + Σ log V + Σ n (x̄ − μ)²/V].

V in place of τ² + σ²/n makes a store without values an ordinary store that adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hbpipe.model.family import Array, Codes, Derivatives, Pearson, Statistics
from hbpipe.model.marginal.given_spread import NormalGivenSpread
from hbpipe.model.marginal.means import (
    LOG_2PI,
    RowVariance,
    log_density_of_means,
    log_restriction_of_means,
    mean_rows,
    merge_mean_rows,
    message_of_means,
    pearson_of_means,
    regroup_mean_rows,
)
from hbpipe.model.marginal.row_sketch import RowSketch
from hbpipe.model.nested.messages import Message
from hbpipe.model.numerics.grouped import float_sums
from hbpipe.model.numerics.jets import constants


@dataclass(frozen=True)
class NormalSketch(RowSketch):
    """Store means by pool and distinct n, and the squares within stores; lossless.

    ``rows`` has ``size`` (the n of a store), ``n`` (stores), ``mean`` and ``m2`` of their means.
    ``within`` is Σ M2, (G,).
    """

    within: Array

    @classmethod
    def of(cls, statistics: Statistics, pools: Codes, n_pools: int) -> NormalSketch:
        """Group stores of equal n; stores without values drop out."""
        size = np.asarray(statistics["n"], np.float64)
        seen = size > 0
        pool = np.asarray(pools)[seen]
        means = np.asarray(statistics["mean"], np.float64)[seen]
        m2 = np.asarray(statistics["m2"], np.float64)[seen]
        return cls(mean_rows(pool, size[seen], means, n_pools), float_sums(m2, pool, n_pools))

    @classmethod
    def merged(cls, sketches: Sequence[NormalSketch]) -> NormalSketch:
        """Add up sketches of disjoint stores."""
        return cls(
            merge_mean_rows([sketch.rows for sketch in sketches]),
            np.sum([sketch.within for sketch in sketches], axis=0),
        )

    @property
    def n_values(self) -> Array:
        """Values of all stores in each pool, (G,)."""
        return self.rows.sum(self.rows["n"] * self.rows["size"])

    @property
    def log_weights(self) -> Array:
        """Half the log weights of all values, a constant of the data, (G,)."""
        return np.zeros(self.n_pools)

    def select(self, pools: Codes) -> NormalSketch:
        """Return the sketch of some pools."""
        return NormalSketch(self.rows.select(pools), self.within[pools])

    def given_spread(self, log_spread: Array) -> NormalGivenSpread:
        """Return the likelihood at given A = τ²/σ²: V = σ² (1 + nA)."""
        rows = self.rows
        variance = 1.0 + rows["size"] * np.exp(log_spread)[rows.pool]
        return NormalGivenSpread.of(rows, rows["size"], variance, self.within, self.n_values)

    def regroup(self, parents: Codes, n_parents: int) -> NormalSketch:
        """Return the sketch of larger pools: pool ``g`` is a part of ``parents[g]``."""
        rows = regroup_mean_rows(self.rows, parents, n_parents)
        return NormalSketch(rows, float_sums(self.within, parents, n_parents))


def _variance(sketch: NormalSketch, coordinates: Array) -> RowVariance:
    """V = σ² + n τ² and its derivatives in (τ², log σ)."""
    rows = sketch.rows
    sigma_squared = np.exp(2.0 * coordinates[rows.pool, 2])
    total = sigma_squared + rows["size"] * coordinates[rows.pool, 1]
    return RowVariance(
        total, {1: rows["size"], 2: 2.0 * sigma_squared}, {(2, 2): 4.0 * sigma_squared}
    )


def log_marginal(sketch: NormalSketch, coordinates: Array) -> Derivatives:
    """Log density of all values in (μ, τ², log σ), −½ log 2π per value included.

    Returns
    -------
    Value (G,), gradient (G, 3), Hessian (G, 3, 3).
    """
    variance = _variance(sketch, coordinates)
    rows = sketch.rows
    value, gradient, hessian = log_density_of_means(rows, rows["size"], coordinates[:, 0], variance)
    log_sigma = coordinates[:, 2]
    freedom = sketch.n_values - sketch.n_groups
    scaled = sketch.within * np.exp(-2.0 * log_sigma)
    value += -freedom * log_sigma - 0.5 * scaled - 0.5 * LOG_2PI * sketch.n_values
    value += sketch.log_weights
    gradient[:, 2] += scaled - freedom
    hessian[:, 2, 2] -= 2.0 * scaled
    return value, gradient, hessian


def log_restriction(sketch: NormalSketch, coordinates: Array) -> Derivatives:
    """Turn the likelihood into the restricted one."""
    variance = _variance(sketch, coordinates)
    return log_restriction_of_means(sketch.rows, sketch.rows["size"], variance)


def log_no_pooling(sketch: NormalSketch, held: Array) -> Array:
    """Log density of all values where every store has its own θ = x̄, (G,).

    σ is the held one, or at its maximum Σ M2/N; infinite where that is 0, because the density
    grows without end as σ → 0.
    """
    n, free = sketch.n_values, np.isnan(held[:, 2])
    with np.errstate(divide="ignore", invalid="ignore"):
        log_sigma = np.where(free, 0.5 * np.log(sketch.within / n), held[:, 2])
        scaled = np.where(free, n, sketch.within * np.exp(-2.0 * held[:, 2]))
        value = -0.5 * (n * LOG_2PI + scaled) - n * log_sigma + sketch.log_weights
    return np.where(n > 0, value, 0.0)


def pearson(sketch: NormalSketch, coordinates: Array) -> Pearson:
    """Squares of the store means about μ in units of τ² + σ²/n."""
    variance = _variance(sketch, coordinates)
    return pearson_of_means(sketch.rows, sketch.rows["size"], coordinates[:, 0], variance)


def location_message(sketch: NormalSketch, coordinates: Array, *, derivatives: bool) -> Message:
    """Return the likelihood of each pool as a function of its mean; 2π included."""
    rows, log_sigma, dimension = sketch.rows, coordinates[:, 2], 3 if derivatives else 0
    variance = _variance(sketch, coordinates)
    variance = variance if derivatives else variance.values()
    message = message_of_means(rows, rows["size"], variance, dimension)
    freedom = sketch.n_values - sketch.n_groups
    scaled = sketch.within * np.exp(-2.0 * log_sigma)
    total = -freedom * log_sigma - 0.5 * scaled - 0.5 * LOG_2PI * sketch.n_values
    within = constants(total + sketch.log_weights, dimension)
    if derivatives:
        within.gradient[:, 2] = scaled - freedom
        within.hessian[:, 2, 2] = -2.0 * scaled
    return replace(message, peak=message.peak + within)
