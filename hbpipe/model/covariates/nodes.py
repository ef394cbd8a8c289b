"""Integration nodes of pools with covariates: coefficients in place of one location.

A store's own nodes, :class:`hbpipe.model.update.shrink.NodeRows`, follow from its covariates.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import LOCATION, Geometry, geometry_of
from hbpipe.model.integration.nodes import MANY_STORES
from hbpipe.model.numerics.jets import variables
from hbpipe.model.update.shrink import NodeRows, group_mean, store_mixture, store_moments

#: The draws of the coefficients at one outer node, in the order of the store's location, are put
#: into groups of these shares, narrow ones in the tails, each with its mean and variance.
STRATA = np.array([1, 1, 2, 4, 8, 8, 4, 2, 1, 1]) / 32.0
_BLOCK = 2**19
_TINY = 1e-290


@dataclass(frozen=True)
class CoefficientNodes:
    """Posterior of the hyperparameters of ``G`` pools on ``K`` × ``L`` nodes.

    Arrays are (G, K, L, ...); padding has weights of zero. The record pickles.

    Parameters
    ----------
    family
        The base family's name.
    method
        (G,) ``integrated``, ``first_order``, ``plug_in`` or ``unidentified``.
    weight
        Posterior probability of each node; a pool's weights add to one.
    spread
        A at location 0, in units of one observation's variance. With the location η of a store A
        is this times exp(c η), where c is 1 for ``gamma_poisson`` and else 0.
    noise
        Within-store variance σ²; 1 for families without it.
    coefficients
        (G, K, L, P).
    remaining
        Covariance of the coefficients that is left within a node, (G, K, L, P, P), or
        (G, K, 1, P, P) where it is the same for all L.
    spread_variance, spread_covariance
        (G,) variance of log A and (G, P) its covariance with the coefficients that are left within
        a pool's only node; zero unless the method is ``first_order``.
    curvature
        (G,) κ, on which ``auto`` decides; NaN where no mode was sought.
    n_groups
        (G,) stores with data.
    inner
        (G,) how many of the L nodes are a pool's own; the rest is padding.
    ess, pareto_k
        (G,) of draws: how many of equal weight those at an outer node are worth on average, and
        Pareto k̂ of their weights, above 0.7 not to be trusted; NaN where nothing is drawn.
    drawn
        Whether the L nodes are draws of the coefficients (counts), and not nodes in the noise.
    """

    family: str
    method: NDArray[np.str_]
    weight: Array
    spread: Array
    noise: Array
    coefficients: Array
    remaining: Array
    spread_variance: Array
    spread_covariance: Array
    curvature: Array
    n_groups: NDArray[np.int64]
    inner: NDArray[np.int64]
    ess: Array
    pareto_k: Array
    drawn: bool

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return len(self.method)

    @property
    def is_large(self) -> NDArray[np.bool_]:
        """Whether a pool has stores enough to integrate the inner nodes by moments, (G,)."""
        return np.asarray(self.n_groups >= MANY_STORES)

    def select(self, pools: Codes) -> CoefficientNodes:
        """Return the nodes of some pools."""
        names = [item.name for item in fields(self) if item.name not in ("family", "drawn")]
        return replace(self, **{name: getattr(self, name)[pools] for name in names})


def combine_nodes(
    parts: list[tuple[NDArray[np.int64], CoefficientNodes]], n_pools: int
) -> CoefficientNodes:
    """Put nodes of disjoint sets of pools together, padded with weights of zero."""
    first, out = parts[0][1], dict[str, Any]()
    for item in fields(first):
        if item.name in ("family", "drawn"):
            continue
        values = [(pools, getattr(part, item.name)) for pools, part in parts]
        inner = tuple(max(v.shape[axis] for _, v in values) for axis in range(1, values[0][1].ndim))
        dtype = "<U16" if item.name == "method" else values[0][1].dtype
        whole = np.empty((n_pools, *inner), dtype)
        for pools, part in values:
            width = [(0, 0), *((0, to - by) for by, to in zip(part.shape[1:], inner, strict=True))]
            if any(after for _, after in width):
                part = np.pad(part, width, mode="constant" if item.name == "weight" else "edge")
            whole[pools] = part
        out[item.name] = whole
    return replace(first, **out, drawn=any(part.drawn for _, part in parts))


def spread_follows(geometry: Geometry) -> float:
    """How log A moves with the location of a store while the spread's coordinate stays."""
    at = variables(np.zeros((1, geometry.n_working)))
    return float(geometry.log_spread(np.full(1, 0.5), at).gradient[0, LOCATION])


def store_blocks(
    nodes: CoefficientNodes, pools: Codes, covariates: Array
) -> Iterator[tuple[NDArray[np.int64], NodeRows]]:
    """Yield row numbers and their nodes.

    Only an integrated pool has more nodes than one; it is taken by itself.
    """
    single = np.flatnonzero(nodes.method[pools] != "integrated")
    for rows in _split(single, 1):
        yield rows, single_rows(nodes, pools[rows], covariates[rows])
    rest = np.flatnonzero(nodes.method[pools] == "integrated")
    rest = rest[np.argsort(pools[rest], kind="stable")]
    for pool in np.unique(pools[rest]).tolist():
        members = rest[pools[rest] == pool]
        for rows in _split(members, nodes.weight[pool].size):
            yield rows, pool_rows(nodes, pool, covariates[rows])


def covariate_mixtures(
    nodes: CoefficientNodes, covariates: Array, size: Array, raw: Array
) -> tuple[Mixture, Array]:
    """Posteriors of stores of the only pool of ``nodes``, and noise variances (1, K) or (J, K)."""
    geometry, pools = geometry_of(nodes.family), np.zeros(len(size), np.int64)
    parts, noise = [], []
    for rows, part in store_blocks(nodes, pools, covariates):
        moments = store_moments(geometry, part, size[rows], raw[rows])
        parts.append(store_mixture(geometry, part, moments))
        weight = np.broadcast_to(part.weight, moments.node_mean.shape)
        own = np.broadcast_to(part.noise, weight.shape)
        noise.append(own if part.groups is None else group_mean(part.groups, weight, own))
    weight = np.concatenate([part.weight for part in parts])
    columns = zip(*(part.parameters for part in parts), strict=True)
    parameters = tuple(np.concatenate(column) for column in columns)
    return Mixture(geometry.law, weight, parameters), np.concatenate(noise)


def _split(rows: NDArray[np.int64], width: int) -> Iterator[NDArray[np.int64]]:
    length = max(1, _BLOCK // width)
    for begin in range(0, len(rows), length):
        yield rows[begin : begin + length]


def single_rows(nodes: CoefficientNodes, pools: Codes, x: Array) -> NodeRows:
    """Nodes (J, 1) of stores whose pools have a single one, by the delta method."""
    geometry = geometry_of(nodes.family)
    line = _dot(x, nodes.coefficients[pools, 0, 0])
    location = geometry.mean(line)
    slope, follows = _slope(geometry, location), spread_follows(geometry)
    own = np.einsum("jp,jpq,jq->j", x, nodes.remaining[pools, 0, 0], x)
    along = _dot(x, nodes.spread_covariance[pools])
    return NodeRows(
        weight=np.ones((len(x), 1)),
        spread=(nodes.spread[pools, 0, 0] * np.exp(follows * line))[:, None],
        location=location[:, None],
        location_variance=(slope**2 * own)[:, None],
        noise=nodes.noise[pools, 0, 0][:, None],
        spread_variance=(nodes.spread_variance[pools] + follows * (2.0 * along + follows * own))[
            :, None
        ],
        covariance=(slope * (along + follows * own))[:, None],
    )


def _dot(x: Array, b: Array) -> Array:
    return np.asarray(np.sum(x * b, axis=-1))


def _slope(geometry: Geometry, location: Array) -> Array:
    """Slope of the mean along its line, which is the family's variance function."""
    if geometry.location_is_analytic:
        return np.ones_like(location)
    _, v1, v2 = geometry.variance
    return v1 * location + v2 * location**2


def pool_rows(nodes: CoefficientNodes, pool: int, x: Array) -> NodeRows:
    """Nodes (J, N) of stores of one integrated pool, in groups where they are many.

    Draws at an outer node are put in the order of the store's location, and groups of them, or
    all inner nodes where stores are many, become one law.
    """
    share, inner = np.sum(nodes.weight[pool], axis=1), int(nodes.inner[pool])
    kept = np.flatnonzero(share > 1e-10 * np.max(share))
    # A group of draws without any weight must keep ordinary numbers.
    weight = np.maximum(nodes.weight[pool][kept, :inner], _TINY)
    weight = np.broadcast_to(weight / np.sum(weight), (len(x), *weight.shape))
    line = _lines(x, nodes.coefficients[pool][kept, :inner])
    spread, noise = (v[pool][kept, :inner] for v in (nodes.spread, nodes.noise))
    spread = spread * np.exp(spread_follows(geometry_of(nodes.family)) * line)
    if nodes.drawn and not nodes.is_large[pool]:
        order = np.argsort(line, axis=2, kind="stable")
        line, spread, weight = (
            np.take_along_axis(values, order, axis=2) for values in (line, spread, weight)
        )
    geometry = geometry_of(nodes.family)
    location, variance = geometry.mean(line), np.zeros((1, 1, 1))
    if not nodes.drawn:
        variance = np.einsum("jp,klpq,jq->jkl", x, nodes.remaining[pool][kept, :inner], x)
        variance = _slope(geometry, location) ** 2 * variance
    return NodeRows(
        weight=_flat(weight),
        spread=_flat(spread),
        location=_flat(location),
        location_variance=_flat(variance),
        noise=_flat(noise[None]),
        spread_variance=np.zeros((1, 1)),
        covariance=np.zeros((1, 1)),
        groups=_groups(nodes, pool, len(kept)),
    )


def _groups(nodes: CoefficientNodes, pool: int, outer: int) -> NDArray[np.int64] | None:
    """Return the first node of each group; None where every node is its own."""
    inner = int(nodes.inner[pool])
    if inner == 1 or not (nodes.drawn or nodes.is_large[pool]):
        return None
    shares = np.ones(1) if nodes.is_large[pool] else STRATA
    first = ((np.cumsum(shares) - shares) * inner).astype(np.int64)
    return np.asarray((inner * np.arange(outer)[:, None] + first).ravel())


def _lines(x: Array, coefficients: Array) -> Array:
    """Locations (J, K, L) of stores (J, P) at coefficients (K, L, P), on the family's line."""
    line = x[:, 0, None, None] * coefficients[..., 0]
    for p in range(1, x.shape[1]):
        line = line + x[:, p, None, None] * coefficients[..., p]
    return np.asarray(line)


def _flat(values: Array) -> Array:
    """Put outer and inner nodes on one axis, (J, N)."""
    return values.reshape(len(values), -1)
