"""Whether small and large stores are predicted equally well: coverage by decile of size.

Where the sampling variance is wrong, as it is of counts that vary more than the model says, the
prior's spread makes up for it on average: intervals of small stores are then too wide and those of
large ones too narrow, or the other way round. Deciles are put together from narrow classes of size,
whose sums are additive over disjoint stores; stores of one class stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.diagnostics.score_test import Projected, inverse
from hbpipe.model.family import Array, Codes
from hbpipe.model.numerics.grouped import float_sums

#: The central interval whose coverage is looked at, and its share of stores under the model.
LOW, HIGH = 0.1, 0.9
COVERAGE = HIGH - LOW
DECILES = 10
#: A group of fewer stores tells nothing: small pools have fewer groups than ten.
_FEWEST = 20
#: Classes of size for each doubling: sizes of one class differ by 9 % at most.
_PER_DOUBLING = 8


@dataclass(frozen=True)
class SizeClasses:
    """Sums by pool and class of size, ragged: R rows in order of ``pool`` and ``size_class``.

    ``stores`` (R,), ``missed`` (R,) Σ c with c what of a store is inside the interval less what
    should be, ``scores`` (R, D) Σ c s.
    """

    pool: NDArray[np.int64]
    size_class: NDArray[np.int64]
    stores: Array
    missed: Array
    scores: Array

    @classmethod
    def of(cls, size: Array, inside: Array, s: Array, times: Array, pools: Codes) -> SizeClasses:
        """Add up kinds of stores (J,), each so many ``times``, with scores (J, D)."""
        c = inside - COVERAGE
        classes = np.floor(_PER_DOUBLING * np.log2(size)).astype(np.int64)
        columns = [times, times * c, *(times * c * column for column in s.T)]
        return cls._grouped(np.asarray(pools, np.int64), classes, np.stack(columns, axis=1))

    @classmethod
    def added(cls, parts: Sequence[SizeClasses]) -> SizeClasses:
        """Add up the sums of disjoint stores, in their order."""
        columns = [np.column_stack([part.stores, part.missed, part.scores]) for part in parts]
        return cls._grouped(
            np.concatenate([part.pool for part in parts]),
            np.concatenate([part.size_class for part in parts]),
            np.concatenate(columns),
        )

    @classmethod
    def _grouped(
        cls, pool: NDArray[np.int64], size_class: NDArray[np.int64], columns: Array
    ) -> SizeClasses:
        least = int(np.min(size_class, initial=0))
        span = int(np.max(size_class, initial=0)) - least + 1
        code, row = np.unique(pool * span + (size_class - least), return_inverse=True)
        sums = np.stack([float_sums(column, row, len(code)) for column in columns.T], axis=1)
        return cls(code // span, code % span + least, sums[:, 0], sums[:, 1], sums[:, 2:])

    def groups(self, count: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the quantile group that each row belongs to, of ``count`` (G,) in its pool."""
        total = float_sums(self.stores, self.pool, len(count))[self.pool]
        running = np.cumsum(self.stores)
        before = running - self.stores
        middle = before - before[np.searchsorted(self.pool, self.pool)] + 0.5 * self.stores
        of_pool = count[self.pool]
        return np.minimum(np.floor(of_pool * middle / total), of_pool - 1).astype(np.int64)

    def projected(self, count: NDArray[np.int64], s: Array, ss: Array) -> Projected:
        """Return sums by group without what the estimated hyperparameters absorb.

        The variance of c is bounded: a share of a store with mean p has at most p (1 − p), as it
        has exactly where observations are not discrete (Bhatia and Davis 2000).

        Parameters
        ----------
        count
            (G,) how many groups each pool has, at most ``DECILES``.
        s, ss
            (G, D) and (G, D, D), sums of scores over the stores of each pool.
        """
        pools = len(s)
        code = self.pool * DECILES + self.groups(count)

        def by_group(values: Array) -> Array:
            return float_sums(values, code, pools * DECILES).reshape(pools, DECILES)

        stores, missed = by_group(self.stores), by_group(self.missed)
        squares = COVERAGE * (1.0 - COVERAGE) * stores
        ts = np.stack([by_group(column) for column in self.scores.T], axis=2)
        b = ts @ inverse(ss)
        return Projected(
            stores,
            missed,
            squares,
            missed - np.einsum("grd,gd->gr", b, s),
            squares[:, :, None] * np.eye(DECILES) - b @ np.swapaxes(ts, 1, 2),
        )


def group_counts(stores: Array) -> NDArray[np.int64]:
    """Into how many groups pools of so many stores (G,) are cut."""
    return np.clip(stores // _FEWEST, 1, DECILES).astype(np.int64)
