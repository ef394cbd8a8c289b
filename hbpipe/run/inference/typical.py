"""What a store without data is expected to be like: the new stores that a release describes.

With covariates a new store needs some. Every combination of categories that occurs in a pool is
described, at the medians that the pool's stores of that kind have in numbers and in size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.covariates import SIZE
from hbpipe.data.quantities import Metric
from hbpipe.model.covariates.design import Design, is_known
from hbpipe.model.covariates.ranks import Span
from hbpipe.model.family import Array, Codes
from hbpipe.model.numerics.grouped import Rows
from hbpipe.run.inference.coding import COVARIATES, values_of


@dataclass(frozen=True)
class NewStores:
    """``N`` stores without data: their pools (N,), covariates (N, P) and these in words."""

    pools: Codes
    covariates: Array | None = None
    words: tuple[str, ...] = ()

    @property
    def statistics(self) -> dict[str, Array]:
        """What of the statistics of a store is known without data."""
        return {} if self.covariates is None else {COVARIATES: self.covariates}

    def within(self, span: Span) -> NewStores:
        """Leave out kinds of which no store of the pool has data: nothing is known of them."""
        if self.covariates is None:
            return self
        kept = np.flatnonzero(span.reaches(self.covariates, self.pools))
        words = tuple(self.words[row] for row in kept)
        return NewStores(self.pools[kept], self.covariates[kept], words)


@dataclass(frozen=True)
class Coded:
    """The covariates of a metric: how they are coded, and the new stores to describe."""

    design: Design
    new_stores: NewStores


def describe_new_stores(
    metric: Metric, design: Design, listed: pa.Table | None, codes: Codes, sizes: Rows
) -> NewStores:
    """Describe new stores of each pool.

    Parameters
    ----------
    listed
        The table of stores; ``codes`` (R,) is the pool of each, -1 where it is none of the pools.
    sizes
        The sizes of all units with data by pool, as
        :func:`hbpipe.run.inference.coding.count_sizes` gives them.
    """
    medians = _median_sizes(sizes)
    if listed is None:
        pools = np.flatnonzero(medians > 0)
        return _new_stores(design, pools, {SIZE: medians[pools]})
    values = values_of(metric, listed, medians[codes])
    usable = np.flatnonzero(is_known(design.matrix(values)) & (codes >= 0))
    kinds = [name for name, column in values.items() if column.dtype == object]
    members: dict[tuple[Any, ...], list[int]] = {}
    for row in usable.tolist():
        members.setdefault((int(codes[row]), *(values[k][row] for k in kinds)), []).append(row)
    ordered = sorted(members)
    chosen = {
        name: np.array([_typical(column[members[key]]) for key in ordered], column.dtype)
        for name, column in values.items()
    }
    return _new_stores(design, np.array([key[0] for key in ordered], np.int64), chosen)


def _typical(values: NDArray[Any]) -> Any:
    """Return the category that all share, or the lower median: a number that occurs."""
    if values.dtype == object:
        return values[0]
    return np.sort(values)[(len(values) - 1) // 2]


def _median_sizes(sizes: Rows) -> Array:
    """Return the lower median size of the units of each pool, (G,); 0 where none has data."""
    count, found = sizes["count"], np.zeros(sizes.n_pools)
    total = np.bincount(sizes.pool, count, sizes.n_pools).astype(np.int64)
    middle = np.cumsum(total) - total + (total + 1) // 2
    some = total > 0
    # Rows are sorted by pool and, within a pool, by size.
    found[some] = sizes["value"][np.searchsorted(np.cumsum(count), middle[some])]
    return found


def _new_stores(design: Design, pools: Codes, values: dict[str, NDArray[Any]]) -> NewStores:
    words = tuple(
        ", ".join(f"{name}={_word(column[k])}" for name, column in values.items())
        for k in range(len(pools))
    )
    if not len(pools):
        return NewStores(pools, np.empty((0, len(design.labels))), ())
    return NewStores(pools, design.matrix(values), words)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.6g}"
