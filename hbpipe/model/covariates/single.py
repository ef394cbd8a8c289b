"""Pools with covariates in a single node: plugged in, or with a covariance (first order)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.covariates.draws import in_user_units
from hbpipe.model.covariates.nodes import CoefficientNodes, spread_follows
from hbpipe.model.covariates.sketch import CovariateSketch
from hbpipe.model.covariates.target import RegressionTarget
from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, geometry_of
from hbpipe.model.integrate import working_point
from hbpipe.model.integration.first_order import marginal_mode
from hbpipe.model.integration.peak import Peak


def plug_in(base: Family, sketch: CovariateSketch, coordinates: Array) -> CoefficientNodes:
    """One node for each pool at given coordinates (G, D), without any uncertainty."""
    geometry, pools = geometry_of(base), len(coordinates)
    width = sketch.x.shape[1]
    own = np.concatenate([np.zeros((pools, 1)), coordinates[:, width:]], axis=1)
    noise = np.exp(2.0 * own[:, NOISE]) if geometry.has_noise else np.ones(pools)
    return single_node(
        base,
        "plug_in",
        coefficients=coordinates[:, :width],
        spread=np.exp(working_point(geometry, own)[:, SPREAD]),
        noise=noise,
        n_groups=sketch.n_groups,
    )


def single_node(
    base: Family,
    method: str,
    *,
    coefficients: Array,
    spread: Array,
    noise: Array,
    n_groups: NDArray[np.int64],
    **known: Array,
) -> CoefficientNodes:
    """One node for each pool; variances that are not given are zero and the curvature NaN."""
    pools, width = coefficients.shape
    remaining = known.pop("remaining", np.zeros((pools, width, width)))
    defaults = {
        "spread_variance": np.zeros(pools),
        "spread_covariance": np.zeros((pools, width)),
        "curvature": np.full(pools, np.nan),
    }
    return CoefficientNodes(
        family=base.name,
        method=np.full(pools, method, dtype="<U16"),
        weight=np.ones((pools, 1, 1)),
        spread=spread[:, None, None],
        noise=noise[:, None, None],
        coefficients=coefficients[:, None, None],
        remaining=remaining[:, None, None],
        n_groups=n_groups,
        inner=np.ones(pools, np.int64),
        ess=np.full(pools, np.nan),
        pareto_k=np.full(pools, np.nan),
        drawn=False,
        **(defaults | known),
    )


def first_order(target: RegressionTarget, peak: Peak) -> CoefficientNodes:
    """One node for each pool, with the covariance of coefficients and log spread around it."""
    free = SPREAD in target.free
    point = marginal_mode(target, peak) if free else peak.point
    own, follows = target.geometry.n_working, spread_follows(target.geometry)
    places = [LOCATION, *range(own, point.shape[1])]
    matrix = target.sketch.units.matrix
    coefficients, log_spread = in_user_units(target, point)
    covariance = peak.covariance
    # log A at location 0 is that at the mean row less c times the location there.
    along = covariance[:, SPREAD] - follows * covariance[:, LOCATION]
    variance = along[:, SPREAD] - follows * along[:, LOCATION]
    noise = np.exp(2.0 * point[:, NOISE]) if target.geometry.has_noise else np.ones(len(point))
    return single_node(
        target.family,
        "first_order",
        coefficients=coefficients,
        spread=np.exp(log_spread),
        noise=noise,
        n_groups=target.sketch.n_groups,
        remaining=matrix @ covariance[:, places][:, :, places] @ np.swapaxes(matrix, 1, 2),
        spread_variance=variance * free,
        spread_covariance=np.einsum("gpq,gq->gp", matrix, along[:, places]) * free,
        curvature=peak.curvature,
    )
