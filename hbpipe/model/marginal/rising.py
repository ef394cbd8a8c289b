"""Rising factorials R(a, φ; m) = Σ_{k<m} log(a + kφ), summed over many m, with derivatives.

R replaces differences of log-gamma functions in Beta-Binomial and Gamma-Poisson likelihoods
(Griffiths 1973, *Biometrics* 29). It is smooth at φ = 0, where it is m log a, so "no
overdispersion" is an ordinary point; differences of log-gammas lose all digits there.

The first ``EXACT_TERMS`` terms are summed as they stand: Σ over stores is Σ_k S_k log(a + kφ) with
the tail counts S_k = #{m > k}. The rest of a larger m is, with c = a + Kφ, w = φ/c and L = m − K,

    L log c + p(w; L),   p(w; L) = Σ_{j<L} log(1 + jw),

and p by the Euler-Maclaurin formula (``log_product``).

Counts divided by an overdispersion are not whole. There R is m log φ + log Γ(a/φ + m) −
log Γ(a/φ), which the recurrence of Γ turns into the same terms:

    Σ_{k<K} [log(a + kφ) − log(a + (m + k)φ)] + m log c + p(w; m).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.family import Array, Codes
from hbpipe.model.marginal.log_product import (
    beginning_of_sums,
    ending_at,
    ending_of_sums,
    ending_value,
    log_product,
    stirling,
    stirling_value,
)
from hbpipe.model.numerics.grouped import Rows, count_values, merge_counts, sum_in_blocks
from hbpipe.model.numerics.panels import condense

#: Terms summed one by one. Few, because a pool of a single store has as many rows; enough for
#: the corrections to converge.
EXACT_TERMS = 8
#: Rows evaluated together, so that what is computed of them stays in a core's cache.
_BLOCK = 2**13


@dataclass(frozen=True)
class RisingSums:
    """Σ R over the stores of each pool, and its derivatives in (a, φ), (G,) each."""

    value: Array
    d_a: Array
    d_phi: Array
    d_a_a: Array
    d_a_phi: Array
    d_phi_phi: Array


class RisingCounts:
    """The values m of all stores, whole or not, by pool, as distinct values with counts.

    Parameters
    ----------
    counts
        Gives rows with ``value`` and ``count``, from :func:`count_values`; asked once, when they
        are needed, because sums are taken of the tables made of them.
    """

    def __init__(self, counts: Callable[[], Rows]) -> None:
        self._give = counts

    @classmethod
    def of(cls, pool: Codes, values: NDArray[Any], n_pools: int) -> RisingCounts:
        """Count the values (J,) of stores in pools (J,)."""
        counts = count_values(pool, values, n_pools)
        return _counted(counts)

    @classmethod
    def merged(cls, parts: Sequence[RisingCounts]) -> RisingCounts:
        """Add up the counts of disjoint stores."""
        counts = merge_counts([part.counts for part in parts])
        return _counted(counts)

    def select(self, pools: Codes) -> RisingCounts:
        """Return the counts of some pools, and with them the tables that have been made of them."""
        cut = RisingCounts(lambda: self.counts.select(pools))
        for table in ("tails", "beyond", "between"):
            if table in vars(self):
                vars(cut)[table] = vars(self)[table].select(pools)
        return cut

    @cached_property
    def counts(self) -> Rows:
        """Rows with ``value`` and ``count``, sorted by both pool and value; lossless."""
        return self._give()

    @property
    def n_rows(self) -> int:
        """The number of rows that sums are taken over, of all pools."""
        return len(self.tails) + len(self.beyond) + len(self.between)

    def total(self) -> Array:
        """Σ m by pool, (G,)."""
        return self.counts.sum(self.counts["count"] * self.counts["value"].astype(np.float64))

    def total_log_factorial(self) -> Array:
        """Σ log m! by pool, (G,): of distinct values, because a million additions lose digits."""
        value = self.counts["value"].astype(np.float64)
        return self.counts.sum(self.counts["count"] * special.gammaln(value + 1.0))

    def total_m_log_m(self) -> Array:
        """Σ m log m by pool, (G,)."""
        value = self.counts["value"].astype(np.float64)
        return self.counts.sum(self.counts["count"] * special.xlogy(value, value))

    @cached_property
    def whole(self) -> NDArray[np.bool_]:
        """Which rows hold a whole number, (R,)."""
        values = self.counts["value"]
        return np.asarray(values == np.floor(values))

    @cached_property
    def tails(self) -> Rows:
        """Tail counts: rows ``k`` and ``stores`` = #{m > k}, k < EXACT_TERMS, zeros left out."""
        counts, whole = self.counts, self.whole
        width = EXACT_TERMS + 1
        least = np.minimum(counts["value"][whole], EXACT_TERMS).astype(np.int64)
        cell = counts.pool[whole] * width + least
        histogram = np.bincount(cell, counts["count"][whole], counts.n_pools * width)
        histogram = histogram.reshape(counts.n_pools, width)
        above = np.cumsum(histogram[:, :0:-1], axis=1)[:, ::-1]
        pool, k = np.nonzero(above)
        columns = {"k": k.astype(np.float64), "stores": above[pool, k]}
        return Rows(counts.n_pools, pool.astype(np.int64), columns)

    @cached_property
    def beyond(self) -> Rows:
        """Rows ``length`` and ``stores`` of p: m − EXACT_TERMS, or m where m is not whole.

        Where there are many, nodes stand for them (``numerics.panels``).
        """
        counts = self.counts
        used = ~self.whole | (counts["value"] > EXACT_TERMS)
        begun = np.where(self.whole, float(EXACT_TERMS), 0.0)
        columns = {
            "length": (counts["value"] - begun)[used],
            "stores": counts["count"][used].astype(np.float64),
        }
        return condense(Rows(counts.n_pools, counts.pool[used], columns), "length")

    @cached_property
    def _beyond_totals(self) -> tuple[Array, Array]:
        """Stores and Σ L of ``beyond`` by pool, (G,) each."""
        rows = self.beyond
        return rows.sum(rows["stores"]), rows.sum(rows["stores"] * rows["length"])

    @cached_property
    def between(self) -> Rows:
        """Rows ``value`` and ``stores`` of the values that are not whole, or nodes for them."""
        counts = self.counts
        columns = {
            "value": counts["value"][~self.whole],
            "stores": counts["count"][~self.whole].astype(np.float64),
        }
        return condense(Rows(counts.n_pools, counts.pool[~self.whole], columns), "value")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the counts alone; the tables derived from them are made again."""
        return _counted, (self.counts,)

    def __call__(self, a: Array, phi: Array) -> RisingSums:
        """Evaluate Σ R(a, φ; m) by pool.

        Parameters
        ----------
        a : (G,) positive.
        phi : (G,) zero or positive.
        """
        sums = self._near(a, phi)
        if len(self.beyond):
            sums = _added(sums, self._far(a, phi))
        if len(self.between):
            sums = _added(sums, self._shift(a, phi))
        return sums

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
        if len(self.between):
            m, stores = self.between["value"], self.between["stores"]
            for k in range(EXACT_TERMS):
                share = (phi / (a + k * phi))[:, None]
                out = out - np.sum(stores * np.log1p(m * share), axis=1)
        return np.asarray(out)

    def value(self, a: Array, phi: Array) -> Array:
        """Evaluate Σ R(a, φ; m) by pool without derivatives, (G,), at a third of the cost."""
        rows, beyond = self.tails, self.beyond
        total = rows.sum(rows["stores"] * np.log(a[rows.pool] + rows["k"] * phi[rows.pool]))
        if len(beyond):
            (stores, length), c = self._beyond_totals, a + EXACT_TERMS * phi
            (p,) = self._beyond_sums(phi / c, lambda w, m: (ending_value(w, m),))
            total += p + length * np.log(c) - stores * stirling_value(phi / c)
        if len(self.between):
            total += self._shift(a, phi).value
        return total

    def along(self, a: Array, phi: Array) -> tuple[Array, Array, Array]:
        """Evaluate Σ R(a, φ; m) with its two derivatives in ``a``, (G,) each.

        The terms beyond are L log c + Σ log(1 + jw), and Σ 1/(1 + jw)/c and −Σ 1/(1 + jw)²/c².
        """
        rows, beyond = self.tails, self.beyond
        x = a[rows.pool] + rows["k"] * phi[rows.pool]
        slope = rows["stores"] / x
        value, d_a = rows.sum(rows["stores"] * np.log(x)), rows.sum(slope)
        d_a_a = rows.sum(-slope / x)
        if len(beyond):
            (stores, length), c = self._beyond_totals, a + EXACT_TERMS * phi
            ends, begins = self._beyond_sums(phi / c, ending_of_sums), beginning_of_sums(phi / c)
            p, first, second = (x + stores * y for x, y in zip(ends, begins, strict=True))
            value += length * np.log(c) + p
            d_a += first / c
            d_a_a -= second / c**2
        if len(self.between):
            shift = self._shift(a, phi)
            value += shift.value
            d_a += shift.d_a
            d_a_a += shift.d_a_a
        return value, d_a, d_a_a

    def _beyond_sums(
        self, w: Array, ending: Callable[[Array, Array], tuple[Array, ...]]
    ) -> list[Array]:
        """Sum terms of w (G,) and the length over the stores of ``beyond``, (G,) each."""
        rows = self.beyond

        def terms(block: slice) -> list[Array]:
            parts = ending(w[rows.pool[block]], rows["length"][block])
            return [rows["stores"][block] * part for part in parts]

        return sum_in_blocks(rows, terms, _BLOCK)

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
        stores, length = self._beyond_totals
        c = a + EXACT_TERMS * phi
        w = phi / c
        p, p_w, p_ww = (
            summed - stores * begin
            for summed, begin in zip(self._beyond_sums(w, ending_at), stirling(w), strict=True)
        )
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

    def _shift(self, a: Array, phi: Array) -> RisingSums:
        """Σ Σ_{k<K} [log x − log z], x = a + kφ and z = x + mφ, of the values that are not whole.

        One k after the other: a table of all would have EXACT_TERMS times the rows.
        """
        rows, m = self.between, self.between["value"]
        a_of, phi_of = a[rows.pool], phi[rows.pool]
        sums = np.zeros((6, len(rows)))
        for k in range(EXACT_TERMS):
            x, z = 1.0 / (a_of + k * phi_of), 1.0 / (a_of + (m + k) * phi_of)
            # 1/x − 1/z and k/x − (m + k)/z, without the cancellation of small m.
            by_a, by_phi = m * phi_of * x * z, -m * a_of * x * z
            sums[0] -= np.log1p(m * phi_of * x)
            sums[1] += by_a
            sums[2] += by_phi
            sums[3] -= by_a * (x + z)
            sums[4] -= by_phi * z + by_a * k * x
            sums[5] -= by_phi * ((m + k) * z + k * x)
        return RisingSums(*(rows.sum(rows["stores"] * one) for one in sums))


def _counted(counts: Rows) -> RisingCounts:
    return RisingCounts(lambda: counts)


def _added(left: RisingSums, right: RisingSums) -> RisingSums:
    return RisingSums(*(x + y for x, y in zip(_fields(left), _fields(right), strict=True)))


def _fields(sums: RisingSums) -> tuple[Array, ...]:
    return sums.value, sums.d_a, sums.d_phi, sums.d_a_a, sums.d_a_phi, sums.d_phi_phi
