"""Posteriors of stores given integration nodes: moments, mixtures, predictive moments.

At one node a store's posterior has mean ``raw + B (μ − raw)`` with B = 1/(1 + n A) and variance
``A V(mean)/(1 + n A − v₂ A)`` (Morris 1983, section 5; the notation is that of ``geometry``).
Uncertainty of μ that is left within a node adds B² Var(μ); for a first-order node the delta
method adds that of log A, along d mean/d log A = B (1 − B)(raw − μ) (Kass and Steffey 1989).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import Geometry, geometry_of
from hbpipe.model.integration.nodes import Nodes

#: A variance on (0, 1) is below mean (1 − mean); first order can overshoot that.
_LARGEST_SHARE = 0.98


@dataclass(frozen=True)
class NodeRows:
    """Nodes of ``J`` rows, every array (J, K) or broadcastable to it.

    Fields are those of :class:`hbpipe.model.integration.nodes.Nodes`.
    """

    weight: Array
    spread: Array
    location: Array
    location_variance: Array
    noise: Array
    spread_variance: Array
    covariance: Array

    def take(self, rows: NDArray[np.bool_]) -> NodeRows:
        """Return some of ``J`` rows; what all rows share serves any of them."""
        own = {
            name: values if len(values) == 1 else values[rows]
            for name, values in vars(self).items()
        }
        return replace(self, **own)


@dataclass(frozen=True)
class NodeMoments:
    """Posterior moments of ``J`` stores at ``K`` nodes; (J, K) all.

    ``weight`` is the share of the store's own data in the mean.
    """

    mean: Array
    variance: Array
    weight: Array


@dataclass(frozen=True)
class StoreMoments:
    """Posterior moments of ``J`` stores.

    ``mean`` and ``variance`` (J,), ``weight`` (J,) the share of the store's own data,
    ``prior_mean`` (J,); ``node_mean`` and ``node_variance`` (J, K) by node.
    """

    mean: Array
    variance: Array
    weight: Array
    prior_mean: Array
    node_mean: Array
    node_variance: Array


def node_moments(geometry: Geometry, nodes: NodeRows, size: Array, raw: Array) -> NodeMoments:
    """Posterior moments at each node of stores of given size and raw estimate, (J,) each."""
    size, raw = size[:, None], raw[:, None]
    total = 1.0 + size * nodes.spread
    shrink = 1.0 / total
    own = size * nodes.spread / total
    mean = raw + shrink * (nodes.location - raw)
    mean = np.where(size > 0, mean, nodes.location)
    v0, v1, v2 = geometry.variance
    if v2 < 0:
        # 1 − mean must keep some digits: both ends of (0, 1) are then ordinary.
        mean = np.clip(mean, 1e-300, 1.0 - 1e-12)
    location_variance = shrink**2 * nodes.location_variance
    expected = v0 * nodes.noise + v1 * mean + v2 * (mean**2 + location_variance)
    slope = shrink * own * (raw - nodes.location)
    variance = (
        nodes.spread * expected / (total - v2 * nodes.spread)
        + location_variance
        + slope**2 * nodes.spread_variance
        + 2.0 * shrink * slope * nodes.covariance
    )
    if v2 < 0:
        largest = mean * (1.0 - mean)
        variance = np.clip(variance, 1e-15 * largest, _LARGEST_SHARE * largest)
    return NodeMoments(mean, variance, own)


def store_moments(geometry: Geometry, nodes: NodeRows, size: Array, raw: Array) -> StoreMoments:
    """Posterior moments of stores of given size and raw estimate, (J,) each."""
    at = node_moments(geometry, nodes, size, raw)
    centre = np.sum(nodes.weight * at.mean, axis=1)
    spread = np.sum(nodes.weight * (at.variance + (at.mean - centre[:, None]) ** 2), axis=1)
    prior_mean = np.broadcast_to(nodes.location, at.weight.shape)
    return StoreMoments(
        mean=centre,
        variance=spread,
        weight=np.sum(nodes.weight * at.weight, axis=1),
        prior_mean=np.sum(nodes.weight * prior_mean, axis=1),
        node_mean=at.mean,
        node_variance=at.variance,
    )


def store_mixture(geometry: Geometry, nodes: NodeRows, moments: StoreMoments) -> Mixture:
    """Return the mixture of conjugate laws that these moments belong to."""
    mean, variance = moments.node_mean, moments.node_variance
    weight = np.broadcast_to(nodes.weight, mean.shape)
    return Mixture(geometry.law, weight, geometry.law.from_moments(mean, variance))


def gather_rows(collapsed: Nodes, pools: Codes) -> NodeRows:
    """Take the only node of each row's pool, (J, 1) each."""
    return NodeRows(
        weight=collapsed.weight[pools, :1, 0],
        spread=collapsed.spread[pools, :1, 0],
        location=collapsed.location[pools, :1, 0],
        location_variance=collapsed.location_variance[pools, :1, 0],
        noise=collapsed.noise[pools, :1, 0],
        spread_variance=collapsed.spread_variance[pools, None],
        covariance=collapsed.covariance[pools, None],
    )


def pool_rows(nodes: Nodes, pool: int) -> NodeRows:
    """Take the nodes of one pool that carry weight, (1, K) each."""
    weight = nodes.weight[pool].ravel()
    kept = np.flatnonzero(weight > 1e-10 * np.max(weight))
    return NodeRows(
        weight=(weight[kept] / np.sum(weight[kept]))[None, :],
        spread=nodes.spread[pool].ravel()[kept][None, :],
        location=nodes.location[pool].ravel()[kept][None, :],
        location_variance=nodes.location_variance[pool].ravel()[kept][None, :],
        noise=nodes.noise[pool].ravel()[kept][None, :],
        spread_variance=nodes.spread_variance[[pool], None],
        covariance=nodes.covariance[[pool], None],
    )


def pool_posterior(nodes: Nodes, size: Array, raw: Array) -> tuple[Mixture, Array]:
    """Posteriors of stores of the only pool of ``nodes``, and noise variances (1, K)."""
    geometry = geometry_of(nodes.family)
    rows = pool_rows(nodes.collapse() if nodes.is_large[0] else nodes, 0)
    mixture = store_mixture(geometry, rows, store_moments(geometry, rows, size, raw))
    return mixture, rows.noise
