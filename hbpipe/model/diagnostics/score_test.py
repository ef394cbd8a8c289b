"""Is the mean of some functions of the stores zero? A test that knows what was estimated.

Under the model functions t_j of store j have mean 0. Their sum varies less than the terms do,
because the hyperparameters follow the data; that is taken out with the stores' scores s_j, the
gradients of their log likelihoods (Neyman 1959; Rao 1948), with B = Σ t s′ (Σ s s′)⁻¹:

    S = Σ t − B Σ s,     V = Σ t t′ − B Σ s t′,     S′ V⁻¹ S ~ χ²

The sums are additive over disjoint stores, and S and V over pools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.family import Array, Codes, Family, Statistics
from hbpipe.model.numerics.grouped import float_sums

#: What is left of a function's variance, or of a combination of them, below this share is nothing.
_NOTHING = 0.25


@dataclass(frozen=True)
class ScoreSums:
    """Sums over the stores of G pools, of R functions t and D scores s.

    ``stores`` (G,), ``t`` (G, R), ``tt`` (G, R, R), ``ts`` (G, R, D), ``s`` (G, D), ``ss``
    (G, D, D).
    """

    stores: Array
    t: Array
    tt: Array
    ts: Array
    s: Array
    ss: Array

    @classmethod
    def of(cls, t: Array, s: Array, times: Array, pools: Codes, n_pools: int) -> ScoreSums:
        """Add up functions (J, R) and scores (J, D) of kinds of stores, each so many ``times``."""

        def add(values: Array) -> Array:
            return float_sums(times * values, pools, n_pools)

        def products(left: Array, right: Array) -> Array:
            return np.stack([np.stack([add(a * b) for b in right.T], 1) for a in left.T], 1)

        return cls(
            stores=float_sums(times, pools, n_pools),
            t=np.stack([add(column) for column in t.T], axis=1),
            tt=products(t, t),
            ts=products(t, s),
            s=np.stack([add(column) for column in s.T], axis=1),
            ss=products(s, s),
        )

    @classmethod
    def added(cls, parts: Sequence[ScoreSums]) -> ScoreSums:
        """Add up the sums of disjoint stores, in their order."""
        names = [item.name for item in fields(cls)]
        return cls(**{name: sum(getattr(part, name) for part in parts) for name in names})

    def of_functions(self, chosen: Sequence[int]) -> ScoreSums:
        """Return the sums of some of the functions."""
        rows = np.asarray(chosen)
        return ScoreSums(
            self.stores,
            self.t[:, rows],
            self.tt[:, rows[:, None], rows],
            self.ts[:, rows],
            self.s,
            self.ss,
        )

    def projected(self) -> Projected:
        """Take out what the estimated hyperparameters absorb."""
        b = self.ts @ inverse(self.ss)
        return Projected(
            self.stores[:, None],
            self.t,
            np.einsum("grr->gr", self.tt),
            self.t - np.einsum("grd,gd->gr", b, self.s),
            self.tt - b @ np.swapaxes(self.ts, 1, 2),
        )


@dataclass(frozen=True)
class Projected:
    """Sums of G pools from which the estimated hyperparameters are taken out.

    ``stores`` (G, 1), or (G, R) where functions are about some of the stores, the plain sums ``t``
    (G, R) and those of squares ``squares`` (G, R), ``score`` S (G, R), ``variance`` V (G, R, R).
    """

    stores: Array
    t: Array
    squares: Array
    score: Array
    variance: Array

    def together(self, pools: NDArray[np.bool_]) -> Projected:
        """Return some pools as one."""
        return Projected(
            *(np.sum(getattr(self, f.name)[pools], axis=0, keepdims=True) for f in fields(self))
        )

    def test(self) -> ScoreTest:
        """Test each pool."""
        scale = np.sqrt(np.maximum(self.squares, 1e-300))
        variance = self.variance / scale[:, :, None] / scale[:, None, :]
        variance = 0.5 * (variance + np.swapaxes(variance, 1, 2))
        value, vector = np.linalg.eigh(variance)
        kept = value > _NOTHING
        along = np.einsum("grk,gr->gk", vector, self.score / scale)
        parts = np.where(kept, along**2 / np.where(kept, value, 1.0), 0.0)
        mean = self.t / np.maximum(self.stores, 1.0)
        return ScoreTest(np.sum(parts, axis=1), np.sum(kept, axis=1).astype(np.float64), mean)


@dataclass(frozen=True)
class ScoreTest:
    """The statistic of each pool, about χ² with ``freedom`` under the model, (G,) each.

    ``mean`` (G, R) are the means of the functions over stores.
    """

    statistic: Array
    freedom: Array
    mean: Array

    def critical(self, probability: float) -> Array:
        """Return what chance exceeds with a probability, (G,); ∞ where nothing is tested."""
        some = self.freedom > 0
        limit = special.chdtri(np.where(some, self.freedom, 1.0), probability)
        return np.where(some, limit, np.inf)


def inverse(matrices: Array) -> Array:
    """Inverse (G, D, D) of sums of squares, without directions in which there are none."""
    scale = np.sqrt(np.maximum(np.einsum("gdd->gd", matrices), 1e-300))
    correlation = matrices / scale[:, :, None] / scale[:, None, :]
    found = np.linalg.pinv(correlation, rcond=1e-10, hermitian=True)
    return np.asarray(found / scale[:, :, None] / scale[:, None, :])


def store_scores(
    family: Family, coordinates: Array, held: Array, statistics: Statistics, pools: Codes
) -> Array:
    """Gradient of each store's log likelihood in the coordinates of its pool, (J, D).

    A store is a pool of one. Coordinates that are held, not NaN in ``held`` (G, D), were not
    estimated and have none.
    """
    pools = np.asarray(pools)
    count = len(pools)
    sketch = family.compress(statistics, np.arange(count), count)
    _, gradient, _ = family.log_marginal(sketch, coordinates[pools])
    return np.where(np.isnan(held)[pools], gradient, 0.0)
