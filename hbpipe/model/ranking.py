"""Ranks of stores within their pool, with the uncertainty of their posteriors.

A rank of posterior means says nothing of how sure it is, and puts the smallest and the most
shrunken stores in the middle. Here θ_j is compared with F, the average of the posterior cdfs of
its pool (Lin, Louis, Paddock and Ridgeway 2006; Henderson and Newton 2016), in one pass over the
pool's stores, no pairs of them:
:mod:`hbpipe.model.rank.columns` has the formulas.

Posteriors of large pools whose hyperparameters are as good as known are put on a lattice of laws
(:mod:`hbpipe.model.rank.lattice`), so that a million stores cost what some ten thousand do. The
columns of a pool depend on its stores alone, bit for bit, and not on their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Codes, Family, Statistics
from hbpipe.model.integration.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.model.rank.average import Rows
from hbpipe.model.rank.columns import NAMES, rank_many, rank_rows
from hbpipe.model.update.alike import alike
from hbpipe.model.update.laws import StoreLaws, store_laws
from hbpipe.model.update.sampled_update import term_axis

Index = NDArray[np.int64]

#: Different stores of a pool from which on it is put on a lattice: those of one law each, and
#: mixtures, which it takes for the law of their mean and variance.
LARGE, LARGE_MIXED = 2**14, 2**16
#: Rows of small pools that are ranked together.
_BATCH = 2**10


@dataclass(frozen=True)
class RankColumns:
    """Ranks of ``J`` stores in their pools, (J,) or, for stores with terms, (J, T).

    NaN for a store of a pool whose hyperparameters nobody knows.

    Parameters
    ----------
    expected_percentile
        ∫ F dF_j: the share of the pool that the store is expected to have below it, itself and
        stores like it counted half.
    p_top_10, p_bottom_10
        Probability that θ_j is above the 90 %, and below the 10 %, quantile of F.
    r_value
        The share α of the pool from which on the store is on the list of the best α, these being
        the stores with the largest probability of lying in the upper α of F; of a grid of α.
    """

    expected_percentile: Array
    p_top_10: Array
    p_bottom_10: Array
    r_value: Array


def rank_pools(
    family: Family, nodes: AnyNodes, statistics: Statistics, pools: Codes
) -> RankColumns:
    """Rank the stores of whole pools, (J,) with pool numbers (J,).

    Parameters
    ----------
    family
        The family.
    nodes
        Posterior of the hyperparameters of ``G`` pools.
    statistics
        name -> (J, ...) of all stores of each pool that is to be ranked.
    pools
        The pool of each store.

    Raises
    ------
    FitError
        If the family's posteriors are not defined.
    """
    pools = np.asarray(pools)
    terms = term_axis(family, statistics) if isinstance(nodes, SampledNodes) else None
    out = np.full((len(pools), terms or 1, len(NAMES)), np.nan)
    known = np.flatnonzero(nodes.method[pools] != "unidentified")
    if len(known):
        out[known] = _ranked(family, nodes, _take(statistics, known), pools[known])
    columns = out if terms is not None else out[:, 0]
    return RankColumns(*np.moveaxis(columns, -1, 0).copy())


def no_law(method: str) -> FitError:
    """Return the error for intervals, which have no law to rank by."""
    return FitError(
        f"the method {method} gives intervals and no posterior",
        expected="posteriors, to rank stores by",
        remedy="take the posterior with uncertainty='auto'",
    )


def _ranked(family: Family, nodes: AnyNodes, statistics: Statistics, pools: Codes) -> Array:
    """Rank stores of pools with known hyperparameters, (J, T, 4)."""
    laws = store_laws(family, nodes, statistics)
    same = alike(statistics, pools)
    if same is None:
        return _of_kinds(laws, statistics, pools, np.ones(len(pools)))
    stores, kind = same
    count = np.bincount(kind).astype(np.float64)
    return _of_kinds(laws, _take(statistics, stores), pools[stores], count)[kind]


def _of_kinds(laws: StoreLaws, statistics: Statistics, pools: Codes, count: Array) -> Array:
    """Rank stores that stand for ``count`` (J,) equal ones each, (J, T, 4)."""
    components, out = laws.components(), None
    for members, pool in _batches(pools):
        limit = LARGE if len(pool) == 1 and components[pool[0]] == 1 else LARGE_MIXED
        if len(pool) == 1 and len(members) > limit:
            of_terms = laws.matched(_take(statistics, members), pools[members])
            found = [rank_many(law, own, count[members]) for law, own in of_terms]
        else:
            members = _in_order(statistics, pools, members)
            number = np.searchsorted(pool, pools[members])
            mixtures = laws.mixtures(_take(statistics, members), pools[members])
            found = [rank_rows(Rows.of(each, number, count[members])) for each in mixtures]
        if out is None:
            out = np.empty((len(pools), len(found), len(NAMES)))
        out[members] = np.stack(found, axis=1)
    return np.asarray(out)


def _batches(pools: Codes) -> Iterator[tuple[Index, Index]]:
    """Yield the stores of some pools, a few small ones or a large one, and which these are."""
    order = np.argsort(pools, kind="stable")
    present, begins = np.unique(pools[order], return_index=True)
    ends = np.append(begins[1:], len(order))
    first = 0
    for last in range(len(present)):
        full = ends[last] - begins[first] >= _BATCH
        if last + 1 == len(present) or full or ends[last + 1] - begins[last + 1] >= _BATCH:
            yield order[begins[first] : ends[last]], np.asarray(present[first : last + 1])
            first = last + 1


def _in_order(statistics: Statistics, pools: Codes, members: Index) -> Index:
    """Sort stores by what is known of them: rounding then does not show how they came."""
    keys = [
        np.asarray(values)[members].reshape(len(members), -1).T for values in statistics.values()
    ]
    return members[np.lexsort((*np.concatenate(keys), pools[members]))]


def _take(statistics: Statistics, rows: Index) -> dict[str, NDArray[np.generic]]:
    return {name: np.asarray(values)[rows] for name, values in statistics.items()}
