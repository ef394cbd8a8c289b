"""The Gamma-Poisson (negative binomial) likelihood of the stores of many pools.

With the mean rate m, κ = 1/shape and z = m E, the log probability of a store's y events in the
exposure E is (Lawless 1987, *Canadian Journal of Statistics* 15)

    R(1, κ; y) + y log z − (y + 1/κ) log(1 + κ z) − log y!,   R(1, κ; y) = Σ_{k<y} log(1 + kκ).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.estimation.rates import RateSums, merge_rate_sums, rate_sums, squares_about
from hbpipe.model.family import Array, Codes, Derivatives, Pearson, Statistics
from hbpipe.model.geometry import LOCATION
from hbpipe.model.marginal.given_spread import in_location
from hbpipe.model.marginal.log1p import log1p_ratio
from hbpipe.model.marginal.rising import RisingCounts
from hbpipe.model.numerics.grouped import Rows, float_sums, group, stack
from hbpipe.model.numerics.panels import condense


@dataclass(frozen=True)
class PoissonSketch:
    """Distinct counts, distinct exposures with stores and counts, sums for the moments; lossless.

    ``exposures`` has the columns ``exposure``, ``stores`` and ``count``. ``log_factorial`` is
    Σ log y!, (G,).
    """

    counts: RisingCounts
    exposures: Rows
    rates: RateSums
    log_factorial: Array

    @classmethod
    def of(cls, statistics: Statistics, pools: Codes, n_pools: int) -> PoissonSketch:
        """Count distinct values; stores without exposure drop out."""
        exposure = np.asarray(statistics["exposure"], np.float64)
        seen = exposure > 0
        pool, exposure = np.asarray(pools)[seen], exposure[seen]
        count = np.asarray(statistics["count"])[seen]
        rows, inverse = group(pool, exposure, n_pools)
        columns = {
            "exposure": rows["key"],
            "stores": np.bincount(inverse, minlength=len(rows.pool)).astype(np.float64),
            "count": np.bincount(inverse, count, len(rows.pool)),
        }
        counts = RisingCounts.of(pool, count, n_pools)
        return cls(
            counts,
            Rows(n_pools, rows.pool, columns),
            rate_sums(pool, count.astype(np.float64), exposure, n_pools),
            counts.total_log_factorial(),
        )

    @classmethod
    def merged(cls, sketches: Sequence[PoissonSketch]) -> PoissonSketch:
        """Add up sketches of disjoint stores."""
        pool, columns = stack([sketch.exposures for sketch in sketches])
        rows, inverse = group(pool, columns.pop("exposure"), sketches[0].n_pools)
        sums = {name: float_sums(part, inverse, len(rows.pool)) for name, part in columns.items()}
        return cls(
            RisingCounts.merged([sketch.counts for sketch in sketches]),
            Rows(rows.n_pools, rows.pool, {"exposure": rows["key"], **sums}),
            merge_rate_sums([sketch.rates for sketch in sketches]),
            np.sum([sketch.log_factorial for sketch in sketches], axis=0),
        )

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return len(self.log_factorial)

    @property
    def n_rows(self) -> int:
        """Rows that sums are taken over."""
        return self.counts.n_rows + len(self.nodes)

    @cached_property
    def nodes(self) -> Rows:
        """The exposures that sums are taken over: where there are many, nodes stand for them."""
        return condense(self.exposures, "exposure")

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with an exposure in each pool, (G,)."""
        return self.rates.stores.astype(np.int64)

    def select(self, pools: Codes) -> PoissonSketch:
        """Return the sketch of some pools."""
        cut = PoissonSketch(
            self.counts.select(pools),
            self.exposures.select(pools),
            self.rates.select(pools),
            self.log_factorial[pools],
        )
        vars(cut)["nodes"] = self.nodes.select(pools)
        return cut

    def given_spread(self, log_spread: Array) -> PoissonGivenSpread:
        """Return the likelihood at given A = 1/rate; what depends on it alone is summed up."""
        rows, spread = self.nodes, np.exp(log_spread)
        exposure, at = rows["exposure"], spread[rows.pool]
        grown = np.log1p(at * exposure)
        # log(1 + AE)/A has the limit E at A = 0.
        per = np.divide(grown, at, out=exposure.astype(np.float64), where=at > 0)
        constant = rows.sum(rows["count"] * (np.log(exposure) - grown)) - self.log_factorial
        return PoissonGivenSpread(self.counts, spread, constant, rows.sum(rows["stores"] * per))


def log_marginal(sketch: PoissonSketch, coordinates: Array) -> Derivatives:
    """Log probability of the counts in (log m, κ), Σ (y log E − log y!) included.

    Returns
    -------
    Value (G,), gradient (G, 2), Hessian (G, 2, 2).
    """
    log_mean, kappa = coordinates[:, 0], coordinates[:, 1]
    rising = sketch.counts(np.ones(sketch.n_pools), kappa)
    rows = sketch.nodes
    log_z = log_mean[rows.pool] + np.log(rows["exposure"])
    z = np.exp(log_z)
    u = kappa[rows.pool] * z
    y, stores = rows["count"], rows["stores"]
    # log(1 + κz)/κ = z ℓ(κz) has a limit at κ = 0.
    ell, ell_u, ell_uu = log1p_ratio(u)
    share = 1.0 / (1.0 + u)
    residual = (y - stores * z) * share

    value = rising.value - sketch.log_factorial
    value += rows.sum(y * (log_z - u * ell) - stores * z * ell)
    gradient = np.stack(
        [rows.sum(residual), rising.d_phi - rows.sum(z * (y * share + stores * z * ell_u))], axis=-1
    )
    mixed = -rows.sum(residual * z * share)
    hessian = np.stack(
        [
            -rows.sum((stores * z + residual * u) * share),
            mixed,
            mixed,
            rising.d_phi_phi + rows.sum(z**2 * (y * share**2 - stores * z * ell_uu)),
        ],
        axis=-1,
    )
    return value, gradient, hessian.reshape(-1, 2, 2)


def log_no_pooling(sketch: PoissonSketch, held: Array) -> Array:
    """Log probability of the counts where every store has its own θ = y/E, (G,).

    Σ (y log y − y − log y!): the exposures cancel.
    """
    return sketch.counts.total_m_log_m() - sketch.counts.total() - sketch.log_factorial


def log_probability(sketch: PoissonSketch, coordinates: Array) -> Array:
    """Evaluate the log marginal alone, (G,)."""
    rows, (log_mean, kappa) = sketch.nodes, coordinates.T
    log_z = log_mean[rows.pool] + np.log(rows["exposure"])
    z, y = np.exp(log_z), rows["count"]
    u = kappa[rows.pool] * z
    # log(1 + κz)/κ has the limit z at κ = 0.
    per = np.divide(np.log1p(u), u, out=np.ones_like(u), where=u > 0)
    rising = sketch.counts.value(np.ones(sketch.n_pools), kappa)
    by_exposure = rows.sum(y * (log_z - u * per) - rows["stores"] * z * per)
    return np.asarray(rising - sketch.log_factorial + by_exposure)


@dataclass(frozen=True)
class PoissonGivenSpread:
    """The likelihood at given A = 1/rate as a function of log m, (G,) each.

    With κ = A/m a store has R(m, A; y) + y log E − (y + m/A) log(1 + AE) − log y!, in which the
    exposures make one number and one factor of m for a pool.
    """

    counts: RisingCounts
    spread: Array
    constant: Array
    per_mean: Array

    @property
    def n_rows(self) -> int:
        """Rows that sums are taken over."""
        return self.counts.n_rows

    def select(self, pools: Codes) -> PoissonGivenSpread:
        """Return the likelihoods of some pools."""
        sums = (values[pools] for values in (self.spread, self.constant, self.per_mean))
        return PoissonGivenSpread(self.counts.select(pools), *sums)

    def value(self, point: Array) -> Array:
        """Evaluate the log likelihood at working points (G, 2), (G,)."""
        mean = np.exp(point[:, LOCATION])
        rising = self.counts.value(mean, self.spread)
        return np.asarray(self.constant + rising - mean * self.per_mean)

    def derivatives(self, point: Array) -> Derivatives:
        """Evaluate the same with its derivatives in the location."""
        mean = np.exp(point[:, LOCATION])
        value, by_mean, by_mean_mean = self.counts.along(mean, self.spread)
        slope = mean * (by_mean - self.per_mean)
        value = self.constant + value - mean * self.per_mean
        return in_location(value, slope, slope + mean**2 * by_mean_mean)


def pearson(sketch: PoissonSketch, coordinates: Array) -> Pearson:
    """Squares of the rates about m in units of m/E, which grow as m E (Breslow 1984)."""
    mean, sums = np.exp(coordinates[:, 0]), sketch.rates
    return Pearson(squares_about(sums, mean) / mean, mean * sums.size, mean**2 * sums.size_squared)
