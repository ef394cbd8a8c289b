"""Normal families: the coefficients' posterior is exactly normal at every node."""

from __future__ import annotations

import numpy as np

from hbpipe.model.covariates.target import IntegratedTarget, RegressionTarget
from hbpipe.model.family import Array
from hbpipe.model.geometry import LOCATION
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.integration.sampled_nodes import PoolNodes

#: Nodes with less than this share of the largest weight are left out.
_NEGLIGIBLE = 1e-10


def integrated_out(target: RegressionTarget) -> IntegratedTarget:
    """Return the target of a normal family without its coefficients."""
    own = target.geometry.n_working
    held, fixed = target.held[:, :own].copy(), None
    if LOCATION not in target.free:
        fixed = np.concatenate([held[:, :1], target.held[:, own:]], axis=1)
    held[:, LOCATION] = 0.0
    return IntegratedTarget(
        target.family, target.geometry, target.sketch, target.prior, held, fixed
    )


def with_coefficients(target: IntegratedTarget, nodes: Nodes) -> list[PoolNodes]:
    """Add the coefficients' posterior at every node of spread and noise, pool by pool."""
    pools = target.n_pools
    weight, spread, noise = (
        part.reshape(pools, -1) for part in (nodes.weight, nodes.spread, nodes.noise)
    )
    others = [spread * noise]
    if target.geometry.has_noise:
        others.append(0.5 * np.log(noise))
    means, covariances = target.blockwise(_coefficients, np.stack(others, axis=2))
    matrix = target.sketch.units.matrix
    coefficients = np.einsum("gpq,gnq->gnp", matrix, means)
    remaining = np.einsum("gpi,gnij,gqj->gnpq", matrix, covariances, matrix)
    values = {
        "coefficients": coefficients,
        "spread": spread,
        "noise": noise,
        "remaining": remaining,
    }
    return [
        _nodes_of(weight[g], {name: v[g] for name, v in values.items()}, int(nodes.n_groups[g]))
        for g in range(pools)
    ]


def _coefficients(target: IntegratedTarget, others: Array) -> tuple[Array, Array]:
    return target.coefficients(others)


def _nodes_of(weight: Array, values: dict[str, Array], n_groups: int) -> PoolNodes:
    """Take the nodes that carry weight, (N,)."""
    kept = np.flatnonzero(weight > _NEGLIGIBLE * np.max(weight))
    return PoolNodes(
        "integrated",
        points=np.empty((len(kept), 0)),
        weight=weight[kept] / np.sum(weight[kept]),
        values={name: of_nodes[kept] for name, of_nodes in values.items()},
        n_groups=n_groups,
    )
