"""Posterior predictive of stores whose posterior is a mixture over nodes."""

from __future__ import annotations

from typing import Any

import numpy as np

from hbpipe.model.distributions.discrete import (
    describe_beta_binomial_mixture,
    describe_negative_binomial_mixture,
)
from hbpipe.model.distributions.laws import BETA, GAMMA, NORMAL
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array, Description, Family, Prior
from hbpipe.model.geometry import Geometry, geometry_of


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
    if law is GAMMA:
        shape, rate = posterior.values()
        return describe_negative_binomial_mixture(shape, rate, exposure, weight, levels)
    parts = family.predict(posterior, exposure[:, None], hyperparameters, levels[:0])
    mixture = Mixture(law, np.broadcast_to(weight, parts.mean.shape), (parts.mean, parts.sd))
    mean, variance = mixture.moments()

    def cdf(points: Any) -> Array:
        return mixture.cdf(np.broadcast_to(np.asarray(points, np.float64), mean.shape))

    return Description(mean, np.sqrt(variance), mixture.quantiles(levels), cdf)


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
