"""Stores of a regression by design: the table that its likelihood sums over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.marginal.factors import factors_of, inverse_of
from hbpipe.model.numerics.cross import fold_cross_moments
from hbpipe.model.numerics.grouped import Rows, distinct, float_sums, integer_sums, stack
from hbpipe.model.numerics.parts import Table, total
from hbpipe.model.numerics.small import rows_first


@dataclass(frozen=True)
class RegressionSketch:
    """Stores by pool and design; lossless.

    Parameters
    ----------
    rows
        One for each distinct R of a pool: ``factor`` (R, P, P), the stores' number ``n``, and
        ``means`` (R, P) and centred ``cross`` products (R, P, P) of their z. Stores that were
        seen at the same predictors share a row; otherwise each has its own. They may lie in
        parts elsewhere.
    within
        Σ RSS of each pool, (G,).
    freedom
        Σ (n − rank X) of each pool, (G,) int64: rows that tell of σ alone.
    together
        ``n``, ``means``, ``cross`` of all rows of a pool as if they were one store, (G, ...).
    """

    rows: Table
    within: Array
    freedom: NDArray[np.int64]
    together: dict[str, NDArray[Any]]

    @classmethod
    def of(cls, statistics: Statistics, pools: Codes, n_pools: int) -> RegressionSketch:
        """Factorise stores and group those of equal design; stores without rows drop out."""
        seen = np.asarray(statistics["n"]) > 0
        stores = {name: np.asarray(values)[seen] for name, values in statistics.items()}
        pool = np.asarray(pools)[seen]
        factors = factors_of(stores)
        columns = {
            "factor": np.ascontiguousarray(np.moveaxis(factors.factor, -1, 0)),
            "n": np.ones(len(pool), np.int64),
            "means": np.ascontiguousarray(factors.response.T),
        }
        columns["cross"] = np.zeros_like(columns["factor"])
        return cls(
            _by_design(pool, columns, n_pools),
            float_sums(factors.residual, pool, n_pools),
            integer_sums(stores["n"] - factors.rank, pool, n_pools),
            fold_cross_moments(stores, pool, n_pools),
        )

    @classmethod
    def merged(cls, sketches: Sequence[RegressionSketch]) -> RegressionSketch:
        """Add up sketches of disjoint stores, whose rows are here."""
        pool, columns = stack([cast(Rows, sketch.rows) for sketch in sketches])
        first = sketches[0]
        totals = {
            name: np.concatenate([sketch.together[name] for sketch in sketches])
            for name in first.together
        }
        pools = np.tile(np.arange(first.n_pools), len(sketches))
        return cls(
            _by_design(pool, columns, first.n_pools),
            np.sum([sketch.within for sketch in sketches], axis=0),
            np.sum([sketch.freedom for sketch in sketches], axis=0),
            fold_cross_moments(totals, pools, first.n_pools),
        )

    @property
    def size(self) -> int:
        """P, the number of coefficients."""
        return int(self.together["means"].shape[1]) - 1

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return self.rows.n_pools

    @property
    def n_rows(self) -> int:
        """Rows of the table of designs."""
        return len(self.rows)

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with at least one row in each pool, (G,)."""
        return total(self.rows.each(_stores)).astype(np.int64)

    @property
    def n_values(self) -> Array:
        """Rows of events of all stores in each pool, (G,)."""
        return np.asarray(self.together["n"], np.float64)

    @cached_property
    def basis(self) -> tuple[Array, Array]:
        """B (G, P, P), and B⁻¹: predictors x'B⁻¹ are orthogonal with mean square 1 over a pool.

        A year, or a timestamp, differs little from a multiple of the constant. Sums over stores
        of coefficients B b keep the digits that those of b would lose; B is upper triangular.
        """
        scale = 1.0 / np.sqrt(np.maximum(self.n_values, 1.0))
        basis = factors_of(self.together).regular * scale
        return rows_first(basis), rows_first(inverse_of(basis))

    def select(self, pools: Codes) -> RegressionSketch:
        """Return the sketch of some pools."""
        return RegressionSketch(
            self.rows.select(pools),
            self.within[pools],
            self.freedom[pools],
            {name: values[pools] for name, values in self.together.items()},
        )


def _stores(rows: Rows) -> Array:
    return rows.sum(rows["n"])


def _by_design(pool: Codes, columns: dict[str, NDArray[Any]], n_pools: int) -> Rows:
    """Merge rows of a pool with the same R: their z are sums over the same rows of X."""
    size = columns["means"].shape[1]
    # The last elements first: with a continuous predictor they already differ everywhere.
    keys = [columns["factor"][:, i, k] for i in reversed(range(size)) for k in range(i, size)]
    pools, inverse = distinct(pool, keys, n_pools)
    factor = np.zeros((len(pools), size, size))
    factor[inverse] = columns["factor"]
    merged = fold_cross_moments(columns, inverse, len(pools))
    return Rows(n_pools, pools, {"factor": factor, **merged})
