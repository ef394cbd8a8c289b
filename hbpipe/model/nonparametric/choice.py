"""Whether a pool gets a nonparametric prior or a single law: by its log score out of sample.

Ten folds of the stores are left out in turn; the score is the mean log probability of the stores
left out (Geisser and Eddy 1979, *JASA* 74). A store's fold is its place among the pool's stores,
sorted by their data, modulo ten: each fold is like the whole, and the same however stores came. A
pool takes the grid where it predicts the stores better by a factor of e, all of them together;
elsewhere a single law, whose two parameters a reader understands, does as well.
"""

from __future__ import annotations

import numpy as np

from hbpipe.model.family import Array, Family
from hbpipe.model.fit import fit_pools
from hbpipe.model.mixtures.evidence import log_evidence
from hbpipe.model.nonparametric.pool import GridPool

#: Parts of a pool that are left out in turn.
FOLDS = 10
#: Pools of fewer stores have a single law: they do not tell of its shape.
LEAST_STORES = 20
#: Log probability of all stores that the grid must gain to be taken.
MARGIN = 1.0


def scores(family: Family, pool: GridPool, best: Array, base: Array) -> tuple[float, float]:
    """Mean log score of stores left out, under a single law and under weights of the components.

    Parameters
    ----------
    family
        That of the single law.
    pool
        The stores, at least ``LEAST_STORES``.
    best
        (K,) the weights for all stores.
    base
        (R,) log base measure of the distinct stores.
    """
    left_out = folds(pool.counts)
    kept = pool.counts - left_out
    stores = pool.counts.sum()
    single = np.sum(left_out * (_single(family, pool, kept) + base)) / stores
    weights = pool.maximise_near(best, kept)
    grid = [
        np.sum(out * (pool.log_likelihoods(weight) + base))
        for out, weight in zip(left_out, weights, strict=True)
    ]
    return float(single), float(np.sum(grid) / stores)


def folds(counts: Array) -> Array:
    """How many of each kind of store are in each fold, (FOLDS, R)."""
    ends = np.cumsum(counts)
    numbers = np.arange(FOLDS)[:, None]

    def before(place: Array) -> Array:
        """Count the places before this one that are in each fold."""
        return np.ceil((place - numbers) / FOLDS)

    return np.asarray(before(ends) - before(ends - counts))


def _single(family: Family, pool: GridPool, kept: Array) -> Array:
    """Log evidence of the distinct stores under the single law fitted to each fold, (FOLDS, R)."""
    fold, row = np.nonzero(kept)
    every = np.repeat(np.arange(len(fold)), kept[fold, row].astype(np.int64))
    statistics = {name: np.asarray(v)[row[every]] for name, v in pool.statistics.items()}
    fits = fit_pools(family, family.compress(statistics, fold[every], FOLDS))
    law = family.prior({name: v[:, None] for name, v in fits.hyperparameters.items()})
    return log_evidence(family, {n: np.asarray(v)[None] for n, v in pool.statistics.items()}, law)
