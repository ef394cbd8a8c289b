"""Rising factorials R(a, φ; m) = Σ_{k<m} log(a + kφ), summed over many m, with derivatives.

R replaces differences of log-gamma functions in Beta-Binomial and Gamma-Poisson likelihoods
(Griffiths 1973, *Biometrics* 29). It is smooth at φ = 0, where it is m log a, so "no
overdispersion" is an ordinary point; differences of log-gammas lose all digits there.

The first ``EXACT_TERMS`` terms are summed as they stand: Σ over stores is Σ_k S_k log(a + kφ) with
the tail counts S_k = #{m > k}. The rest of a larger m is, with c = a + Kφ, w = φ/c and L = m − K,

    L log c + p(w; L),   p(w; L) = Σ_{j<L} log(1 + jw),

and p by the Euler-Maclaurin formula (Abramowitz and Stegun 1964, 23.1.30). Its corrections fall
like w^(2r−1) ≤ K^(1−2r), because w ≤ 1/K: with K = 32 the four used leave less than 1e-16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.polynomial.polynomial import polyder, polyval
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes
from hbpipe.model.grouped import Rows, count_values, merge_counts

#: Terms summed one by one. Few enough that thousands of small pools stay small tables; enough
#: for the corrections to converge.
EXACT_TERMS = 32
#: B_2r / (2r (2r − 1)), the coefficients s_r of Stirling's series Σ s_r x^(2r−1), and those of
#: its two derivatives; powers of x².
_STIRLING = np.array([1 / 12, -1 / 360, 1 / 1260, -1 / 1680])
_STIRLING_SLOPE = _STIRLING * [1, 3, 5, 7]
_STIRLING_CURVATURE = _STIRLING[1:] * [6, 20, 42]
#: Below this argument, closed forms cancel and the power series is used.
_SMALL = 0.1
_INDEX = np.arange(1, 19)
#: Coefficients of log1p_integral and log1p_ratio in powers of u.
_INTEGRAL_SERIES = np.concatenate([[0.0], (-1.0) ** (_INDEX - 1) / (_INDEX * (_INDEX + 1))])
_RATIO_SERIES = np.concatenate([[1.0], (-1.0) ** _INDEX / (_INDEX + 1)])


@dataclass(frozen=True)
class RisingSums:
    """Σ R over the stores of each pool, and its derivatives in (a, φ), (G,) each."""

    value: Array
    d_a: Array
    d_phi: Array
    d_a_a: Array
    d_a_phi: Array
    d_phi_phi: Array


@dataclass(frozen=True)
class RisingCounts:
    """The values m of all stores, by pool, as distinct values with counts.

    Parameters
    ----------
    counts
        Rows with ``value`` and ``count``, from :func:`count_values`.
    """

    counts: Rows

    @classmethod
    def of(cls, pool: Codes, values: NDArray[np.int64], n_pools: int) -> RisingCounts:
        """Count the values (J,) of stores in pools (J,)."""
        return cls(count_values(pool, values, n_pools))

    @classmethod
    def merged(cls, parts: Sequence[RisingCounts]) -> RisingCounts:
        """Add up the counts of disjoint stores."""
        return cls(merge_counts([part.counts for part in parts]))

    def select(self, pools: Codes) -> RisingCounts:
        """Return the counts of some pools."""
        return RisingCounts(self.counts.select(pools))

    @property
    def n_rows(self) -> int:
        """The number of distinct values, over all pools."""
        return len(self.counts)

    def total(self) -> Array:
        """Σ m by pool, (G,)."""
        return self.counts.sum(self.counts["count"] * self.counts["value"].astype(np.float64))

    @cached_property
    def tails(self) -> Rows:
        """Tail counts: rows ``k`` and ``stores`` = #{m > k}, k < EXACT_TERMS, zeros left out."""
        counts = self.counts
        width = EXACT_TERMS + 1
        cell = counts.pool * width + np.minimum(counts["value"], EXACT_TERMS)
        histogram = np.bincount(cell, counts["count"], counts.n_pools * width)
        histogram = histogram.reshape(counts.n_pools, width)
        above = np.cumsum(histogram[:, :0:-1], axis=1)[:, ::-1]
        pool, k = np.nonzero(above)
        columns = {"k": k.astype(np.float64), "stores": above[pool, k]}
        return Rows(counts.n_pools, pool.astype(np.int64), columns)

    @cached_property
    def beyond(self) -> Rows:
        """Rows ``length`` = m − EXACT_TERMS and ``stores`` for the values above EXACT_TERMS."""
        counts = self.counts
        large = counts["value"] > EXACT_TERMS
        columns = {
            "length": counts["value"][large].astype(np.float64) - EXACT_TERMS,
            "stores": counts["count"][large].astype(np.float64),
        }
        return Rows(counts.n_pools, counts.pool[large], columns)

    def __getstate__(self) -> dict[str, Rows]:
        """Pickle the counts alone; the tables derived from them are made again."""
        return {"counts": self.counts}

    def __call__(self, a: Array, phi: Array) -> RisingSums:
        """Evaluate Σ R(a, φ; m) by pool.

        Parameters
        ----------
        a : (G,) positive.
        phi : (G,) zero or positive.
        """
        near = self._near(a, phi)
        if len(self.beyond.pool) == 0:
            return near
        far = self._far(a, phi)
        return RisingSums(*(x + y for x, y in zip(_fields(near), _fields(far), strict=True)))

    def values(self, a: Array, phi: Array) -> Array:
        """Evaluate Σ R(a, φ; m) of the only pool at many points (S,), without derivatives.

        The value at a point does not depend on the other points.
        """
        near, far = self.tails, self.beyond
        out = np.sum(near["stores"] * np.log(a[:, None] + phi[:, None] * near["k"]), axis=1)
        if len(far.pool):
            c = a + EXACT_TERMS * phi
            length = far["length"]
            p, _, _ = log_product((phi / c)[:, None], length)
            out = out + np.sum(far["stores"] * (length * np.log(c)[:, None] + p), axis=1)
        return np.asarray(out)

    def _near(self, a: Array, phi: Array) -> RisingSums:
        rows, k = self.tails, self.tails["k"]
        x = a[rows.pool] + k * phi[rows.pool]
        by_a = rows["stores"] / x
        by_a_a = -by_a / x
        return RisingSums(
            rows.sum(rows["stores"] * np.log(x)),
            rows.sum(by_a),
            rows.sum(by_a * k),
            rows.sum(by_a_a),
            rows.sum(by_a_a * k),
            rows.sum(by_a_a * k**2),
        )

    def _far(self, a: Array, phi: Array) -> RisingSums:
        """Σ [L log c + p(φ/c; L)] with c = a + Kφ, by the chain rule."""
        rows = self.beyond
        c = a + EXACT_TERMS * phi
        w = phi / c
        p, p_w, p_ww = (
            rows.sum(rows["stores"] * part) for part in log_product(w[rows.pool], rows["length"])
        )
        length = rows.sum(rows["stores"] * rows["length"])
        d_c = (length - w * p_w) / c
        d_phi = p_w / c
        d_c_c = (w * (w * p_ww + 2.0 * p_w) - length) / c**2
        d_c_phi = -(w * p_ww + p_w) / c**2
        d_phi_phi = p_ww / c**2
        k = float(EXACT_TERMS)
        return RisingSums(
            length * np.log(c) + p,
            d_c,
            d_phi + k * d_c,
            d_c_c,
            d_c_phi + k * d_c_c,
            d_phi_phi + 2.0 * k * d_c_phi + k**2 * d_c_c,
        )


def _fields(sums: RisingSums) -> tuple[Array, ...]:
    return sums.value, sums.d_a, sums.d_phi, sums.d_a_a, sums.d_a_phi, sums.d_phi_phi


def log_product(w: Array, length: Array) -> tuple[Array, Array, Array]:
    """Evaluate p(w; L) = Σ_{j<L} log(1 + jw) and its first two derivatives in w.

    Euler-Maclaurin: L h(Lw) − ½ log(1 + Lw) + Σ_r s_r w^(2r−1) [(1 + Lw)^(1−2r) − 1], where
    h(u) = (1 + 1/u) log(1 + u) − 1 is the integral and s_r are Stirling's coefficients.

    Parameters
    ----------
    w : (R,) in [0, 1/EXACT_TERMS].
    length : (R,) L, a whole number.
    """
    u = length * w
    h, h_u, h_uu = log1p_integral(u)
    inverse = 1.0 / (1.0 + u)
    half = 0.5 * length * inverse
    p = length * h - 0.5 * np.log1p(u)
    p_w = length**2 * h_u - half
    p_ww = length**3 * h_uu + half * length * inverse
    # With x = w/(1 + u): dx/dw = 1/(1 + u)², d²x/dw² = −2L/(1 + u)³.
    x, x_w, x_ww = w * inverse, inverse**2, -2.0 * length * inverse**3
    s_x, s_w = _stirling(x), _stirling(w)
    p += s_x[0] - s_w[0]
    p_w += s_x[1] * x_w - s_w[1]
    p_ww += s_x[2] * x_w**2 + s_x[1] * x_ww - s_w[2]
    return p, p_w, p_ww


def _stirling(x: Array) -> tuple[Array, Array, Array]:
    """Evaluate Σ s_r x^(2r−1) and its first two derivatives."""
    square = x * x
    return (
        x * polyval(square, _STIRLING),
        polyval(square, _STIRLING_SLOPE),
        x * polyval(square, _STIRLING_CURVATURE),
    )


def log1p_integral(u: Array) -> tuple[Array, Array, Array]:
    """Evaluate h(u) = (1/u) ∫₀ᵘ log(1 + x) dx = (1 + 1/u) log(1 + u) − 1 and two derivatives.

    Series for small u: Σ_{i≥1} (−1)^(i−1) uⁱ / (i (i + 1)).
    """
    small, y = _split(u)
    inverse, log = 1.0 / y, np.log1p(y)
    per = log * inverse
    closed = (
        log + per - 1.0,
        (1.0 - per) * inverse,
        (1.0 / (1.0 + y) + 2.0 * (per - 1.0) * inverse) * inverse,
    )
    return _with_series(closed, _INTEGRAL_SERIES, u, small)


def log1p_ratio(u: Array) -> tuple[Array, Array, Array]:
    """Evaluate ℓ(u) = log(1 + u)/u and two derivatives.

    Series for small u: Σ_{i≥0} (−1)ⁱ uⁱ / (i + 1).
    """
    small, y = _split(u)
    inverse, slope = 1.0 / y, 1.0 / (1.0 + y)
    per = np.log1p(y) * inverse
    closed = (
        per,
        (slope - per) * inverse,
        (2.0 * (per - slope) * inverse - slope**2) * inverse,
    )
    return _with_series(closed, _RATIO_SERIES, u, small)


def _split(u: Array) -> tuple[NDArray[np.bool_], Array]:
    """Where the series holds, and arguments for the closed form that are harmless there."""
    small = u < _SMALL
    return small, np.where(small, 1.0, u)


def _with_series(
    closed: tuple[Array, Array, Array],
    coefficients: Array,
    u: Array,
    small: NDArray[np.bool_],
) -> tuple[Array, Array, Array]:
    """Put a power series and its derivatives in place of the closed forms at small arguments."""
    if small.any():
        for order, values in enumerate(closed):
            values[small] = polyval(u[small], polyder(coefficients, order))
    return closed
