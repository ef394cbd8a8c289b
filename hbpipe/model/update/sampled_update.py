"""Stores of many pools updated with sampled nodes, in blocks of bounded memory.

A row's numbers depend on that row and its pool alone, so any split into blocks or shards gives
the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.declarations import given
from hbpipe.model.family import (
    Array,
    Codes,
    Description,
    Family,
    Hyperparameters,
    Prior,
    Statistics,
)
from hbpipe.model.integration.sampled_nodes import SampledNodes
from hbpipe.model.integration.sampling import store_update, theta
from hbpipe.model.update.sampled_stores import StorePosterior

#: Methods that take the hyperparameters as known.
PLAIN = ("plug_in", "unidentified")
#: Numbers that one array of a block may hold.
_BLOCK = 2**17


def update_sampled(
    family: Family,
    nodes: SampledNodes,
    hyperparameters: Hyperparameters,
    statistics: Statistics,
    pools: Codes,
    levels: Array,
    exposure: Array | None,
) -> dict[str, Array]:
    """Columns of posteriors, by the names of :class:`hbpipe.model.update.pools.PosteriorColumns`.

    Parameters are those of :func:`hbpipe.model.update.pools.update_pools`, with levels (Q,) and
    ``exposure`` (J,) or None. Columns are (J,), and (J, T) for stores with T terms; quantiles have
    one more axis.
    """
    sampling = store_update(family)
    terms = n_terms(family, statistics)
    out: dict[str, Array] = {
        name: np.empty((len(pools), terms))
        for name in ("mean", "sd", "sd_plug_in", "weight", "prior_mean")
    }
    out["quantiles"] = np.empty((len(pools), terms, len(levels)))
    if exposure is not None:
        shape = (len(pools), terms) if family.predicts_terms else (len(pools),)
        out |= {name: np.empty(shape) for name in ("predictive_mean", "predictive_sd")}
    width = numbers_of_a_row(family, terms)
    for rows, pool, some in blocks_of_pools(nodes, statistics, pools, width):
        posterior = StorePosterior.of(sampling, nodes.pools[pool], some)
        out["weight"][rows] = posterior.average(posterior.conditional.weight)
        out["prior_mean"][rows] = posterior.prior_mean
        if nodes.pools[pool].method in PLAIN:
            continue
        out["mean"][rows] = posterior.mean
        out["sd"][rows] = np.sqrt(posterior.variance)
        out["quantiles"][rows] = posterior.quantiles(levels)
        if exposure is not None:
            mean, sd = posterior.predictive_moments(sampling, exposure[rows])
            out["predictive_mean"][rows], out["predictive_sd"][rows] = mean, sd
    _plain(family, nodes, hyperparameters, statistics, pools, levels, exposure, out)
    per_term = {name: values for name, values in out.items() if values.ndim > 1}
    if term_axis(family, statistics) is not None:
        return out
    return out | {name: values[:, 0] for name, values in per_term.items()}


def term_axis(family: Family, statistics: Statistics) -> int | None:
    """Length of the columns' axis of terms, T; None where θ is one number and they have none."""
    return None if store_update(family).terms is theta else n_terms(family, statistics)


def n_terms(family: Family, statistics: Statistics) -> int:
    """Count the terms of a store, ``T``."""
    return len(store_update(family).terms(statistics))


def cdf_sampled(
    family: Family,
    nodes: SampledNodes,
    hyperparameters: Hyperparameters,
    statistics: Statistics,
    pools: Codes,
    points: Array,
) -> Array:
    """Posterior probability that each term is at most its point, (J,) or (J, T)."""
    sampling = store_update(family)
    terms = n_terms(family, statistics)
    at = points.reshape(len(pools), terms)
    out = np.empty(at.shape)
    width = numbers_of_a_row(family, terms)
    for rows, pool, some in blocks_of_pools(nodes, statistics, pools, width):
        if nodes.pools[pool].method in PLAIN:
            posterior = _plain_posterior(family, hyperparameters, some, pools[rows])
            shaped = at[rows, 0] if term_axis(family, statistics) is None else at[rows]
            out[rows] = family.describe(posterior, np.empty(0)).cdf(shaped).reshape(-1, terms)
        else:
            out[rows] = StorePosterior.of(sampling, nodes.pools[pool], some).cdf(at[rows])
    return out.reshape(points.shape)


def covariance_sampled(
    family: Family,
    nodes: SampledNodes,
    hyperparameters: Hyperparameters,
    statistics: Statistics,
    pools: Codes,
) -> Array:
    """Posterior covariance of the terms of each store, (J, T, T)."""
    terms = n_terms(family, statistics)
    out = np.empty((len(pools), terms, terms))
    for rows, pool, some in blocks_of_pools(nodes, statistics, pools, terms**2):
        own = None
        if nodes.pools[pool].method in PLAIN:
            known = _plain_posterior(family, hyperparameters, some, pools[rows])
            own = given(family.describe(known, np.empty(0)).covariance)
        if own is None:
            own = StorePosterior.of(store_update(family), nodes.pools[pool], some).covariance
        out[rows] = own
    return out


def predict_sampled(
    family: Family, nodes: SampledNodes, statistics: Statistics, exposure: Array, levels: Array
) -> Description:
    """Describe the next observation of the stores of the only pool of ``nodes``."""
    sampling = store_update(family)
    posterior = StorePosterior.of(sampling, nodes.pools[0], statistics)
    return posterior.predict(sampling, exposure, levels)


def numbers_of_a_row(family: Family, terms: int) -> int:
    """How many numbers the posterior of a store has at a node: a matrix, or one for each term."""
    return terms if store_update(family).many_terms else terms**2


def blocks_of_pools(
    nodes: SampledNodes, statistics: Statistics, pools: Codes, width: int
) -> Iterator[tuple[NDArray[np.int64], int, dict[str, NDArray[Any]]]]:
    """Yield rows of one pool, its number, and their statistics.

    ``width`` is how many numbers a row has for each node.
    """
    order = np.argsort(pools, kind="stable")
    present, begins = np.unique(pools[order], return_index=True)
    ends = np.append(begins[1:], len(order))
    for pool, begin, end in zip(present.tolist(), begins, ends, strict=False):
        members = order[begin:end]
        length = max(1, _BLOCK // (len(nodes.pools[pool].weight) * width))
        for first in range(0, len(members), length):
            rows = members[first : first + length]
            yield rows, pool, _take(statistics, rows)


def _take(statistics: Statistics, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(values)[rows] for name, values in statistics.items()}


def _plain_posterior(
    family: Family, hyperparameters: Hyperparameters, statistics: Statistics, pools: Codes
) -> Prior:
    """Posterior of stores with the hyperparameters of their pools taken as known."""
    at = {name: np.asarray(value)[pools] for name, value in hyperparameters.items()}
    return family.update(statistics, at)


def _plain(
    family: Family,
    nodes: SampledNodes,
    hyperparameters: Hyperparameters,
    statistics: Statistics,
    pools: Codes,
    levels: Array,
    exposure: Array | None,
    out: dict[str, Array],
) -> None:
    """Fill ``sd_plug_in``, and everything where the hyperparameters are taken as known."""
    method = nodes.method[pools]
    shape = (-1, *out["mean"].shape[1:])
    length = max(1, _BLOCK // shape[1])
    for begin in range(0, len(pools), length):
        rows = np.arange(begin, min(begin + length, len(pools)))
        posterior = _plain_posterior(family, hyperparameters, _take(statistics, rows), pools[rows])
        out["sd_plug_in"][rows] = family.describe(posterior, levels[:0]).sd.reshape(shape)
    rows = np.flatnonzero(np.isin(method, PLAIN))
    if not len(rows):
        return
    known = _plain_posterior(family, hyperparameters, _take(statistics, rows), pools[rows])
    described = family.describe(known, levels)
    out["mean"][rows] = described.mean.reshape(shape)
    out["sd"][rows] = described.sd.reshape(shape)
    out["quantiles"][rows] = described.quantiles.reshape(len(rows), shape[1], len(levels))
    if exposure is not None:
        at = {name: np.asarray(value)[pools[rows]] for name, value in hyperparameters.items()}
        predicted = family.predict(known, exposure[rows], at, levels[:0])
        out["predictive_mean"][rows] = predicted.mean
        out["predictive_sd"][rows] = predicted.sd
