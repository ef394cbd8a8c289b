"""The pooled effect μ and its spread over stores τ, integrated over both."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.polynomial import legendre
from scipy import special

from hbpipe.model.family import Array
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.nested.levels import GroupMeans

#: Points at which the cdf of τ is inverted.
_FINE = 513
#: name -> (G,), and ``quantiles`` (G, Q); NaN where a pool has no such number.
Law = dict[str, Array]


def pooled_effect(nodes: Nodes, levels: Sequence[float]) -> dict[str, Law]:
    """Describe the posteriors of the hyperparameters of ``normal_known_variance``.

    Parameters
    ----------
    nodes
        Posterior of the hyperparameters of ``G`` pools.
    levels
        Quantile levels (Q,).

    Returns
    -------
    ``mu`` and ``tau``: ``mean``, ``sd``, ``quantiles``, and ``above_zero`` = P(μ > 0). What is
    held, or taken as known by ``plug_in``, has neither sd nor quantiles.
    """
    return {"mu": _location(nodes, levels), "tau": _spread(nodes, levels)}


def _location(nodes: Nodes, levels: Sequence[float]) -> Law:
    law = _nothing(nodes.n_pools, len(levels))
    known = nodes.method != "unidentified"
    law["mean"] = np.where(known, np.sum(nodes.weight * nodes.location, axis=(1, 2)), np.nan)
    some = np.flatnonzero(known & np.any(nodes.location_variance > 0, axis=(1, 2)))
    if len(some):
        means = GroupMeans(nodes.select(some), tuple(levels))
        law["sd"][some] = means["sd"]
        law["quantiles"][some] = means.quantile(tuple(levels))
        law["above_zero"][some] = 1.0 - means.cdf(0.0)
    return law


def _spread(nodes: Nodes, levels: Sequence[float]) -> Law:
    """Describe τ = √A: by its nodes, or as exp of a normal law where there is one node."""
    law = _nothing(nodes.n_pools, len(levels))
    known = nodes.method != "unidentified"
    weight = np.sum(nodes.weight, axis=2)
    tau = np.sqrt(nodes.spread[:, :, 0])
    mean = np.sum(weight * tau, axis=1)
    law["mean"] = np.where(known, mean, np.nan)
    nodal = np.flatnonzero(known & (np.sum(weight > 0, axis=1) > 1))
    away = tau[nodal] - mean[nodal, None]
    law["sd"][nodal] = np.sqrt(np.sum(weight[nodal] * away**2, axis=1))
    for pool in nodal:
        used = 1 + np.count_nonzero(np.diff(tau[pool]) > 0)  # the nodes after these are padding
        law["quantiles"][pool] = _quantiles(weight[pool, :used], tau[pool, :used], levels)
    normal = np.flatnonzero(known & (nodes.spread_variance > 0))
    if len(normal):
        sd = 0.5 * np.sqrt(nodes.spread_variance[normal])  # of log τ
        middle = tau[normal, 0]
        law["mean"][normal] = middle * np.exp(0.5 * sd**2)
        law["sd"][normal] = law["mean"][normal] * np.sqrt(np.expm1(sd**2))
        law["quantiles"][normal] = middle[:, None] * np.exp(sd[:, None] * special.ndtri(levels))
    return law


def _quantiles(weight: Array, tau: Array, levels: Sequence[float]) -> Array:
    """Invert the cdf on Gauss-Legendre nodes: (K,) weights and values, ascending.

    The weights determine the density's Legendre series, whose integral is the cdf between nodes.
    """
    from scipy.interpolate import PchipInterpolator  # slow to load; few nights have experiments

    at, _ = legendre.leggauss(len(weight))
    order = np.arange(len(weight))
    series = (order + 0.5) * (weight @ legendre.legvander(at, len(weight) - 1))
    fine = np.linspace(at[0], at[-1], _FINE)
    cdf = np.maximum.accumulate(legendre.legval(fine, legendre.legint(series, lbnd=-1.0)))
    values = np.exp(PchipInterpolator(at, np.log(tau))(fine))
    return np.asarray(np.interp(levels, cdf, values), np.float64)


def _nothing(pools: int, levels: int) -> Law:
    names = ("mean", "sd", "above_zero")
    return {name: np.full(pools, np.nan) for name in names} | {
        "quantiles": np.full((pools, levels), np.nan)
    }
