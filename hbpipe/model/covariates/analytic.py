"""Normal families: the coefficients' posterior is exactly normal at every node."""

from __future__ import annotations

import numpy as np

from hbpipe.model.covariates.nodes import CoefficientNodes
from hbpipe.model.covariates.target import IntegratedTarget, RegressionTarget
from hbpipe.model.geometry import LOCATION
from hbpipe.model.integration.nodes import Nodes


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


def with_coefficients(target: IntegratedTarget, nodes: Nodes) -> CoefficientNodes:
    """Add the coefficients' posterior at every node of spread and noise."""
    pools, outer, inner = nodes.weight.shape
    tau_squared = (nodes.spread * nodes.noise).reshape(pools, -1)
    others = [tau_squared]
    if target.geometry.has_noise:
        others.append(0.5 * np.log(nodes.noise).reshape(pools, -1))
    at = np.stack(others, axis=2)
    length = target.at_once(at.shape[1])
    means, covariances = [], []
    for begin in range(0, at.shape[1], length):
        block = at[:, begin : begin + length]
        many = target.repeat(block.shape[1])
        mean, covariance = many.coefficients(block.reshape(-1, at.shape[2]))
        means.append(mean.reshape(pools, block.shape[1], -1))
        covariances.append(covariance.reshape(pools, block.shape[1], *covariance.shape[1:]))
    matrix = target.sketch.units.matrix
    coefficients = np.einsum("gpq,gnq->gnp", matrix, np.concatenate(means, axis=1))
    remaining = np.einsum("gpi,gnij,gqj->gnpq", matrix, np.concatenate(covariances, axis=1), matrix)
    used = np.sum(np.any(nodes.weight > 0, axis=1), axis=1)
    return CoefficientNodes(
        family=target.family.name,
        method=nodes.method,
        weight=nodes.weight,
        spread=nodes.spread,
        noise=nodes.noise,
        coefficients=coefficients.reshape(pools, outer, inner, -1),
        remaining=remaining.reshape(pools, outer, inner, *remaining.shape[2:]),
        spread_variance=nodes.spread_variance,
        spread_covariance=np.zeros(coefficients[:, 0].shape),
        curvature=nodes.curvature,
        n_groups=nodes.n_groups,
        inner=used,
        ess=np.full(pools, np.nan),
        pareto_k=np.full(pools, np.nan),
        drawn=False,
    )
