"""What the likelihood of stores under a mixture of priors depends on: their distinct data.

Under one conjugate law the distinct values of each statistic suffice, apart from each other.
A sum over components inside the logarithm needs them together: one row for each distinct store.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from hbpipe.model.covariates.sketch import has_data
from hbpipe.model.family import Array, Codes, Family, Statistics
from hbpipe.model.marginal.row_sketch import RowSketch
from hbpipe.model.numerics.grouped import Rows, distinct, stack


@dataclass(frozen=True)
class MixtureSketch(RowSketch):
    """Distinct stores of ``G`` pools; lossless.

    Parameters
    ----------
    base
        The family of the components.
    rows
        The statistics of each distinct store, and how many ``stores`` it stands for, (R,) each;
        sorted by pool and statistics.
    """

    stores: ClassVar[str] = "stores"

    base: Family

    @property
    def statistics(self) -> dict[str, Any]:
        """Those of the distinct stores, (R,) each."""
        return {item.name: self.rows[item.name] for item in self.base.statistics}

    @cached_property
    def parts(self) -> Any:
        """The base family's sketch of each distinct store as a pool of its own."""
        return self.base.compress(self.statistics, np.arange(len(self.rows)), len(self.rows))

    @cached_property
    def whole(self) -> Any:
        """The base family's sketch of the pools, as if their prior were a single law."""
        rows = np.repeat(np.arange(len(self.rows)), self.rows["stores"].astype(np.int64))
        every = {name: values[rows] for name, values in self.statistics.items()}
        return self.base.compress(every, self.rows.pool[rows], self.n_pools)

    @cached_property
    def log_base_measure(self) -> Array:
        """The part of each distinct store's log marginal that no prior changes, (R,)."""
        return self.base.log_base_measure(self.statistics, {})

    def select(self, pools: Codes) -> MixtureSketch:
        """Return the sketch of some pools, with the parts and the whole if they are known."""
        numbered = {**self.rows.columns, "row": np.arange(len(self.rows))}
        rows = Rows(self.n_pools, self.rows.pool, numbered).select(pools)
        columns = dict(rows.columns)
        source = columns.pop("row")
        cut = MixtureSketch(Rows(rows.n_pools, rows.pool, columns), self.base)
        if "parts" in vars(self):
            vars(cut)["parts"] = self.parts.select(source)
        if "whole" in vars(self):
            vars(cut)["whole"] = self.whole.select(pools)
        return cut


def compress(base: Family, statistics: Statistics, pools: Codes, n_pools: int) -> MixtureSketch:
    """Count distinct stores; those without data drop out."""
    own = {item.name: np.asarray(statistics[item.name]) for item in base.statistics}
    seen = has_data(base, own)
    columns = {name: values[seen] for name, values in own.items()}
    return _counted(base, np.asarray(pools)[seen], columns, np.ones(int(seen.sum())), n_pools)


def merge(base: Family, sketches: Sequence[MixtureSketch]) -> MixtureSketch:
    """Add up sketches of disjoint stores."""
    pool, columns = stack([sketch.rows for sketch in sketches])
    stores = columns.pop("stores")
    return _counted(base, pool, columns, stores, sketches[0].n_pools)


def _counted(
    base: Family, pools: Codes, columns: dict[str, Any], stores: Array, n_pools: int
) -> MixtureSketch:
    # Not lossy where −0 becomes 0, and equal stores then agree to the last bit.
    keys = [values + 0 for values in columns.values()]
    pool, row = distinct(pools, keys, n_pools)
    found = {}
    for name, key in zip(columns, keys, strict=True):
        found[name] = np.empty(len(pool), key.dtype)
        found[name][row] = key
    found["stores"] = np.bincount(row, stores, len(pool))
    return MixtureSketch(Rows(n_pools, pool, found), base)
