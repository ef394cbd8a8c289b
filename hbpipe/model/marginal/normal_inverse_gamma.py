"""The likelihood of values with a variance per store, from n, mean and M2 of each store.

With μ and σ_j² integrated out (Bernardo and Smith 1994, *Bayesian Theory*, appendix A; Murphy
2007, section 3), φ = 1/κ, x = 1/d₀, a = d₀/2 and w = [M2 + n (x̄ − μ)²/(1 + nφ)]/s₀², the log
density of the values of one store is

    −½ n log 2π − n log s₀ − ½ log(1 + nφ) + g(x; n) − ½ (d₀ + n) log(1 + xw),
    g = log Γ(a + n/2) − log Γ(a) − ½ n log a.

Nothing in it is taken at d₀ itself, so the common variance x = 0 is an ordinary point, where g is
0 and the last term −½ w. The product d₀ log(1 + xw) is w ℓ(xw) with ℓ(u) = log(1 + u)/u, and g is
a sum of logarithms: of 1 + 2kx for even n, of 1 + (2k + 1)x after half a step for odd n. That is
the rising factorial R(1, 2x; n/2) of ``rising.py``, which takes an n that is not whole too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.polynomial.polynomial import polyder, polyval
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.family import Array, Codes, Derivatives, Statistics
from hbpipe.model.marginal.log1p import log1p_ratio
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.marginal.rising import RisingCounts
from hbpipe.model.marginal.row_sketch import RowSketch
from hbpipe.model.numerics.grouped import Rows, integer_sums, stack

#: Numbers of the coordinates (μ, φ, x, log s₀).
MU, PHI, X, LOG_S0 = 0, 1, 2, 3
#: Up to this x = 1/(2a) the half step is taken from its series in 1/a, whose first term left out
#: is then below 1e-18.
_SERIES_UP_TO = 0.05
_ORDER = np.arange(1, 10)
#: Stirling's series at a + ½ less that at a: (2^(1−2r) − 2) B_2r / (2r (2r − 1)) a^(1−2r)
#: (Abramowitz and Stegun 1964, 6.1.40 and 23.1.21), as a polynomial in x.
_HALF_STEP_SERIES = np.zeros(19)
_HALF_STEP_SERIES[1::2] = (
    (2.0 ** (1 - 2 * _ORDER) - 2.0)
    * special.bernoulli(18)[2::2]
    / (2 * _ORDER * (2 * _ORDER - 1))
    * 2.0 ** (2 * _ORDER - 1)
)


@dataclass(frozen=True)
class VarianceSketch(RowSketch):
    """The distinct stores of each pool, lossless.

    ``rows`` has ``n`` (values of a store), ``mean``, ``m2`` and ``stores`` (how many are alike),
    sorted by pool, n, mean and m2, so the order of the stores leaves every bit alone. ``odd``
    counts (n − 1)/2 of the stores with odd n, ``even`` n/2 of the others: those with even n, and
    those whose n an overdispersion has divided.
    """

    stores: ClassVar[str] = "stores"

    even: RisingCounts
    odd: RisingCounts

    @classmethod
    def of(cls, statistics: Statistics, pools: Codes, n_pools: int) -> VarianceSketch:
        """Count stores that are alike; those without values drop out."""
        seen = np.asarray(statistics["n"]) > 0
        columns = {name: np.asarray(statistics[name])[seen] for name in ("n", "mean", "m2")}
        n, pool = columns["n"], np.asarray(pools)[seen].astype(np.int64)
        if np.all(n == np.floor(n)):
            n = n.astype(np.int64)
        columns |= {"n": n, "stores": np.ones(len(n), np.int64)}
        odd = n % 2 == 1
        steps = n[~odd] // 2 if n.dtype.kind == "i" else n[~odd] / 2
        return cls(
            _distinct(pool, columns, n_pools),
            RisingCounts.of(pool[~odd], steps, n_pools),
            RisingCounts.of(pool[odd], n[odd] // 2, n_pools),
        )

    @classmethod
    def merged(cls, sketches: Sequence[VarianceSketch]) -> VarianceSketch:
        """Add up sketches of disjoint stores."""
        return cls(
            _distinct(*stack([sketch.rows for sketch in sketches]), sketches[0].n_pools),
            RisingCounts.merged([sketch.even for sketch in sketches]),
            RisingCounts.merged([sketch.odd for sketch in sketches]),
        )

    @property
    def n_values(self) -> Array:
        """Values of all stores in each pool, (G,)."""
        return self.rows.sum(self.rows["stores"] * self.rows["n"].astype(np.float64))

    def select(self, pools: Codes) -> VarianceSketch:
        """Return the sketch of some pools."""
        return VarianceSketch(
            self.rows.select(pools), self.even.select(pools), self.odd.select(pools)
        )


def _distinct(pool: NDArray[np.int64], columns: dict[str, NDArray[Any]], n_pools: int) -> Rows:
    """Merge rows that agree in all but ``stores``, which are added up."""
    keys = [columns["m2"], columns["mean"], columns["n"], pool]
    order = np.lexsort(keys)
    keys = [key[order] for key in keys]
    new = np.ones(len(order), bool)
    new[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    first = order[new]
    stores = integer_sums(columns["stores"][order], np.cumsum(new) - 1, len(first))
    kept = {name: columns[name][first] for name in ("n", "mean", "m2")}
    return Rows(n_pools, pool[first], {**kept, "stores": stores})


@dataclass(frozen=True)
class _Terms:
    """What value and derivatives share, one number per row, or per point and row.

    ``precision`` is V = n/(1 + nφ) and ``scaled`` is w = [M2 + V (x̄ − μ)²]/s₀².
    """

    n: Array
    phi: Array
    x: Array
    deviation: Array
    precision: Array
    unit: Array
    scaled: Array

    @classmethod
    def of(cls, rows: Rows, coordinates: Array) -> _Terms:
        """Evaluate them at coordinates (4, ...) that broadcast against the rows."""
        mu, phi, x, log_s0 = coordinates
        n = rows["n"].astype(np.float64)
        deviation, precision, unit = rows["mean"] - mu, n / (1.0 + n * phi), np.exp(-2.0 * log_s0)
        scaled = unit * (rows["m2"] + precision * deviation**2)
        return cls(n, phi, x, deviation, precision, unit, scaled)

    @property
    def slopes(self) -> dict[int, Array]:
        """∂w/∂ each coordinate but x."""
        pull = self.unit * self.precision * self.deviation
        return {
            MU: -2.0 * pull,
            PHI: -pull * self.precision * self.deviation,
            LOG_S0: -2.0 * self.scaled,
        }

    @property
    def curvatures(self) -> dict[tuple[int, int], Array]:
        """∂²w/∂ each pair of coordinates but x."""
        slopes, v = self.slopes, self.precision
        return {
            (MU, MU): 2.0 * self.unit * v,
            (MU, PHI): -v * slopes[MU],
            (MU, LOG_S0): -2.0 * slopes[MU],
            (PHI, PHI): -2.0 * v * slopes[PHI],
            (PHI, LOG_S0): -2.0 * slopes[PHI],
            (LOG_S0, LOG_S0): 4.0 * self.scaled,
        }


def log_likelihood(sketch: VarianceSketch, points: Array) -> Array:
    """Log density of all values of one pool at many points (S, 4), (S,), without derivatives.

    The value at a point does not depend on the other points.
    """
    rows = sketch.rows
    terms = _Terms.of(rows, points.T[:, :, None])
    u = terms.x * terms.scaled
    log_u = np.log1p(u)
    ratio = np.divide(log_u, u, out=np.ones_like(u), where=u > 0)
    tails = np.sum(rows["stores"] * _tails(terms, ratio, log_u), axis=1)
    x, log_s0 = points[:, X], points[:, LOG_S0]
    gammas = sketch.even.values(np.ones_like(x), 2.0 * x) + sketch.odd.values(1.0 + x, 2.0 * x)
    half = np.sum(sketch.odd.counts["count"]) * _half_step(x)[0]
    per_value = 0.5 * LOG_2PI + log_s0
    return np.asarray(gammas + half - 0.5 * tails - sketch.n_values[0] * per_value)


def log_marginal(sketch: VarianceSketch, coordinates: Array) -> Derivatives:
    """Log density of all values in (μ, φ, x, log s₀), −½ log 2π per value included.

    Returns
    -------
    Value (G,), gradient (G, 4), Hessian (G, 4, 4).
    """
    rows = sketch.rows
    terms = _Terms.of(rows, coordinates[rows.pool].T)
    n, v, w, x = terms.n, terms.precision, terms.scaled, terms.x
    ratio, ratio_u, ratio_u_u = log1p_ratio(x * w)
    # −½ [w ℓ(xw) + n log(1 + xw)] as a function of w and x.
    inverse = 1.0 / (1.0 + x * w)
    by_w, by_w_w = -0.5 * (1.0 + n * x) * inverse, 0.5 * x * (1.0 + n * x) * inverse**2
    by_x, by_x_w = -0.5 * w * (w * ratio_u + n * inverse), -0.5 * (n - w) * inverse**2
    by_x_x = -0.5 * w**2 * (w * ratio_u_u - n * inverse**2)
    first, second = terms.slopes, terms.curvatures

    total = partial(_total, rows)
    gammas, gammas_x, gammas_x_x = _log_gammas(sketch, coordinates[:, X])
    gradient = np.zeros((rows.n_pools, 4))
    hessian = np.zeros((rows.n_pools, 4, 4))
    gradient[:, X] = total(by_x) + gammas_x
    hessian[:, X, X] = total(by_x_x) + gammas_x_x
    for i, w_i in first.items():
        gradient[:, i] = total(by_w * w_i)
        hessian[:, i, X] = hessian[:, X, i] = total(by_x_w * w_i)
    for (i, j), w_i_j in second.items():
        mixed = total(by_w_w * first[i] * first[j] + by_w * w_i_j)
        hessian[:, i, j] = hessian[:, j, i] = mixed
    gradient[:, PHI] -= total(0.5 * v)
    hessian[:, PHI, PHI] += total(0.5 * v**2)
    gradient[:, LOG_S0] -= total(n)
    tails = total(_tails(terms, ratio, np.log1p(x * w)))
    per_value = 0.5 * LOG_2PI + coordinates[:, LOG_S0]
    value = gammas - 0.5 * tails - sketch.n_values * per_value
    return value, gradient, hessian


def _total(rows: Rows, values: Array) -> Array:
    """Sum over the stores of each pool, (G,)."""
    return rows.sum(rows["stores"] * values)


def _tails(terms: _Terms, ratio: Array, log_u: Array) -> Array:
    """(d₀ + n) log(1 + xw) + log(1 + nφ) with ratio = ℓ(xw) and log_u = log(1 + xw)."""
    return np.asarray(terms.scaled * ratio + terms.n * log_u + np.log1p(terms.n * terms.phi))


def _log_gammas(sketch: VarianceSketch, x: Array) -> tuple[Array, Array, Array]:
    """Σ g(x; n) over the stores of each pool and its first two derivatives, (G,) each."""
    even, odd = sketch.even, sketch.odd
    # Even n, and n that is not whole: steps from a, R(1, 2x; n/2). Odd n: the half step, then
    # R(1 + x, 2x; (n − 1)/2).
    whole, after = even(np.ones_like(x), 2.0 * x), odd(1.0 + x, 2.0 * x)
    stores = odd.counts.sum(odd.counts["count"])
    half, half_x, half_x_x = _half_step(x)
    return (
        whole.value + after.value + stores * half,
        2.0 * whole.d_phi + after.d_a + 2.0 * after.d_phi + stores * half_x,
        4.0 * (whole.d_phi_phi + after.d_a_phi + after.d_phi_phi) + after.d_a_a + stores * half_x_x,
    )


def _half_step(x: Array) -> tuple[Array, Array, Array]:
    """Evaluate log Γ(a + ½) − log Γ(a) − ½ log a at a = 1/(2x), and two derivatives in x."""
    small = x < _SERIES_UP_TO
    a = 0.5 / np.where(small, 1.0, x)
    value = special.gammaln(a + 0.5) - special.gammaln(a) - 0.5 * np.log(a)
    by_a = special.digamma(a + 0.5) - special.digamma(a) - 0.5 / a
    by_a_a = special.polygamma(1, a + 0.5) - special.polygamma(1, a) + 0.5 / a**2
    # da/dx = −2a², d²a/dx² = 8a³.
    closed = value, -2.0 * a**2 * by_a, 4.0 * a**4 * by_a_a + 8.0 * a**3 * by_a
    series = (polyval(x, polyder(_HALF_STEP_SERIES, order)) for order in range(3))
    found = (np.where(small, s, c) for s, c in zip(series, closed, strict=True))
    value, slope, curvature = found
    return value, slope, curvature
