"""Does the prior mean depend on a store's size? If so, one prior for large and small is wrong.

A small store is shrunk most, towards a mean that large stores decide: where large stores differ
from small ones, the small are biased (Weinstein, Ma, Brown and Zhang 2018, *JASA* 113; Chen 2022,
arXiv:2212.14444). The check is the score test (Rao 1948) of a slope b in log n, on the line on
which the prior mean is linear, beside what the prior has already:

    w = V(μ)²/Var(y),   r = (y − μ)/V(μ),   b = Σ w l̃ r / Σ w l̃²,   z = Σ w l̃ r / √Σ w l̃²

with l̃ what log n has beyond the covariates (weighted least squares), y the store's raw value, μ
its prior mean and V the family's variance function, dμ/dη of its canonical link. Var(y) = Var(θ) +
E V(θ)/n. The sums are additive over disjoint stores.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.family import Array, Codes, Family, Hyperparameters, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.numerics.grouped import float_sums

#: A slope moves the prior mean of a store whose log n is one sd from the others' by this share of
#: the sd between stores, or is not worth a word however many stores show it.
EFFECT = 0.1


@dataclass(frozen=True)
class SizeSums:
    """Weighted sums over stores by pool: ``x`` are the covariates, l log n, r residuals.

    ``xx`` (G, P, P), ``xl``, ``xr`` (G, P), ``ll``, ``lr`` (G,); ``weight`` and ``spread`` (G,)
    are Σ w and Σ w Var(θ) on the line.
    """

    xx: Array
    xl: Array
    xr: Array
    ll: Array
    lr: Array
    weight: Array
    spread: Array

    @classmethod
    def added(cls, parts: Sequence[SizeSums]) -> SizeSums:
        """Add up the sums of disjoint stores, in their order."""
        names = [item.name for item in fields(cls)]
        return cls(**{name: sum(getattr(part, name) for part in parts) for name in names})


@dataclass(frozen=True)
class PrecisionDependence:
    """Slopes in log n of ``G`` pools, (G,) each.

    ``slope`` on the line, its ``z``, and the ``effect``: the slope times the sd of log n, in sds
    between stores (∞ where there is none). 0 where sizes do not differ.
    """

    slope: Array
    z: Array
    effect: Array

    @property
    def critical(self) -> float:
        """|z| that one of the pools exceeds by chance in one night out of a hundred."""
        return float(special.ndtri(1.0 - 0.005 / max(len(self.z), 1)))

    @property
    def matters(self) -> NDArray[np.bool_]:
        """Whether a pool's prior mean depends on size, beyond chance and by enough, (G,)."""
        return np.asarray((np.abs(self.z) > self.critical) & (self.effect > EFFECT))


def size_sums(
    family: Family,
    statistics: Statistics,
    hyperparameters: Hyperparameters,
    pools: Codes,
    n_pools: int,
) -> SizeSums:
    """Sum over stores (J,) in pools (J,), with the hyperparameters (G, ...) taken as known."""
    geometry = geometry_of(family)
    size, raw = geometry.sizes(statistics)
    seen = size > 0
    size, raw, pools = size[seen], raw[seen], np.asarray(pools)[seen]
    at = {name: np.asarray(values)[pools] for name, values in hyperparameters.items()}
    x = np.ones((len(size), 1))
    if family.covariates is not None:
        x = at["covariates"] = np.asarray(statistics["covariates"], np.float64)[seen]
    described = family.describe(family.prior(at), np.empty(0))
    mean, variance = described.mean, described.sd**2
    v0, v1, v2 = geometry.variance
    noise = np.square(at["sigma"]) if geometry.has_noise else 1.0
    slope = v0 + v1 * mean + v2 * mean**2
    within = v0 * noise + v1 * mean + v2 * (mean**2 + variance)
    usable = slope > 0
    of_raw = np.where(usable, variance + within / size, 1.0)
    weight = np.where(usable, slope**2 / of_raw, 0.0)
    residual = np.where(usable, raw - mean, 0.0) / np.where(usable, slope, 1.0)
    log_n = np.log(size)

    def add(values: Array) -> Array:
        return float_sums(values, pools, n_pools)

    columns = x.T
    return SizeSums(
        xx=np.stack([np.stack([add(weight * a * b) for b in columns], 1) for a in columns], 1),
        xl=np.stack([add(weight * a * log_n) for a in columns], axis=1),
        xr=np.stack([add(weight * a * residual) for a in columns], axis=1),
        ll=add(weight * log_n**2),
        lr=add(weight * log_n * residual),
        weight=add(weight),
        spread=add(np.where(usable, variance / np.where(usable, of_raw, 1.0), 0.0)),
    )


def precision_dependence(sums: SizeSums) -> PrecisionDependence:
    """Test every pool for a slope of its prior mean in log n."""
    scale = np.sqrt(np.maximum(np.einsum("gpp->gp", sums.xx), 1e-300))
    xx = sums.xx / scale[:, :, None] / scale[:, None, :]
    inverse = np.linalg.pinv(xx, rcond=1e-10, hermitian=True)
    along = np.einsum("gpq,gq->gp", inverse, sums.xl / scale)
    left = sums.ll - np.einsum("gp,gp->g", along, sums.xl / scale)
    score = sums.lr - np.einsum("gp,gp->g", along, sums.xr / scale)
    differ = left > 1e-9 * np.maximum(sums.ll, 1e-300)
    information = np.where(differ, left, 1.0)
    slope = np.where(differ, score / information, 0.0)
    z = np.where(differ, score / np.sqrt(information), 0.0)
    some = sums.weight > 0
    weight = np.where(some, sums.weight, 1.0)
    moved = np.abs(slope) * np.sqrt(np.where(differ, information, 0.0) / weight)
    between = np.sqrt(sums.spread / weight)
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = np.where(moved > 0, moved / between, 0.0)
    return PrecisionDependence(slope, z, effect)


def likelihood_ratio_limit(probability: float, parameters: int, pools: int = 1) -> float:
    """Likelihood ratio that any of some pools exceeds by chance with this probability.

    Twice the log of it is chi-squared with a degree for each parameter (Wilks 1938).
    """
    return float(special.chdtri(parameters, probability / max(pools, 1)))
