"""What the means of stores lie between, whatever is known of the hyperparameters.

At known hyperparameters a conjugate mean weighs the store's own estimate and the prior mean
(Diaconis and Ylvisaker 1979). A mean that averages over hyperparameters averages such means over
the nodes of the pool: it lies between the store's own estimate and the prior means of the nodes,
though not always between that estimate and their average, for a node's weight of the data and its
prior mean go together. Uncertainty of the prior mean that is left within a node changes nothing:
the mean is linear in it.
"""

from __future__ import annotations

import numpy as np

from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.integration.sampled_nodes import AnyNodes, PoolNodes

#: Numbers that one array of a block may hold.
_BLOCK = 2**19


def prior_range(nodes: AnyNodes, statistics: Statistics, pools: Codes) -> tuple[Array, Array]:
    """Return the least and the greatest prior mean of each store over the nodes of its pool.

    Parameters
    ----------
    nodes
        Posterior of the hyperparameters of ``G`` pools, of a family with one term.
    statistics
        name -> (J,); ``covariates`` (J, P) where the family has them.
    pools
        (J,) the pool of each store.

    Returns
    -------
    (J,) each, in the units of θ.
    """
    if isinstance(nodes, Nodes):
        used = nodes.weight > 0
        low = np.min(nodes.location, axis=(1, 2), where=used, initial=np.inf)
        high = np.max(nodes.location, axis=(1, 2), where=used, initial=-np.inf)
        return low[pools], high[pools]
    low, high = np.empty(len(pools)), np.empty(len(pools))
    for pool in np.unique(pools).tolist():
        rows, at = np.flatnonzero(pools == pool), nodes.pools[pool]
        if "coefficients" in at.values:
            mean = geometry_of(nodes.family).mean
            low[rows], high[rows] = map(mean, _line_range(at, statistics["covariates"][rows]))
        else:
            means = _used(at, "mu")
            low[rows], high[rows] = np.min(means), np.max(means)
    return low, high


def _line_range(nodes: PoolNodes, covariates: Array) -> tuple[Array, Array]:
    """Return the ends of x'b over the nodes, (J,) each; the link to the mean increases."""
    coefficients = _used(nodes, "coefficients")
    low, high = np.empty(len(covariates)), np.empty(len(covariates))
    length = max(1, _BLOCK // len(coefficients))
    for first in range(0, len(covariates), length):
        some = slice(first, first + length)
        lines = np.asarray(covariates[some], np.float64) @ coefficients.T
        low[some], high[some] = np.min(lines, axis=1), np.max(lines, axis=1)
    return low, high


def _used(nodes: PoolNodes, name: str) -> Array:
    """Return the values at the nodes that carry weight; of ``first_order`` the centre alone."""
    return nodes.values[name][: len(nodes.weight)][nodes.weight > 0]
