"""The next observations of stores of many pools, and how surprising those are that came.

Each store has its own exposure. Counts are summed from zero (``distributions.walk``), which costs a
store about as many steps as it has counts; stores alike in everything are looked at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.laws import BETA
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.distributions.smooth_tails import mid_cdf
from hbpipe.model.family import Array, Codes, Description, Family, Hyperparameters, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.integration.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.model.integration.sampling import store_update
from hbpipe.model.update.alike import alike
from hbpipe.model.update.predictive import mix_predictive, predictive_moments
from hbpipe.model.update.sampled_stores import StorePosterior
from hbpipe.model.update.sampled_update import PLAIN, blocks_of_pools
from hbpipe.model.update.shrink import moment_table, predictive_table, store_mixture, store_moments

#: Numbers that one array of a block may hold: half a megabyte, which a core's cache does.
_BLOCK = 2**16


@dataclass(frozen=True)
class Pools:
    """The posterior of the hyperparameters of ``G`` pools.

    Parameters
    ----------
    family
        The family.
    nodes
        The posterior as nodes.
    hyperparameters
        Point estimates, name -> (G, ...).
    """

    family: Family
    nodes: AnyNodes
    hyperparameters: Hyperparameters


@dataclass(frozen=True)
class Prediction:
    """What is expected of the next observation: mean and sd (J,), quantiles (J, Q)."""

    mean: Array
    sd: Array
    quantiles: Array


def predict_stores(
    pools: Pools, statistics: Statistics, codes: Codes, exposure: Array, levels: Array
) -> Prediction:
    """Predict the next observation of each store: the total of counts, or the mean of values.

    Parameters
    ----------
    statistics, codes
        name -> (J, ...), and (J,) the pool of each store.
    exposure
        (J,) its size: trials, exposure, or number of values.
    levels
        (Q,) of the quantiles; of counts they are the smallest that reach the level.
    """
    stores, kind = _kinds(statistics, codes, exposure=exposure)
    some = {name: np.asarray(values)[stores] for name, values in statistics.items()}
    mean, sd = np.empty(len(stores)), np.empty(len(stores))
    quantiles = np.empty((len(stores), len(levels)))
    for rows, found in _described(pools, some, codes[stores], exposure[stores], levels):
        mean[rows], sd[rows], quantiles[rows] = found.mean, found.sd, found.quantiles
    if isinstance(pools.nodes, Nodes):
        mean, sd = _moments(pools.family, pools.nodes, some, codes[stores], exposure[stores])
    return Prediction(mean[kind], sd[kind], quantiles[kind])


def two_sided_p_values(
    pools: Pools, statistics: Statistics, codes: Codes, exposure: Array, observed: Array
) -> Array:
    """Return how likely something at least as far out was, two-sided, (J,).

    Twice the smaller tail; of counts it is the mid p-value, which takes half of the probability of
    what was observed (Lancaster 1961), so that it is neither too large nor too small on average.

    Parameters
    ----------
    statistics, codes, exposure
        As of ``predict_stores``: what the predictive rests on, and the size of what was observed.
    observed
        (J,) the total of counts, or the mean of values.
    """
    stores, kind = _kinds(statistics, codes, exposure=exposure, observed=observed)
    some = {name: np.asarray(values)[stores] for name, values in statistics.items()}
    below, whole = np.empty(len(stores)), pools.family.empty_exposure
    at, size = observed[stores], exposure[stores]
    if isinstance(pools.nodes, Nodes) and geometry_of(pools.family).law is BETA:
        for rows, mixture, _ in _mixtures(pools.family, pools.nodes, some, codes[stores]):
            alpha, beta = mixture.parameters
            below[rows] = mid_cdf(at[rows], size[rows], alpha, beta, mixture.weight)
    else:
        for rows, found in _described(pools, some, codes[stores], size, np.empty(0)):
            below[rows] = found.cdf(at[rows])
            if whole:
                below[rows] = 0.5 * (below[rows] + found.cdf(at[rows] - 1.0))
    return np.asarray(2.0 * np.minimum(below, np.maximum(1.0 - below, 0.0)))[kind]


def _kinds(
    statistics: Statistics, codes: Codes, **more: Array
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return one store of each kind, and the kind of each store."""
    found = alike({**statistics, **more}, codes)
    every = np.arange(len(codes))
    return (every, every) if found is None else found


def _described(
    pools: Pools, statistics: Statistics, codes: Codes, exposure: Array, levels: Array
) -> Iterator[tuple[NDArray[np.int64], Description]]:
    """Yield rows, and the description of their next observations."""
    if isinstance(pools.nodes, SampledNodes):
        yield from _of_sampled(pools, pools.nodes, statistics, codes, exposure, levels)
    else:
        yield from _of_nodes(pools.family, pools.nodes, statistics, codes, exposure, levels)


def _of_nodes(
    family: Family,
    nodes: Nodes,
    statistics: Statistics,
    codes: Codes,
    exposure: Array,
    levels: Array,
) -> Iterator[tuple[NDArray[np.int64], Description]]:
    for rows, mixture, noise in _mixtures(family, nodes, statistics, codes):
        # A posterior has the names of the first hyperparameters, in the order of its law.
        laws = dict(zip(family.hyperparameters, mixture.parameters, strict=False))
        known = {"sigma": np.sqrt(noise)}
        yield rows, mix_predictive(family, laws, mixture.weight, exposure[rows], known, levels)


def _moments(
    family: Family, nodes: Nodes, statistics: Statistics, codes: Codes, exposure: Array
) -> tuple[Array, Array]:
    """Mean and sd of the next observations, (J,): those of θ on all nodes, and their own noise."""
    geometry = geometry_of(family)
    size, raw = geometry.sizes(statistics)
    mean, variance = np.empty(len(codes)), np.empty(len(codes))
    for rows, part in moment_table(nodes).blocks(codes, _BLOCK):
        moments = store_moments(geometry, part, size[rows], raw[rows])
        noise = np.sum(part.weight * part.noise, axis=1)
        mean[rows], variance[rows] = predictive_moments(
            geometry, moments.mean, moments.variance, noise, exposure[rows]
        )
    return mean, np.sqrt(variance)


def _mixtures(
    family: Family, nodes: Nodes, statistics: Statistics, codes: Codes
) -> Iterator[tuple[NDArray[np.int64], Mixture, Array]]:
    """Yield rows, their posteriors, and the noise variances at the nodes."""
    geometry = geometry_of(family)
    size, raw = geometry.sizes(statistics)
    for rows, part in predictive_table(nodes).blocks(codes, _BLOCK):
        moments = store_moments(geometry, part, size[rows], raw[rows])
        yield rows, store_mixture(geometry, part, moments), part.noise


def _of_sampled(
    pools: Pools,
    nodes: SampledNodes,
    statistics: Statistics,
    codes: Codes,
    exposure: Array,
    levels: Array,
) -> Iterator[tuple[NDArray[np.int64], Description]]:
    family, sampling = pools.family, store_update(pools.family)
    for rows, pool, some in blocks_of_pools(nodes, statistics, codes, 1):
        if nodes.pools[pool].method in PLAIN:
            at = {name: np.asarray(v)[codes[rows]] for name, v in pools.hyperparameters.items()}
            known = family.update(some, at)
            yield rows, family.predict(known, exposure[rows], at, levels)
        else:
            found = StorePosterior.of(sampling, nodes.pools[pool], some)
            yield rows, found.predict(sampling, exposure[rows], levels)
