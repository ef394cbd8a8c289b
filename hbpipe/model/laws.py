"""The laws that a store's θ can have: Normal, Beta and Gamma, each with two parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import special

from hbpipe.model.family import Array, Description
from hbpipe.model.quantiles import beta_quantiles

Pair: TypeAlias = tuple[Array, Array]


@dataclass(frozen=True)
class Law:
    """A two-parameter law and the line on which its quantiles are sought.

    ``cdf``, ``density`` and ``ppf`` (the quantile function) take the two parameters, then the
    argument. ``density`` is with respect to the line's coordinate ``u``: the value itself for
    Normal, its logit for Beta, its logarithm for Gamma.
    """

    cdf: Callable[[Array, Array, Array], Array]
    density: Callable[[Array, Array, Array], Array]
    ppf: Callable[[Array, Array, Array], Array]
    from_moments: Callable[[Array, Array], Pair]
    mean_sd: Callable[[Array, Array], Pair]
    to_line: Callable[[Array], Array]
    from_line: Callable[[Array], Array]

    def describe(self, first: Any, second: Any, quantiles: Any) -> Description:
        """Describe laws of any shape (J, ...), given their two parameters and levels (Q,)."""
        first, second = np.broadcast_arrays(
            np.asarray(first, np.float64), np.asarray(second, np.float64)
        )
        levels = np.atleast_1d(np.asarray(quantiles, np.float64))
        mean, sd = self.mean_sd(first, second)

        def cdf(points: Any) -> Array:
            return np.asarray(self.cdf(first, second, np.asarray(points, np.float64)))

        limits = self.ppf(first[..., None], second[..., None], levels)
        return Description(np.asarray(mean), np.asarray(sd), np.asarray(limits), cdf)


def _normal_cdf(mean: Array, sd: Array, x: Array) -> Array:
    """P(θ ≤ x); sd = 0 is a point mass."""
    distance, sd = np.broadcast_arrays(x - mean, sd)
    point_mass = np.where(distance >= 0, np.inf, -np.inf)
    standard = np.divide(distance, sd, out=point_mass, where=sd > 0)
    return np.asarray(special.ndtr(standard))


def _normal_density(mean: Array, sd: Array, u: Array) -> Array:
    z = (u - mean) / sd
    return np.asarray(np.exp(-0.5 * z * z) / (sd * np.sqrt(2.0 * np.pi)))


def _beta_density(a: Array, b: Array, u: Array) -> Array:
    # x(1 − x) from dx/du raises both exponents by one.
    log_x, log_rest = -np.logaddexp(0.0, -u), -np.logaddexp(0.0, u)
    return np.asarray(np.exp(a * log_x + b * log_rest - special.betaln(a, b)))


def _gamma_density(shape: Array, rate: Array, u: Array) -> Array:
    log_scaled = u + np.log(rate)
    return np.asarray(np.exp(shape * log_scaled - np.exp(log_scaled) - special.gammaln(shape)))


def _gamma_cdf(shape: Array, rate: Array, x: Array) -> Array:
    """P(θ ≤ x); beyond the largest float everything lies below."""
    with np.errstate(over="ignore"):
        return np.asarray(special.gammainc(shape, rate * np.maximum(x, 0.0)))


def _beta_from_moments(mean: Array, variance: Array) -> Pair:
    size = mean * (1.0 - mean) / variance - 1.0
    return mean * size, (1.0 - mean) * size


def _beta_mean_sd(a: Array, b: Array) -> Pair:
    size = a + b
    mean = a / size
    return mean, np.sqrt(mean * (b / size) / (size + 1.0))


NORMAL = Law(
    cdf=_normal_cdf,
    density=_normal_density,
    ppf=lambda mean, sd, p: mean + sd * special.ndtri(p),
    from_moments=lambda mean, variance: (mean, np.sqrt(variance)),
    mean_sd=lambda mean, sd: (mean, sd),
    to_line=lambda x: x,
    from_line=lambda u: u,
)
BETA = Law(
    cdf=lambda a, b, x: special.betainc(a, b, np.clip(x, 0.0, 1.0)),
    density=_beta_density,
    ppf=beta_quantiles,
    from_moments=_beta_from_moments,
    mean_sd=_beta_mean_sd,
    to_line=lambda x: special.logit(np.clip(x, 1e-300, 1.0 - 1e-16)),
    from_line=special.expit,
)
GAMMA = Law(
    cdf=_gamma_cdf,
    density=_gamma_density,
    ppf=lambda shape, rate, p: special.gammaincinv(shape, p) / rate,
    from_moments=lambda mean, variance: (mean**2 / variance, mean / variance),
    mean_sd=lambda shape, rate: (shape / rate, np.sqrt(shape) / rate),
    to_line=lambda x: np.log(np.maximum(x, 1e-300)),
    from_line=lambda u: np.exp(np.minimum(u, 700.0)),
)
