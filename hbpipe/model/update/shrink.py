"""Posteriors of stores given integration nodes: moments, mixtures, predictive moments.

At one node a store's posterior has mean ``raw + B (μ − raw)`` with B = 1/(1 + n A) and variance
``A V(mean)/(1 + n A − v₂ A)`` (Morris 1983, section 5; the notation is that of ``geometry``).
Uncertainty of μ that is left within a node adds B² Var(μ); for a first-order node the delta
method adds that of log A, along d mean/d log A = B (1 − B)(raw − μ) (Kass and Steffey 1989).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import Geometry, geometry_of
from hbpipe.model.integration.merging import merged
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.integration.thinning import thinned

#: A variance on (0, 1) is below mean (1 − mean); first order can overshoot that.
LARGEST_SHARE = 0.98
#: Nodes that together weigh less are left out of moments, and of mixtures: a limit at 2.5 % moves
#: by 2e-5 sd, a hundredth of what quadrature is good for.
_NO_WEIGHT, _NEGLIGIBLE = 1e-12, 1e-6
#: Spreads that stand for all where the next observation is asked for.
_PREDICTIVE = 12


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
        variance = np.clip(variance, 1e-15 * largest, LARGEST_SHARE * largest)
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


@dataclass(frozen=True)
class NodeTable:
    """Nodes of ``G`` pools that carry weight, first those that do: arrays (G, K).

    ``width`` (G,) is how many of them to take, one or a multiple of eight, so that a pool's sums do
    not depend on the length of the others.
    """

    nodes: NodeRows
    width: NDArray[np.int64]

    @staticmethod
    def of(nodes: Nodes, negligible: float) -> NodeTable:
        """Leave out nodes that together have less than this weight."""
        pools = nodes.n_pools
        weight = nodes.weight.reshape(pools, -1)
        ascending = np.argsort(weight, axis=1, kind="stable")
        below = np.cumsum(np.take_along_axis(weight, ascending, axis=1), axis=1) < negligible
        left_out = np.empty_like(below)
        np.put_along_axis(left_out, ascending, below, axis=1)
        order = np.argsort(left_out, axis=1, kind="stable")
        count = np.sum(~left_out, axis=1)
        order = order[:, : _padded(int(np.max(count, initial=1)))]
        carries = np.arange(order.shape[1]) < count[:, None]

        def first(values: Array) -> Array:
            # What only fills up repeats a node that carries weight: one without may have no law.
            taken = np.take_along_axis(values.reshape(pools, -1), order, axis=1)
            return np.where(carries, taken, taken[:, :1])

        kept = np.where(carries, first(nodes.weight), 0.0)
        rows = NodeRows(
            weight=kept / np.cumsum(kept, axis=1)[:, -1:],
            spread=first(nodes.spread),
            location=first(nodes.location),
            location_variance=first(nodes.location_variance),
            noise=first(nodes.noise),
            spread_variance=nodes.spread_variance[:, None],
            covariance=nodes.covariance[:, None],
        )
        return NodeTable(rows, np.array([_padded(n) for n in count.tolist()], np.int64))

    def blocks(self, pools: Codes, length: int) -> Iterator[tuple[NDArray[np.int64], NodeRows]]:
        """Yield rows of stores with pools (J,), and their nodes, ``length`` numbers in an array."""
        width = self.width[pools]
        for columns in np.unique(width).tolist():
            rows = np.flatnonzero(width == columns)
            rows = rows[np.argsort(pools[rows], kind="stable")]
            some = max(1, length // columns)
            for begin in range(0, len(rows), some):
                block = rows[begin : begin + some]
                yield block, self._rows(pools[block], columns)

    def _rows(self, pools: Codes, columns: int) -> NodeRows:
        # Stores of one pool share its nodes; sorted pools are one where the ends agree.
        chosen = pools[:1] if pools[0] == pools[-1] else pools
        return NodeRows(
            **{name: values[chosen, :columns] for name, values in vars(self.nodes).items()}
        )


def _padded(count: int) -> int:
    return 1 if count <= 1 else -(-count // 8) * 8


def moment_table(nodes: Nodes) -> NodeTable:
    """Return the nodes on which moments of stores are averages: locations are integrated out."""
    return nodes.once("moments", lambda: NodeTable.of(nodes.collapse(), _NO_WEIGHT))


def predictive_table(nodes: Nodes) -> NodeTable:
    """Return ``_PREDICTIVE`` spreads or fewer, all else integrated out, for what comes next.

    A next observation is blurred by its own noise. Its tails are within 1e-3 of those on all nodes
    for counts, within 6e-3 for values of small pools, whose σ is averaged; below 0.05 within 4 % of
    themselves.
    """
    return nodes.once(
        "predictive", lambda: NodeTable.of(merged(nodes.collapse(), _PREDICTIVE), _NEGLIGIBLE)
    )


def mixture_table(nodes: Nodes, negligible: float = _NEGLIGIBLE) -> NodeTable:
    """Return the components of mixtures: as many of a spread's nodes as limits of stores need.

    In pools of many stores locations are integrated out.
    """
    few = nodes.once("mixture", lambda: _mixture_nodes(nodes))
    return nodes.once(f"mixture {negligible}", lambda: NodeTable.of(few, negligible))


def _mixture_nodes(nodes: Nodes) -> Nodes:
    nodes = thinned(nodes, geometry_of(nodes.family))
    small, large = nodes.collapse(), nodes.is_large[:, None, None]
    inner = np.zeros(nodes.weight.shape[2]) + (np.arange(nodes.weight.shape[2]) == 0)
    names = ("spread", "location", "location_variance", "noise")
    chosen = {name: np.where(large, getattr(small, name), getattr(nodes, name)) for name in names}
    weight = np.where(large, small.weight * inner, nodes.weight)
    return replace(nodes, weight=weight, **chosen)


def pool_posterior(nodes: Nodes, size: Array, raw: Array) -> tuple[Mixture, Array]:
    """Posteriors of stores of the only pool of ``nodes``, and noise variances (1, K)."""
    geometry = geometry_of(nodes.family)
    table = mixture_table(nodes, _NO_WEIGHT)
    [(_, rows)] = table.blocks(np.zeros(1, np.int64), 1)
    mixture = store_mixture(geometry, rows, store_moments(geometry, rows, size, raw))
    return mixture, rows.noise
