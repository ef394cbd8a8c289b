"""The Dirichlet-multinomial likelihood of the stores of many pools, from their distinct counts.

With the mean shares μ_k, φ = 1/(1 + Σ α_k) and a_k = μ_k(1 − φ), the log probability of a store's
counts y_k, n in all, is (Mosimann 1962, *Biometrika* 49; in this form Tvedebrink 2010)

    log n!/Π y_k! + Σ_k R(a_k, φ; y_k) − R(1 − φ, φ; n),     R(a, φ; m) = Σ_{i<m} log(a + iφ).

Classes meet in μ alone: in log μ_k the second derivatives are a diagonal, and the softmax adds
terms of rank two. What is summed over stores is therefore six numbers for each class and pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.estimation.rates import RateSums, merge_rate_sums, rate_sums
from hbpipe.model.family import Array, Codes, Derivatives, Statistics
from hbpipe.model.marginal.rising import RisingCounts, RisingSums


@dataclass(frozen=True)
class ShareSketch:
    """Distinct counts of each class and of all classes together, with multiplicities; lossless.

    Parameters
    ----------
    size
        ``K``, the number of classes.
    classes
        The counts y_k, by G K pools: those of one pool's classes come one after another.
    totals
        The counts n, by pool.
    rates
        Sums of the shares y_k/n for the moments, by pool and class.
    log_choose
        Σ log n!/Π y_k!, (G,).
    """

    size: int
    classes: RisingCounts
    totals: RisingCounts
    rates: RateSums
    log_choose: Array

    @classmethod
    def of(cls, statistics: Statistics, pools: Codes, n_pools: int) -> ShareSketch:
        """Count distinct values; stores without events drop out."""
        counts = np.asarray(statistics["counts"])
        size = counts.shape[1]
        total = counts.sum(axis=1)
        seen = total > 0
        pool, y, n = np.asarray(pools)[seen], counts[seen], total[seen]
        cell = (pool.astype(np.int64)[:, None] * size + np.arange(size)).ravel()
        classes = RisingCounts.of(cell, y.ravel(), n_pools * size)
        totals = RisingCounts.of(pool, n, n_pools)
        each = np.repeat(n.astype(np.float64), size)
        rates = rate_sums(cell, y.ravel().astype(np.float64), each, n_pools * size)
        factorials = classes.total_log_factorial().reshape(n_pools, size).sum(axis=1)
        return cls(size, classes, totals, rates, totals.total_log_factorial() - factorials)

    @classmethod
    def merged(cls, sketches: Sequence[ShareSketch]) -> ShareSketch:
        """Add up sketches of disjoint stores."""
        return cls(
            sketches[0].size,
            RisingCounts.merged([sketch.classes for sketch in sketches]),
            RisingCounts.merged([sketch.totals for sketch in sketches]),
            merge_rate_sums([sketch.rates for sketch in sketches]),
            np.sum([sketch.log_choose for sketch in sketches], axis=0),
        )

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return len(self.log_choose)

    @property
    def n_rows(self) -> int:
        """Rows of all tables."""
        return self.classes.n_rows + self.totals.n_rows

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with at least one event in each pool, (G,)."""
        return self.by_class(self.rates.stores)[:, 0].astype(np.int64)

    @property
    def class_totals(self) -> Array:
        """Σ y_k of each pool, (G, K)."""
        return self.by_class(self.classes.total())

    def by_class(self, values: Array) -> Array:
        """(G K,) → (G, K)."""
        return values.reshape(self.n_pools, self.size)

    def select(self, pools: Codes) -> ShareSketch:
        """Return the sketch of some pools."""
        chosen = np.asarray(pools, np.int64)
        cells = (chosen[:, None] * self.size + np.arange(self.size)).ravel()
        return ShareSketch(
            self.size,
            self.classes.select(cells),
            self.totals.select(chosen),
            self.rates.select(cells),
            self.log_choose[chosen],
        )


def log_coefficient(counts: NDArray[np.integer]) -> Array:
    """Log multinomial coefficient of the counts (..., K)."""
    whole = special.gammaln(counts.sum(axis=-1) + 1.0)
    return np.asarray(whole - special.gammaln(counts + 1.0).sum(axis=-1))


def shares(contrasts: Array) -> Array:
    """Shares (..., K) of the log ratios (..., K − 1) to the last class."""
    line = np.concatenate([contrasts, np.zeros((*contrasts.shape[:-1], 1))], axis=-1)
    return np.asarray(special.softmax(line, axis=-1))


def log_marginal(sketch: ShareSketch, coordinates: Array) -> Derivatives:
    """Log probability of the counts in (log ratios to the last class, φ).

    Multinomial coefficients are included.

    Returns
    -------
    Value (G,), gradient (G, K), Hessian (G, K, K).
    """
    phi, size = coordinates[:, -1], sketch.size
    mean, rest = shares(coordinates[:, :-1]), 1.0 - phi
    classes = _by_class(sketch, sketch.classes((mean * rest[:, None]).ravel(), phi.repeat(size)))
    totals = sketch.totals(rest, phi)

    value = sketch.log_choose + classes.value.sum(axis=1) - totals.value
    a = mean * rest[:, None]
    first = a * classes.d_a
    second = first + a**2 * classes.d_a_a
    mixed = a * classes.d_a_phi - mean * (classes.d_a + a * classes.d_a_a)
    gradient, hessian = in_contrasts(mean, first, second, mixed)

    by_phi = np.sum(classes.d_phi - mean * classes.d_a, axis=1)
    gradient[:, -1] = by_phi - (totals.d_phi - totals.d_a)
    curved = classes.d_phi_phi - 2.0 * mean * classes.d_a_phi + mean**2 * classes.d_a_a
    flat = totals.d_phi_phi - 2.0 * totals.d_a_phi + totals.d_a_a
    hessian[:, -1, -1] = curved.sum(axis=1) - flat
    return value, gradient, hessian


def in_contrasts(mean: Array, first: Array, second: Array, mixed: Array) -> tuple[Array, Array]:
    """Turn derivatives in log μ_k into those in the log ratios; the last row is left for φ.

    With ℓ_k = log μ_k, ∂ℓ_k/∂η_i = δ_ki − μ_i. A sum of functions of one ℓ_k each, with slopes s
    that add to S, and curvatures h, has the Hessian

        diag(h − S μ) − h μ' − μ h' + (Σ h + S) μ μ'

    Parameters
    ----------
    mean, first, second, mixed
        (G, K): the shares; the derivatives in ℓ_k, the second ones, and those in ℓ_k and φ.
    """
    size = mean.shape[1]
    slope, curvature = first.sum(axis=1), second.sum(axis=1)
    gradient, hessian = np.empty((len(mean), size)), np.empty((len(mean), size, size))
    gradient[:, :-1] = (first - mean * slope[:, None])[:, :-1]
    free = mean[:, :-1]
    outer = free[:, :, None] * free[:, None, :]
    cross = -second[:, :-1, None] * free[:, None, :]
    inner = cross + np.swapaxes(cross, 1, 2) + outer * (curvature + slope)[:, None, None]
    place = np.arange(size - 1)
    inner[:, place, place] += second[:, :-1] - free * slope[:, None]
    hessian[:, :-1, :-1] = inner
    along = (mixed - mean * mixed.sum(axis=1)[:, None])[:, :-1]
    hessian[:, :-1, -1] = hessian[:, -1, :-1] = along
    return gradient, hessian


def log_no_pooling(sketch: ShareSketch, held: Array) -> Array:
    """Log probability of the counts where every store has its own shares y_k/n, (G,)."""
    each = sketch.by_class(sketch.classes.total_m_log_m()).sum(axis=1)
    return np.asarray(sketch.log_choose + each - sketch.totals.total_m_log_m())


def _by_class(sketch: ShareSketch, sums: RisingSums) -> RisingSums:
    return RisingSums(**{name: sketch.by_class(values) for name, values in vars(sums).items()})
