"""Rates y/n of stores: the sums that every moment estimator needs, and those estimators.

The sums are additive over disjoint stores, so they travel in the sketches of the Beta-Binomial
(n trials) and the Gamma-Poisson (exposure n). Estimators give the mean and the spread in the
family's own coordinate, as the formula gives it, negative too; 0 where it divides by zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hbpipe.model.estimation.moments import ratio, weighted_mean
from hbpipe.model.family import Array, Codes
from hbpipe.model.numerics.grouped import Rows


@dataclass(frozen=True)
class RateSums:
    """What moment estimators need of the rates r = y/n of the stores with n > 0, (G,) each.

    ``stores``, plain ``mean`` and ``m2`` = Σ (r − mean)²; ``size`` = Σ n, ``size_squared`` = Σ n²,
    ``size_inverse`` = Σ 1/n; ``pooled`` = Σ y/Σ n and ``weighted_m2`` = Σ n (r − pooled)².
    """

    stores: Array
    mean: Array
    m2: Array
    size: Array
    size_squared: Array
    size_inverse: Array
    pooled: Array
    weighted_m2: Array

    def select(self, pools: Codes) -> RateSums:
        """Return the sums of some pools."""
        return RateSums(**{name: values[pools] for name, values in vars(self).items()})


def rate_sums(pool: Codes, count: Array, size: Array, n_pools: int) -> RateSums:
    """Sum up the rates count/size of stores with size > 0, by pool."""
    rate = count / size
    each = Rows(
        n_pools,
        np.asarray(pool, np.int64),
        {
            "n": np.ones(len(rate)),
            "mean": rate,
            "m2": np.zeros(len(rate)),
        },
    )
    stores, mean, m2 = weighted_mean(each, np.ones(len(rate)))
    total, pooled, weighted_m2 = weighted_mean(each, size)
    return RateSums(
        stores, mean, m2, total, each.sum(size**2), each.sum(1.0 / size), pooled, weighted_m2
    )


def merge_rate_sums(parts: Sequence[RateSums]) -> RateSums:
    """Add up the sums of disjoint stores, the centred ones by Chan, Golub and LeVeque (1983)."""
    columns = {name: np.stack([getattr(part, name) for part in parts]) for name in vars(parts[0])}
    plain = _merge_centred(columns["stores"], columns["mean"], columns["m2"])
    weighted = _merge_centred(columns["size"], columns["pooled"], columns["weighted_m2"])
    return RateSums(
        *plain,
        size=weighted[0],
        size_squared=columns["size_squared"].sum(axis=0),
        size_inverse=columns["size_inverse"].sum(axis=0),
        pooled=weighted[1],
        weighted_m2=weighted[2],
    )


def _merge_centred(weight: Array, mean: Array, m2: Array) -> tuple[Array, Array, Array]:
    total = weight.sum(axis=0)
    merged = ratio((weight * mean).sum(axis=0), total)
    return total, merged, (m2 + weight * (mean - merged) ** 2).sum(axis=0)


def kleinman(sums: RateSums) -> tuple[Array, Array]:
    """Mean and φ of a Beta-Binomial: Kleinman (1973, *JASA* 68), weights n_j, no iteration.

    φ = (Σ n (r − p)² − p q Σ(1 − n/N)) / (p q [Σ n (1 − n/N) − Σ(1 − n/N)]), p = Σy/N, q = 1 − p.
    """
    noise = sums.pooled * (1.0 - sums.pooled)
    leverage = sums.stores - ratio(sums.size, sums.size)
    effective = sums.size - ratio(sums.size_squared, sums.size)
    return sums.pooled, ratio(sums.weighted_m2 - noise * leverage, noise * (effective - leverage))


def raw_proportions(sums: RateSums) -> tuple[Array, Array]:
    """Mean and φ of the raw rates, the binomial noise ignored (BDA3, section 5.3)."""
    return sums.mean, ratio(_variance(sums), sums.mean * (1.0 - sums.mean))


def corrected_proportions(sums: RateSums) -> tuple[Array, Array]:
    """Solve var(r)/(μ(1 − μ)) = k + (1 − k) φ with k the mean of 1/n; every store alike."""
    mean, phi = raw_proportions(sums)
    noise = ratio(sums.size_inverse, sums.stores)
    return mean, ratio(phi - noise, 1.0 - noise)


def exposure_weighted(sums: RateSums) -> tuple[Array, Array]:
    """Mean and κ of a Gamma-Poisson, weights E_j.

    var θ = (Σ E (r − p)² − (J − 1) p) / (ΣE − ΣE²/ΣE) with p = Σy/ΣE, and κ = var θ/p²: the
    Poisson form of DerSimonian and Laird's estimator.
    """
    effective = sums.size - ratio(sums.size_squared, sums.size)
    variance = ratio(sums.weighted_m2 - (sums.stores - 1.0) * sums.pooled, effective)
    return sums.pooled, ratio(variance, sums.pooled**2)


def raw_intensities(sums: RateSums) -> tuple[Array, Array]:
    """Mean and κ of the raw rates, the Poisson noise ignored."""
    return sums.mean, ratio(_variance(sums), sums.mean**2)


def corrected_intensities(sums: RateSums) -> tuple[Array, Array]:
    """Subtract the mean Poisson noise, m · mean(1/E), from the variance; every store alike."""
    noise = sums.mean * ratio(sums.size_inverse, sums.stores)
    return sums.mean, ratio(_variance(sums) - noise, sums.mean**2)


def squares_about(sums: RateSums, location: Array) -> Array:
    """Σ n (r − location)² by pool, (G,)."""
    return np.asarray(sums.weighted_m2 + sums.size * (sums.pooled - location) ** 2)


def _variance(sums: RateSums) -> Array:
    return ratio(sums.m2, sums.stores - 1.0)
