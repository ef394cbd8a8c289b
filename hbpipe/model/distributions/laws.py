"""The laws that a store's θ can have: Normal, Beta, Gamma and Student's t."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import special

from hbpipe.model.distributions.quantiles import beta_quantiles
from hbpipe.model.distributions.sinc import Kernel, sinc_quantiles
from hbpipe.model.family import Array, Description

Pair: TypeAlias = tuple[Array, Array]
#: The parameters of a law, arrays that broadcast against each other.
Parameters: TypeAlias = tuple[Array, ...]


@dataclass(frozen=True)
class Law:
    """A law and the line on which its quantiles are sought.

    Every function takes the law's parameters, in their order, and then its argument:

    * Normal: mean, sd;
    * Beta: a, b;
    * Gamma: shape, rate;
    * Student's t: degrees of freedom, location, scale.

    ``ppf`` is the quantile function. ``density`` is with respect to the line's coordinate ``u``:
    the value itself for Normal and Student's t, its logit for Beta, its logarithm for Gamma.
    ``from_moments`` takes mean and variance; for Student's t it gives the normal law. ``score``
    is a quick approximation of the normal score: Φ(score) is the cdf to about 0.01, exactly for
    the normal law, and to 0.006/s where ``shape`` is s. ``kernel`` is there where quantiles come
    from the density faster than from the cdf.
    """

    cdf: Callable[..., Array]
    density: Callable[..., Array]
    ppf: Callable[..., Array]
    from_moments: Callable[[Array, Array], Parameters]
    mean_sd: Callable[..., Pair]
    score: Callable[..., Array]
    to_line: Callable[[Array], Array]
    from_line: Callable[[Array], Array]
    kernel: Kernel | None = None
    shape: Callable[[Array, Array], Array] | None = None

    def describe(self, *arguments: Any) -> Description:
        """Describe laws of any shape (J, ...), given their parameters and then levels (Q,)."""
        *given, quantiles = arguments
        parameters = np.broadcast_arrays(*(np.asarray(values, np.float64) for values in given))
        levels = np.atleast_1d(np.asarray(quantiles, np.float64))
        mean, sd = self.mean_sd(*parameters)

        def cdf(points: Any) -> Array:
            return np.asarray(self.cdf(*parameters, np.asarray(points, np.float64)))

        flat = tuple(values.ravel() for values in parameters)
        limits = self.quantiles(flat, levels).reshape(*np.shape(mean), len(levels))
        return Description(np.asarray(mean), np.asarray(sd), limits, cdf)

    def quantiles(self, parameters: Parameters, levels: Array) -> Array:
        """Quantiles (J, Q) of laws with parameters (J,) each, at levels (Q,)."""
        if self.kernel is None:
            return np.asarray(self.ppf(*(values[:, None] for values in parameters), levels))
        a, b = (values[:, None] for values in parameters)
        found = self.from_line(sinc_quantiles(self.kernel, np.ones_like(a), a, b, levels))
        row, column = np.nonzero(np.isnan(found))
        found[row, column] = self.ppf(a[row, 0], b[row, 0], levels[column])
        return ascending(found, levels)


def ascending(found: Array, levels: Array) -> Array:
    """Let quantiles (J, Q) not fall as the level rises: neighbours may meet in the last digits."""
    order = np.argsort(levels)
    found[:, order] = np.maximum.accumulate(found[:, order], axis=1)
    return found


def _normal_cdf(mean: Array, sd: Array, x: Array) -> Array:
    """P(θ ≤ x); sd = 0 is a point mass."""
    distance, sd = np.broadcast_arrays(x - mean, sd)
    point_mass = np.where(distance >= 0, np.inf, -np.inf)
    standard = np.divide(distance, sd, out=point_mass, where=sd > 0)
    return np.asarray(special.ndtr(standard))


def _normal_density(mean: Array, sd: Array, u: Array) -> Array:
    z = (u - mean) / sd
    return np.asarray(np.exp(-0.5 * z * z) / (sd * np.sqrt(2.0 * np.pi)))


def _student_density(freedom: Array, location: Array, scale: Array, u: Array) -> Array:
    # B(½, ν/2) has no large logarithms to cancel; ν = 1e15 is as good as ∞.
    freedom = np.minimum(freedom, 1e15)
    z = (u - location) / scale
    log_kernel = -0.5 * (freedom + 1.0) * np.log1p(z * z / freedom)
    log_constant = special.betaln(0.5, 0.5 * freedom) + 0.5 * np.log(freedom)
    return np.asarray(np.exp(log_kernel - log_constant) / scale)


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


def _student_mean_sd(freedom: Array, location: Array, scale: Array) -> Pair:
    """Centre and sd. Up to one degree of freedom the mean, up to two the sd does not exist."""
    inflation = np.divide(
        2.0, freedom - 2.0, out=np.full(np.shape(freedom), np.inf), where=freedom > 2.0
    )
    return location, scale * np.sqrt(1.0 + inflation)


def _student_score(freedom: Array, location: Array, scale: Array, x: Array) -> Array:
    """Approximate the normal score of Student's law (Wallace 1959)."""
    freedom = np.minimum(freedom, 1e15)
    t = (x - location) / scale
    shrink = (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0)
    return np.asarray(np.sign(t) * shrink * np.sqrt(freedom * np.log1p(t * t / freedom)))


def _beta_statistics(centre: Array, offset: Array) -> Pair:
    """Differences of log x and of −log(1 − x); they add up to the offset."""
    x, rest = special.expit(centre), special.expit(-centre)
    # The smaller one from its logarithm, the other one from the sum: neither cancels.
    near_zero = x <= rest
    change = np.expm1(np.where(near_zero, offset, -offset))
    smaller = np.log1p(np.minimum(x, rest) * change)
    return (
        np.where(near_zero, offset - smaller, -smaller),
        np.where(near_zero, smaller, offset + smaller),
    )


def _beta_tails(a: Array, b: Array) -> tuple[Array, Array, Array]:
    share = a / (a + b)
    return b * share, b / (a + b), share


def _gamma_statistics(centre: Array, offset: Array) -> Pair:
    """Differences of log θ and of θ."""
    return offset, np.exp(centre) * np.expm1(offset)


def _gamma_tails(shape: Array, rate: Array) -> tuple[Array, Array, Array]:
    return shape, np.ones_like(shape), np.zeros_like(shape)


def _beta_score(a: Array, b: Array, x: Array) -> Array:
    """Approximate it from the cube root of the odds (Abramowitz and Stegun 1964, 26.5.22)."""
    x = np.clip(x, 0.0, 1.0 - 1e-16)
    root = np.cbrt(b * x / (a * (1.0 - x)))
    low, high = 1.0 / (9.0 * a), 1.0 / (9.0 * b)
    return np.asarray(((1.0 - high) * root - (1.0 - low)) / np.sqrt(high * root * root + low))


def _gamma_score(shape: Array, rate: Array, x: Array) -> Array:
    """Approximate it from the cube root (Wilson and Hilferty 1931)."""
    ninth = 1.0 / (9.0 * shape)
    return np.asarray((np.cbrt(rate * x / shape) - 1.0 + ninth) / np.sqrt(ninth))


NORMAL = Law(
    cdf=_normal_cdf,
    density=_normal_density,
    ppf=lambda mean, sd, p: mean + sd * special.ndtri(p),
    from_moments=lambda mean, variance: (mean, np.sqrt(variance)),
    mean_sd=lambda mean, sd: (mean, sd),
    score=lambda mean, sd, x: (x - mean) / sd,
    to_line=lambda x: x,
    from_line=lambda u: u,
)
BETA = Law(
    cdf=lambda a, b, x: special.betainc(a, b, np.clip(x, 0.0, 1.0)),
    density=_beta_density,
    ppf=beta_quantiles,
    from_moments=_beta_from_moments,
    mean_sd=_beta_mean_sd,
    score=_beta_score,
    to_line=lambda x: special.logit(np.clip(x, 1e-300, 1.0 - 1e-16)),
    from_line=special.expit,
    kernel=Kernel(_beta_statistics, _beta_tails),
    shape=np.minimum,
)
GAMMA = Law(
    cdf=_gamma_cdf,
    density=_gamma_density,
    ppf=lambda shape, rate, p: special.gammaincinv(shape, p) / rate,
    from_moments=lambda mean, variance: (mean**2 / variance, mean / variance),
    mean_sd=lambda shape, rate: (shape / rate, np.sqrt(shape) / rate),
    score=_gamma_score,
    to_line=lambda x: np.log(np.maximum(x, 1e-300)),
    from_line=lambda u: np.exp(np.minimum(u, 700.0)),
    kernel=Kernel(_gamma_statistics, _gamma_tails),
    shape=lambda shape, rate: np.asarray(shape),
)
STUDENT_T = Law(
    cdf=lambda freedom, location, scale, x: special.stdtr(freedom, (x - location) / scale),
    density=_student_density,
    ppf=lambda freedom, location, scale, p: location + scale * special.stdtrit(freedom, p),
    from_moments=lambda mean, variance: (np.full_like(mean, np.inf), mean, np.sqrt(variance)),
    mean_sd=_student_mean_sd,
    score=_student_score,
    to_line=lambda x: x,
    from_line=lambda u: u,
)
