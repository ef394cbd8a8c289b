"""Pools with covariates in a single node: plugged in, or with a covariance (first order)."""

from __future__ import annotations

import numpy as np

from hbpipe.model.covariates.sketch import CovariateSketch
from hbpipe.model.covariates.target import RegressionTarget
from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, geometry_of
from hbpipe.model.integrate import working_point
from hbpipe.model.integration.first_order import marginal_mode
from hbpipe.model.integration.peak import Peak
from hbpipe.model.integration.sampled_nodes import PoolNodes


def plug_in(base: Family, sketch: CovariateSketch, coordinates: Array) -> list[PoolNodes]:
    """One node for each pool at given coordinates (G, D), without any uncertainty."""
    geometry, pools = geometry_of(base), len(coordinates)
    width = sketch.x.shape[1]
    own = np.concatenate([np.zeros((pools, 1)), coordinates[:, width:]], axis=1)
    values = {
        "coefficients": coordinates[:, :width],
        "spread": np.exp(working_point(geometry, own)[:, SPREAD]),
        "noise": np.exp(2.0 * own[:, NOISE]) if geometry.has_noise else np.ones(pools),
    }
    return _single_nodes("plug_in", values, sketch)


def first_order(target: RegressionTarget, peak: Peak) -> list[PoolNodes]:
    """One node for each pool, with the covariance of coefficients and log spread around it."""
    free = SPREAD in target.free
    point = marginal_mode(target, peak) if free else peak.point
    own, follows = target.geometry.n_working, target.geometry.spread_follows
    places = [LOCATION, *range(own, point.shape[1])]
    matrix = target.sketch.units.matrix
    coefficients, log_spread = target.in_user_units(point)
    covariance = peak.covariance
    # log A at location 0 is that at the mean row less c times the location there.
    along = covariance[:, SPREAD] - follows * covariance[:, LOCATION]
    variance = along[:, SPREAD] - follows * along[:, LOCATION]
    has_noise = target.geometry.has_noise
    values = {
        "coefficients": coefficients,
        "spread": np.exp(log_spread),
        "noise": np.exp(2.0 * point[:, NOISE]) if has_noise else np.ones(len(point)),
        "remaining": matrix @ covariance[:, places][:, :, places] @ np.swapaxes(matrix, 1, 2),
        "spread_variance": variance * free,
        "spread_covariance": np.einsum("gpq,gq->gp", matrix, along[:, places]) * free,
    }
    return _single_nodes("first_order", values, target.sketch)


def _single_nodes(
    method: str, values: dict[str, Array], sketch: CovariateSketch
) -> list[PoolNodes]:
    """One node for each pool from values (G, ...)."""
    return [
        PoolNodes(
            method,
            points=np.empty((1, 0)),
            weight=np.ones(1),
            values={name: of_pools[[pool]] for name, of_pools in values.items()},
            n_groups=int(stores),
        )
        for pool, stores in enumerate(sketch.n_groups)
    ]
