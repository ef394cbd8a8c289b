"""On which side of their prior mean stores lie, the prior mean being uncertain itself.

The local false sign rate of θ − m is the smaller one of P(θ ≥ m) and P(θ ≤ m) (Stephens 2017).
Stores of a pool share m, so θ and m are looked at together: P(θ ≤ m) is that of each node of the
hyperparameters, averaged over the nodes. Without any spread θ is m, and its sign is as good as a
coin's: the rate is 1/2, as in the limit of little spread.

Nobody acts on the fourth digit of a rate: it is within 2e-4, by cdfs from normal scores and the
nodes that limits take.
"""

from __future__ import annotations

import numpy as np

from hbpipe.model.distributions.normal_score import quick_cdf
from hbpipe.model.family import Array, Codes, Family, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.model.integration.sampling import store_update
from hbpipe.model.update.alike import alike
from hbpipe.model.update.deviation import deviation
from hbpipe.model.update.sampled_stores import StorePosterior
from hbpipe.model.update.sampled_update import (
    blocks_of_pools,
    n_terms,
    numbers_of_a_row,
    term_axis,
)
from hbpipe.model.update.shrink import mixture_table

#: Numbers that one array of a block may hold: half a megabyte, which a core's cache does.
_BLOCK = 2**16


def false_sign_rates(
    family: Family, nodes: AnyNodes, statistics: Statistics, pools: Codes
) -> Array:
    """Return the local false sign rate of θ less its prior mean.

    Parameters
    ----------
    family
        The family.
    nodes
        Posterior of the hyperparameters of ``G`` pools.
    statistics
        name -> (J, ...); with ``covariates`` (J, P) where the family has them.
    pools
        (J,) the pool of each store.

    Returns
    -------
    (J,); (J, T) for stores with ``T`` > 1 terms, each of which has a prior mean of its own.
    """
    pools = np.asarray(pools)
    if isinstance(nodes, SampledNodes):
        below = _below_sampled(family, nodes, statistics, pools)
        return np.asarray(np.minimum(below, 1.0 - below))
    same = alike(statistics, pools)
    if same is not None:
        stores, kind = same
        some = {name: np.asarray(values)[stores] for name, values in statistics.items()}
        return _rates(family, nodes, some, pools[stores])[kind]
    return _rates(family, nodes, statistics, pools)


def _rates(family: Family, nodes: AnyNodes, statistics: Statistics, pools: Codes) -> Array:
    assert not isinstance(nodes, SampledNodes)
    geometry = geometry_of(family)
    size, raw = geometry.sizes(statistics)
    below = np.empty(len(pools))
    for rows, part in mixture_table(nodes).blocks(pools, _BLOCK):
        parameters, at = deviation(geometry, part, size[rows], raw[rows])
        below[rows] = np.sum(part.weight * quick_cdf(geometry.law, parameters, at), axis=1)
    return np.asarray(np.minimum(below, 1.0 - below))


def _below_sampled(
    family: Family, nodes: SampledNodes, statistics: Statistics, pools: Codes
) -> Array:
    """Return P(θ ≤ m) of each term, (J,) or (J, T)."""
    sampling, terms = store_update(family), n_terms(family, statistics)
    out = np.empty((len(pools), terms))
    width = numbers_of_a_row(family, terms)
    for rows, pool, some in blocks_of_pools(nodes, statistics, pools, width):
        found = StorePosterior.of(sampling, nodes.pools[pool], some, deviation=True)
        out[rows] = found.below_prior_mean()
    return out[:, 0] if term_axis(family, statistics) is None else out
