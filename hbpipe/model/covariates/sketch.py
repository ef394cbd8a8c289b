"""What the likelihood of stores with covariates depends on: sub-pools of equal covariates.

Stores of one pool with the same row x share their prior. They are a pool of the base family, a
*sub-pool*; its sketch is the base family's. Distinct rows are few where attributes are
categories, and as many as stores where one of them is continuous.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.covariates.units import Units
from hbpipe.model.family import Array, Codes, Family, Statistics
from hbpipe.model.numerics.grouped import Rows, group


@dataclass(frozen=True)
class CovariateSketch:
    """Sub-pools of ``G`` pools; lossless.

    Parameters
    ----------
    rows
        One row for each of ``U`` sub-pools, sorted by pool: its covariates ``x`` (U, P), in the
        user's units ``given`` (U, P), and the number of its ``stores`` with data (U,).
    parts
        The base family's sketch of the sub-pools and, at the end, of one without stores. With
        that one, ``select`` alone can renumber sub-pools, and so merge sketches of shards.
    whole
        The base family's sketch of the pools, as if there were no covariates.
    """

    rows: Rows
    parts: Any
    whole: Any

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return self.rows.n_pools

    @property
    def n_rows(self) -> int:
        """Rows of all tables that the likelihood looks at."""
        return int(self.parts.n_rows) + len(self.rows)

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with data in each pool, (G,)."""
        return np.asarray(self.whole.n_groups)

    @property
    def x(self) -> Array:
        """Covariates of the sub-pools, (U, P)."""
        return np.asarray(self.rows["x"])

    def select(self, pools: Codes) -> Self:
        """Return the sketch of some pools."""
        numbered = Rows(
            self.n_pools, self.rows.pool, {**self.rows.columns, "part": np.arange(len(self.rows))}
        ).select(pools)
        columns = dict(numbered.columns)
        part = np.append(columns.pop("part"), len(self.rows))
        return replace(
            self,
            rows=Rows(numbered.n_pools, numbered.pool, columns),
            parts=self.parts.select(part),
            whole=self.whole.select(pools),
        )

    def in_units(self, units: Units) -> StandardSketch:
        """Return the same data with covariates in other units."""
        columns = {**self.rows.columns, "x": units.apply(self.rows)}
        rows = Rows(self.n_pools, self.rows.pool, columns)
        return StandardSketch(rows, self.parts, self.whole, units)


@dataclass(frozen=True)
class StandardSketch(CovariateSketch):
    """Sub-pools whose covariates ``x`` are in standard units: x = given @ units.matrix."""

    units: Units

    def select(self, pools: Codes) -> Self:
        """Return the sketch of some pools."""
        return replace(super().select(pools), units=self.units.select(pools))


def compress(base: Family, statistics: Statistics, pools: Codes, n_pools: int) -> CovariateSketch:
    """Group stores of equal covariates; stores without data drop out.

    ``statistics`` are those of the base family and ``covariates`` (J, P).
    """
    own = {item.name: np.asarray(statistics[item.name]) for item in base.statistics}
    pools = np.asarray(pools)
    seen = has_data(base, own)
    own = {name: values[seen] for name, values in own.items()}
    x, part = distinct(pools[seen], np.asarray(statistics["covariates"], np.float64)[seen])
    pool = _first(part, pools[seen], len(x))
    parts = base.compress(own, part, len(x) + 1)
    columns = {"x": x, "given": x, "stores": np.asarray(parts.n_groups[:-1], np.float64)}
    return CovariateSketch(
        Rows(n_pools, pool, columns), parts, base.compress(own, pools[seen], n_pools)
    )


def has_data(base: Family, statistics: Statistics) -> NDArray[np.bool_]:
    """Whether a store has data, (J,)."""
    assert base.geometry is not None
    return np.asarray(base.geometry.sizes(statistics)[0] > 0)


def merge(base: Family, sketches: Sequence[CovariateSketch]) -> CovariateSketch:
    """Add up sketches of disjoint stores, in the user's units."""
    pools = np.concatenate([sketch.rows.pool for sketch in sketches])
    x, part = distinct(pools, np.concatenate([sketch.x for sketch in sketches]))
    renumbered, first = [], 0
    for sketch in sketches:
        source = np.full(len(x) + 1, len(sketch.rows))
        source[part[first : first + len(sketch.rows)]] = np.arange(len(sketch.rows))
        renumbered.append(sketch.parts.select(source))
        first += len(sketch.rows)
    parts = base.merge_sketches(renumbered)
    columns = {"x": x, "given": x, "stores": np.asarray(parts.n_groups[:-1], np.float64)}
    return CovariateSketch(
        Rows(sketches[0].n_pools, _first(part, pools, len(x)), columns),
        parts,
        base.merge_sketches([sketch.whole for sketch in sketches]),
    )


def distinct(pools: Codes, x: Array) -> tuple[Array, NDArray[np.int64]]:
    """Find the distinct rows of covariates within each pool.

    Returns
    -------
    The rows (U, P), sorted by pool and then column by column, and (J,) the row of each store.
    """
    x = x + 0.0  # −0 and 0 are equal, and must not differ in the bits they lead to
    count = int(pools.max(initial=-1)) + 1
    rows, part = group(pools, np.zeros(len(pools)), count)
    for column in x.T:
        rows, part = group(part, column, len(rows))
    return _first(part, x, len(rows)), part


def _first(part: NDArray[np.int64], values: NDArray[Any], n_parts: int) -> NDArray[Any]:
    """Return the value that all stores of a part share."""
    found = np.empty((n_parts, *values.shape[1:]), values.dtype)
    found[part] = values
    return found
