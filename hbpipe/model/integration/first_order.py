"""First-order posterior of the hyperparameters (Kass and Steffey 1989).

The posterior of (location, log spread) is taken as normal around its mode; each store's mean is
linearised there. It is right for large pools, where one node replaces many, and wrong where the
spread is uncertain; ``curvature`` says which. The mode is in log τ, Jacobian included, so it
cannot sit at "no spread".
"""

from __future__ import annotations

import numpy as np

from hbpipe.model.family import Array
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD
from hbpipe.model.integration.nodes import Nodes, single_nodes
from hbpipe.model.integration.peak import Peak, conditional, laplace
from hbpipe.model.integration.target import Target


def first_order_nodes(target: Target, peak: Peak) -> Nodes:
    """One node for each pool, with the variance of location and log spread around it.

    Where the Hessian at the mode is not negative definite there is no such normal law; the
    covariance is then that of a unit curvature and ``curvature`` is 0.
    """
    geometry = target.geometry
    point = marginal_mode(target, peak) if SPREAD in target.free else peak.point
    location = geometry.mean(point[:, LOCATION])
    slope = geometry.slope(location)
    noise = np.exp(2.0 * point[:, NOISE]) if geometry.has_noise else np.ones(target.n_pools)
    return single_nodes(
        target.family.name,
        "first_order",
        spread=np.exp(point[:, SPREAD]),
        location=location,
        noise=noise,
        n_groups=np.asarray(target.sketch.n_groups),
        location_variance=slope**2 * peak.covariance[:, LOCATION, LOCATION],
        spread_variance=peak.covariance[:, SPREAD, SPREAD],
        covariance=slope * peak.covariance[:, LOCATION, SPREAD],
        curvature=peak.curvature,
    )


def marginal_mode(target: Target, peak: Peak) -> Array:
    """Move from the joint mode to that of log A with the other variables integrated.

    By Laplace's method the marginal differs from the profile by −½ log |−H| of the others; one
    Newton step along log A accounts for its slope (Tierney and Kadane 1986).
    """
    centre = peak.point[:, SPREAD]

    def marginal(x: Array) -> Array:
        _, jet = conditional(target, peak.point, x, precise=True)
        return laplace(target, jet)

    variance = peak.covariance[:, SPREAD, SPREAD]
    step = np.where(peak.regular, np.sqrt(variance), 1.0) * 0.5
    slope = (marginal(centre + step) - marginal(centre - step)) / (2.0 * step)
    moved = centre + np.clip(slope * variance, -2.0 * step, 2.0 * step)
    point, _ = conditional(target, peak.point, moved, precise=True)
    return point
