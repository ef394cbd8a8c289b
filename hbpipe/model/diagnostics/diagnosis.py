"""What the checks of one metric's model need of its stores, as sums, and what they find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.diagnostics import outliers, pit
from hbpipe.model.diagnostics.predictive import data_weight, leave_one_out
from hbpipe.model.diagnostics.score_test import Projected, ScoreSums, ScoreTest, store_scores
from hbpipe.model.diagnostics.sizes import DECILES, HIGH, LOW, SizeClasses, group_counts
from hbpipe.model.diagnostics.tails import Tails
from hbpipe.model.family import Array, Codes, Family, Hyperparameters, Statistics
from hbpipe.model.integration.sampled_nodes import AnyNodes
from hbpipe.model.numerics.grouped import float_sums
from hbpipe.model.update.alike import alike

#: Functions that ``tests`` sums: the components of the PIT, then those of spread, skewness and
#: tails, weighted by how much a store's data tell of its θ.
_PIT = tuple(range(pit.DEGREE))
_SHAPE = tuple(range(pit.DEGREE, pit.DEGREE + 3))
#: With fewer stores a pool is not tested: its intervals are wide by design, and χ² is no guide.
FEWEST = 20
#: One clean night in a hundred, for the pools and for the metric as a whole in equal parts.
CHANCE = 0.01


@dataclass(frozen=True)
class PoolPriors:
    """What is known of the hyperparameters of G pools.

    ``nodes`` and the point estimates ``hyperparameters``, name -> (G, ...); the same as
    ``coordinates`` (G, D), and which of these were ``held`` (G, D), NaN where estimated.
    """

    family: Family
    nodes: AnyNodes
    hyperparameters: Hyperparameters
    coordinates: Array
    held: Array

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return len(self.coordinates)


@dataclass(frozen=True)
class DiagnosticSums:
    """Sums over the stores with data of G pools.

    ``tests`` the sums of the score tests, ``heights`` (G, BINS) those of the PIT histogram,
    ``sizes`` those by class of size; ``p``, ``pool`` (N,) p-values of at most the false discovery
    rate, and their pools.
    """

    tests: ScoreSums
    heights: Array
    sizes: SizeClasses
    p: Array
    pool: NDArray[np.int64]

    @classmethod
    def added(cls, parts: Sequence[DiagnosticSums]) -> DiagnosticSums:
        """Add up the sums of disjoint stores, in their order."""
        return cls(
            ScoreSums.added([part.tests for part in parts]),
            np.sum([part.heights for part in parts], axis=0),
            SizeClasses.added([part.sizes for part in parts]),
            np.concatenate([part.p for part in parts]),
            np.concatenate([part.pool for part in parts]),
        )


def _tails(priors: PoolPriors, statistics: Statistics, pools: Codes) -> Tails:
    return leave_one_out(priors.family, priors.nodes, priors.hyperparameters, statistics, pools)


def diagnose_stores(
    priors: PoolPriors, statistics: Statistics, sizes: Array, pools: Codes
) -> tuple[DiagnosticSums, Array]:
    """Add up what the checks need of some stores with data.

    Parameters
    ----------
    priors
        Of all pools.
    statistics, sizes, pools
        name -> (J, ...), the size of each store, above 0, and its pool, (J,).

    Returns
    -------
    The sums, and the two-sided p-values of the stores, (J,).
    """
    same = alike(statistics, pools)
    every = np.arange(len(sizes))
    stores, kind = (every, every) if same is None else same
    times = np.bincount(kind, minlength=len(stores)).astype(np.float64)
    some = {name: np.asarray(values)[stores] for name, values in statistics.items()}
    pools = np.asarray(pools, np.int64)
    own, count = np.asarray(pools[stores], np.int64), priors.n_pools
    tails = _tails(priors, some, own)
    s = store_scores(priors.family, priors.coordinates, priors.held, some, own)
    weight = data_weight(priors.family, priors.hyperparameters, some, own)
    t = pit.components(tails)
    shape = weight[:, None] * t[:, 1:]
    heights = times[:, None] * pit.histogram(tails)
    p = tails.two_sided[kind]
    low = p <= outliers.RATE
    sums = DiagnosticSums(
        ScoreSums.of(np.concatenate([t, shape], axis=1), s, times, own, count),
        np.stack([float_sums(column, own, count) for column in heights.T], axis=1),
        SizeClasses.of(sizes[stores], pit.covered(tails, LOW, HIGH), s, times, own),
        p[low],
        np.asarray(pools[low], np.int64),
    )
    return sums, p


@dataclass(frozen=True)
class PoolTests:
    """A score test of each pool (G,) and of all together.

    ``critical`` (G,) and ``whole_critical`` are what chance exceeds in any pool, or in all
    together, in one night out of two hundred; ∞ in pools that have not ``enough`` stores (G,), or
    whose hyperparameters explain all.
    """

    pools: ScoreTest
    whole: ScoreTest
    critical: Array
    whole_critical: float
    enough: NDArray[np.bool_]

    @classmethod
    def of(cls, sums: Projected, together: Projected, enough: NDArray[np.bool_]) -> PoolTests:
        """Test each pool by its own sums, and as one those of pools with ``enough`` stores (G,)."""
        each, whole = sums.test(), together.together(enough).test()
        level, enough = 0.5 * CHANCE, enough & (each.freedom > 0)
        critical = each.critical(level / max(int(enough.sum()), 1))
        of_whole = float(whole.critical(level)[0])
        return cls(each, whole, np.where(enough, critical, np.inf), of_whole, enough)

    def effect(self, stores: Array) -> Array:
        """Return what is beyond chance as a distance of pools of ``stores`` (G,) from the model."""
        beyond = np.maximum(self.pools.statistic - self.pools.freedom, 0.0)
        return np.sqrt(beyond / np.maximum(stores, 1.0))

    def whole_effect(self, stores: float) -> float:
        """Likewise of all together."""
        beyond = float(self.whole.statistic[0] - self.whole.freedom[0])
        return float(np.sqrt(max(beyond, 0.0) / max(stores, 1.0)))


@dataclass(frozen=True)
class Diagnosis:
    """What the checks found in G pools, of which ``usable`` (G,) have a prior."""

    sums: DiagnosticSums
    usable: NDArray[np.bool_]

    @property
    def stores(self) -> Array:
        """Stores with data, (G,)."""
        return self.sums.tests.stores

    @cached_property
    def heights(self) -> Array:
        """The PIT histograms (G, BINS) as densities: 1 everywhere under the model."""
        return pit.BINS * self.sums.heights / np.maximum(self.stores, 1.0)[:, None]

    def heights_of(self, pools: NDArray[np.bool_]) -> Array:
        """Return that of all stores of some pools, (BINS,)."""
        total = self.sums.heights[pools].sum(axis=0)
        return np.asarray(pit.BINS * total / max(float(total.sum()), 1.0))

    @cached_property
    def enough(self) -> NDArray[np.bool_]:
        """Whether a pool is tested, (G,)."""
        return np.asarray(self.usable & (self.stores >= FEWEST))

    @cached_property
    def pit(self) -> PoolTests:
        """Whether the PIT is uniform."""
        sums = self.sums.tests.of_functions(_PIT).projected()
        return PoolTests.of(sums, sums, self.enough)

    @cached_property
    def shape(self) -> PoolTests:
        """Whether the prior has the shape of its family."""
        sums = self.sums.tests.of_functions(_SHAPE).projected()
        return PoolTests.of(sums, sums, self.enough)

    @cached_property
    def calibration(self) -> PoolTests:
        """Whether stores of all sizes are predicted equally well."""
        several = np.sum(self.by_size.stores > 0, axis=1) > 1
        return PoolTests.of(self.by_size, self.by_decile, self.enough & several)

    @cached_property
    def by_size(self) -> Projected:
        """Coverage by group of size: ten of them where there are stores enough."""
        tests = self.sums.tests
        return self.sums.sizes.projected(group_counts(self.stores), tests.s, tests.ss)

    @cached_property
    def by_decile(self) -> Projected:
        """Coverage by decile of the pool's sizes, however few stores it has."""
        tests = self.sums.tests
        return self.sums.sizes.projected(np.full(len(self.stores), DECILES), tests.s, tests.ss)

    @cached_property
    def outliers(self) -> tuple[Array, NDArray[np.int64]]:
        """The line of each pool, (G,), and how many stores are at or below it."""
        return outliers.outlier_lines(self.sums.p, self.sums.pool, self.stores)
