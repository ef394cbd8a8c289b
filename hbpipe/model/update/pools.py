"""Posteriors of many stores in many pools, in blocks of bounded memory.

This is what a worker runs on its shard: the nodes of each whole pool come in, the shard's
statistics are updated with the whole pool's uncertainty. A row's numbers depend on that row and
its pool alone, so any split into blocks or shards gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.arguments import checked_exposure, checked_levels, one_per_store
from hbpipe.model.family import Array, Codes, Family, Hyperparameters, Prior, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.integration.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.model.update.alike import alike
from hbpipe.model.update.predictive import predictive_moments
from hbpipe.model.update.sampled_update import PLAIN, cdf_sampled, term_axis, update_sampled
from hbpipe.model.update.shrink import (
    StoreMoments,
    mixture_table,
    moment_table,
    store_mixture,
    store_moments,
)

#: Numbers that one array of a block may hold: half a megabyte, which a core's cache does.
_BLOCK = 2**16


@dataclass(frozen=True)
class PosteriorColumns:
    """Posteriors of ``J`` stores, one row per store.

    ``quantiles`` is (J, Q), ``method`` (J,) text, the others (J,); for stores with ``T`` > 1 terms
    all but ``method`` and the predictive have an axis of terms after the first, (J, T) and
    (J, T, Q). ``sd_plug_in`` takes the hyperparameters as known; ``weight`` is the share of the
    store's own data in its mean, ``prior_mean`` what it is shrunk to. ``predictive_mean`` and
    ``predictive_sd`` are those of the next observation of the given exposure; None unless asked
    for.
    """

    mean: Array
    sd: Array
    sd_plug_in: Array
    quantiles: Array
    weight: Array
    prior_mean: Array
    method: NDArray[np.str_]
    predictive_mean: Array | None = None
    predictive_sd: Array | None = None

    def take(self, rows: NDArray[np.int64]) -> PosteriorColumns:
        """Return some rows, any of them several times."""
        names = (field.name for field in fields(self))
        present = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(self, **{name: values[rows] for name, values in present.items()})


def update_pools(
    family: Family,
    nodes: AnyNodes,
    hyperparameters: Hyperparameters,
    statistics: Statistics,
    pools: Codes,
    *,
    quantiles: float | tuple[float, ...],
    exposure: Array | float | None = None,
) -> PosteriorColumns:
    """Update stores with the uncertainty of their pools.

    Parameters
    ----------
    family
        The family.
    nodes
        Posterior of the hyperparameters of ``G`` pools.
    hyperparameters
        Point estimates, name -> (G,), for ``sd_plug_in`` and pools whose method is ``plug_in``.
    statistics
        name -> (J,); with ``covariates`` (J, P) where the family has them.
    pools
        (J,) the pool of each store.
    quantiles
        Levels strictly between 0 and 1.
    exposure
        Size of the next observation (trials, exposure, values; for known variances the
        sampling variance), one number or (J,).

    Returns
    -------
    PosteriorColumns
    """
    pools, levels = np.asarray(pools), checked_levels(quantiles)
    amount = None if exposure is None else checked_exposure(exposure, len(pools), family)
    if isinstance(nodes, SampledNodes):
        columns = update_sampled(family, nodes, hyperparameters, statistics, pools, levels, amount)
        return PosteriorColumns(**columns, method=nodes.method[pools])
    known = (family, nodes, hyperparameters)
    same = alike(statistics, pools) if exposure is None or np.ndim(exposure) == 0 else None
    if same is None:
        return _update(*known, statistics, pools, levels, amount)
    stores, kind = same
    some = {name: np.asarray(values)[stores] for name, values in statistics.items()}
    amount = None if amount is None else amount[stores]
    return _update(*known, some, pools[stores], levels, amount).take(kind)


def _update(
    family: Family,
    nodes: Nodes,
    hyperparameters: Hyperparameters,
    statistics: Statistics,
    pools: Codes,
    levels: Array,
    amount: Array | None,
) -> PosteriorColumns:
    geometry = geometry_of(family)
    size, raw = geometry.sizes(statistics)
    out = _empty(len(pools), len(levels))
    noise = np.empty(len(pools))
    for rows, part in moment_table(nodes).blocks(pools, _BLOCK):
        _write(out, rows, store_moments(geometry, part, size[rows], raw[rows]))
        noise[rows] = np.sum(part.weight * part.noise, axis=1)
    mixed = np.flatnonzero(~is_plain(nodes, pools))
    if len(levels):
        for block, part in mixture_table(nodes).blocks(pools[mixed], _BLOCK):
            rows = mixed[block]
            moments = store_moments(geometry, part, size[rows], raw[rows])
            out["quantiles"][rows] = store_mixture(geometry, part, moments).quantiles(levels)
    _plug_in(family, nodes, hyperparameters, statistics, pools, levels, out)
    if amount is not None:
        mean, variance = predictive_moments(geometry, out["mean"], out["sd"] ** 2, noise, amount)
        out |= {"predictive_mean": mean, "predictive_sd": np.sqrt(variance)}
    return PosteriorColumns(**out, method=nodes.method[pools])


def _empty(stores: int, levels: int) -> dict[str, Array]:
    names = ("mean", "sd", "sd_plug_in", "weight", "prior_mean")
    return {name: np.empty(stores) for name in names} | {"quantiles": np.empty((stores, levels))}


def _write(out: dict[str, Array], rows: NDArray[np.int64], moments: StoreMoments) -> None:
    out["mean"][rows] = moments.mean
    out["sd"][rows] = np.sqrt(moments.variance)
    out["weight"][rows] = moments.weight
    out["prior_mean"][rows] = moments.prior_mean


def _split(rows: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    for begin in range(0, len(rows), _BLOCK):
        yield rows[begin : begin + _BLOCK]


def is_plain(nodes: AnyNodes, pools: Codes) -> NDArray[np.bool_]:
    """Whether the prior of each row's pool is known: a plain method, and no open prior mean."""
    plain = np.isin(nodes.method[pools], PLAIN)
    if not isinstance(nodes, Nodes):
        return plain
    return np.asarray(plain & (nodes.location_variance[pools, 0, 0] == 0))


def _plain_posterior(
    family: Family,
    hyperparameters: Hyperparameters,
    statistics: Statistics,
    pools: Codes,
    rows: NDArray[np.int64],
) -> Prior:
    """Posterior of some rows with the hyperparameters taken as known."""
    at = {name: np.asarray(value)[pools[rows]] for name, value in hyperparameters.items()}
    some = {name: np.asarray(values)[rows] for name, values in statistics.items()}
    return family.update(some, at)


def _plug_in(
    family: Family,
    nodes: Nodes,
    hyperparameters: Hyperparameters,
    statistics: Statistics,
    pools: Codes,
    levels: Array,
    out: dict[str, Array],
) -> None:
    """Fill ``sd_plug_in``, and everything where the method is ``plug_in``."""
    for rows in _split(np.arange(len(pools))):
        posterior = _plain_posterior(family, hyperparameters, statistics, pools, rows)
        out["sd_plug_in"][rows] = family.describe(posterior, levels[:0]).sd
        plain = is_plain(nodes, pools[rows])
        if plain.any():
            chosen = {name: values[plain] for name, values in posterior.items()}
            described = family.describe(chosen, levels)
            out["mean"][rows[plain]] = described.mean
            out["sd"][rows[plain]] = described.sd
            out["quantiles"][rows[plain]] = described.quantiles


def cdf_pools(
    family: Family,
    nodes: AnyNodes,
    hyperparameters: Hyperparameters,
    statistics: Statistics,
    pools: Codes,
    points: Array | float,
) -> Array:
    """Posterior probability that each store's θ is at most ``points`` (scalar or (J,)).

    Other parameters are those of :func:`update_pools`; the result is (J,).
    """
    pools = np.asarray(pools)
    if isinstance(nodes, SampledNodes):
        at = one_per_store(points, len(pools), "points", term_axis(family, statistics))
        return cdf_sampled(family, nodes, hyperparameters, statistics, pools, at)
    geometry = geometry_of(family)
    size, raw = geometry.sizes(statistics)
    at = one_per_store(points, len(pools), "points")
    out = np.empty(len(pools))
    plain = is_plain(nodes, pools)
    for rows in _split(np.flatnonzero(plain)):
        posterior = _plain_posterior(family, hyperparameters, statistics, pools, rows)
        out[rows] = family.describe(posterior, np.empty(0)).cdf(at[rows])
    mixed = np.flatnonzero(~plain)
    for block, part in mixture_table(nodes).blocks(pools[mixed], _BLOCK):
        rows = mixed[block]
        moments = store_moments(geometry, part, size[rows], raw[rows])
        out[rows] = store_mixture(geometry, part, moments).cdf(at[rows])
    return out
