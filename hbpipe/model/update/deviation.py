"""Stores beside their prior mean m at a node, where m may be uncertain.

What is left open within a node moves θ − m by −(1 − B) for each unit of m, and by
B (1 − B)(raw − m) for each unit of log A (notation of ``shrink``; Kass and Steffey 1989).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hbpipe.model.distributions.laws import NORMAL, Parameters
from hbpipe.model.family import Array
from hbpipe.model.geometry import Geometry
from hbpipe.model.update.shrink import LARGEST_SHARE, NodeRows, node_moments

#: A variance is not taken to be less than this share of the squared mean: beside that no float
#: tells θ from m, and the probability is 1/2 as it should be.
_LEAST = 1e-15


def deviation(
    geometry: Geometry, nodes: NodeRows, size: Array, raw: Array
) -> tuple[Parameters, Array]:
    """Return laws and points, (J, K) each, at which their cdf is P(θ ≤ m) at a node.

    A law has the variance of θ − m. Of normal ones the mean is taken off, so that it does not
    cancel where there is little spread.
    """
    nothing = np.zeros((1, 1))
    known = replace(nodes, location_variance=nothing, spread_variance=nothing, covariance=nothing)
    moments = node_moments(geometry, known, size, raw)
    own, location = moments.weight, np.broadcast_to(nodes.location, moments.mean.shape)
    slope = own * (1.0 - own) * (raw[:, None] - location)
    variance = (
        moments.variance
        + own**2 * nodes.location_variance
        + slope**2 * nodes.spread_variance
        - 2.0 * own * slope * nodes.covariance
    )
    if geometry.law is NORMAL:
        offset = own * np.where(own > 0, raw[:, None] - location, 0.0)
        return geometry.law.from_moments(offset, np.maximum(variance, 1e-300)), np.zeros_like(
            offset
        )
    variance = np.maximum(variance, _LEAST * moments.mean**2)
    if geometry.variance[2] < 0:
        variance = np.minimum(variance, LARGEST_SHARE * moments.mean * (1.0 - moments.mean))
    return geometry.law.from_moments(moments.mean, variance), location
