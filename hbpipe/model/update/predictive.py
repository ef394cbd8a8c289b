"""Posterior predictive of stores whose posterior is a mixture over nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from hbpipe.model.distributions.discrete import describe_beta_binomial_mixture
from hbpipe.model.distributions.laws import BETA, NORMAL
from hbpipe.model.family import Array, Description, Family, Prior
from hbpipe.model.geometry import Geometry, geometry_of

_BISECTIONS = 200


def mix_predictive(
    family: Family,
    posterior: Prior,
    weight: Array,
    exposure: Array,
    hyperparameters: dict[str, Array],
    levels: Array,
) -> Description:
    """Average the family's predictive over nodes.

    Parameters
    ----------
    family
        The family.
    posterior
        Components, name -> (J, K).
    weight
        (1, K) or (J, K), adding to one.
    exposure
        (J,) size of the next observation.
    hyperparameters
        Parameters of the likelihood at the nodes, broadcastable to (J, K).
    levels
        (Q,).

    Returns
    -------
    Description
        Mean and sd (J,), quantiles (J, Q), cdf of points (J,) or a number. For families of
        counts a quantile is the smallest count whose cdf reaches the level.
    """
    law = geometry_of(family).law
    if law is BETA:
        # No closed form to bisect on: one sum of the mixture's probabilities serves all levels.
        alpha, beta = posterior.values()
        return describe_beta_binomial_mixture(exposure, alpha, beta, weight, levels)
    parts = family.predict(posterior, exposure[:, None], hyperparameters, levels)
    mean = np.sum(weight * parts.mean, axis=1)
    spread = np.square(parts.sd) + (parts.mean - mean[:, None]) ** 2

    def cdf(points: Any) -> Array:
        at = np.broadcast_to(np.asarray(points, dtype=float), mean.shape)
        return np.asarray(np.sum(weight * parts.cdf(at[:, None]), axis=1))

    low, high = np.min(parts.quantiles, axis=1), np.max(parts.quantiles, axis=1)
    quantiles = np.stack(
        [
            _bisect(cdf, level, low[:, i], high[:, i], whole=law is not NORMAL)
            for i, level in enumerate(levels.tolist())
        ],
        axis=1,
    )
    return Description(mean, np.sqrt(np.sum(weight * spread, axis=1)), quantiles, cdf)


def predictive_moments(
    geometry: Geometry, mean: Array, variance: Array, noise: Array, exposure: Array
) -> tuple[Array, Array]:
    """Mean and variance of the next observation: N successes, a count, or a mean of N values.

    ``mean`` and ``variance`` are those of θ, ``noise`` the variance of a value (the exposure itself
    where it is the known variance of the next estimate); any shapes that broadcast.
    """
    v0, v1, v2 = geometry.variance
    if geometry.law is NORMAL:
        own = noise / exposure if geometry.has_noise else exposure
        return mean, variance + own
    within = v0 * noise + v1 * mean + v2 * (mean**2 + variance)
    return exposure * mean, exposure * within + exposure**2 * variance


def _bisect(cdf: Any, level: float, low: Array, high: Array, *, whole: bool) -> Array:
    """Find the quantile between the extreme ones of the components."""
    if whole:
        low = low - 1.0
    for _ in range(_BISECTIONS):
        gap = 1.0 if whole else 1e-14 * np.maximum(np.abs(low), np.abs(high))
        searching = high - low > gap
        if not searching.any():
            break
        middle = np.floor(0.5 * (low + high)) if whole else 0.5 * (low + high)
        reached = cdf(middle) >= level
        high = np.where(searching & reached, middle, high)
        low = np.where(searching & ~reached, middle, low)
    return high
