"""The sketch of values x_i ~ N(θ, σ²/w_i) with known weights, from n, W, mean and M2 of each store.

With W = Σ w, the weighted mean x̄ and M2 = Σ w (x − x̄)², the likelihood is that of
``marginal/normal.py`` with W in the place of a store's size in V = σ² + W τ²; its values are still
n, and Σ ½ log w is a constant of the data:

    −½ [N log 2π + Σ (n − 1) log σ² + Σ M2/σ² + Σ log V + Σ W (x̄ − μ)²/V] + ½ Σ log w.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.marginal.given_spread import NormalGivenSpread
from hbpipe.model.marginal.means import mean_rows, merge_mean_rows, regroup_mean_rows
from hbpipe.model.marginal.normal import NormalSketch
from hbpipe.model.numerics.grouped import float_sums


@dataclass(frozen=True)
class WeightedSketch(NormalSketch):
    """Store means by pool and distinct W; lossless.

    ``rows`` has ``size`` (the W of a store), ``n`` (stores), ``mean`` and ``m2`` of their means.
    ``values`` counts the values of all stores and ``constant`` is ½ Σ log w, (G,).
    """

    values: Array
    constant: Array

    @classmethod
    def of(cls, statistics: Statistics, pools: Codes, n_pools: int) -> WeightedSketch:
        """Group stores of equal W; stores without values drop out."""
        columns = {name: np.asarray(values, np.float64) for name, values in statistics.items()}
        seen = columns["precision"] > 0
        pool = np.asarray(pools)[seen]
        sums = (
            float_sums(columns[name][seen], pool, n_pools) for name in ("m2", "n", "log_precision")
        )
        within, values, logs = sums
        rows = mean_rows(pool, columns["precision"][seen], columns["mean"][seen], n_pools)
        return cls(rows, within, values, 0.5 * logs)

    @classmethod
    def merged(cls, sketches: Sequence[NormalSketch]) -> WeightedSketch:
        """Add up sketches of disjoint stores."""
        rows = merge_mean_rows([sketch.rows for sketch in sketches])
        parts = [(one.within, one.n_values, one.log_weights) for one in sketches]
        return cls(rows, *(np.sum(column, axis=0) for column in zip(*parts, strict=True)))

    @property
    def n_values(self) -> Array:
        """Values of all stores in each pool, (G,)."""
        return self.values

    @property
    def log_weights(self) -> Array:
        """Half the log weights of all values, (G,)."""
        return self.constant

    def select(self, pools: Codes) -> WeightedSketch:
        """Return the sketch of some pools."""
        parts = (self.within, self.values, self.constant)
        return WeightedSketch(self.rows.select(pools), *(part[pools] for part in parts))

    def given_spread(self, log_spread: Array) -> NormalGivenSpread:
        """Return the likelihood at given A = τ²/σ²: V = σ² (1 + WA)."""
        found = super().given_spread(log_spread)
        return replace(found, constant=found.constant + self.constant)

    def regroup(self, parents: Codes, n_parents: int) -> WeightedSketch:
        """Return the sketch of larger pools: pool ``g`` is a part of ``parents[g]``."""
        rows = regroup_mean_rows(self.rows, parents, n_parents)
        parts = (self.within, self.values, self.constant)
        return WeightedSketch(rows, *(float_sums(part, parents, n_parents) for part in parts))
