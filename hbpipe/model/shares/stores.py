"""Posteriors of stores' shares at many nodes of the concentration.

At a node (A = 1/M, mean shares with means m and variances v) a store's share of class k has

    mean μ' = (m + A y)/(1 + nA),   variance [A μ'(1 − μ') + v/(1 + nA)]/(1 + (n + 1)A)

by the laws of total mean and variance, and the Beta law with these moments. v is what is not known
of the mean (Kass and Steffey 1989); without it this is the marginal of the Dirichlet posterior.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hbpipe.model.distributions.condense import with_moments
from hbpipe.model.distributions.discrete import describe_beta_binomial_mixture
from hbpipe.model.distributions.laws import BETA
from hbpipe.model.family import Array, Description, Statistics
from hbpipe.model.integration.sampling import Conditional, NodeValues, Predictive
from hbpipe.model.shares.mean import total_pull

#: A variance is not taken to be less than this share of the squared mean, beside which no float
#: tells θ from m.
_LEAST = 1e-15


def conditional(statistics: Statistics, nodes: NodeValues) -> Conditional:
    """Beta laws of the shares of ``J`` stores at ``S`` nodes, (J, S, K)."""
    counts = np.asarray(statistics["counts"], np.float64)[:, None, :]
    total = counts.sum(axis=2, keepdims=True)
    spread = nodes["spread"][:, None]
    own = total * spread
    mean = (nodes["mean"] + counts * spread) / (1.0 + own)
    noise = spread * mean * (1.0 - mean)
    variance = (noise + nodes["mean_variance"] / (1.0 + own)) / (1.0 + own + spread)
    return Conditional(
        law=BETA,
        parameters=with_moments(BETA, mean, variance),
        mean=mean,
        variance=variance,
        weight=np.broadcast_to(own / (1.0 + own), mean.shape),
        prior_mean=np.broadcast_to(nodes["mean"], mean.shape),
        covariance=lambda: _covariance(mean, variance, own, nodes),
    )


def deviation(statistics: Statistics, nodes: NodeValues) -> Conditional:
    """Return the same of shares less their mean m, which moves θ − m by −nA/(1 + nA).

    The laws have the means of the shares and the variances of θ − m.
    """
    found = conditional(statistics, nodes)
    spread, unknown = nodes["spread"][:, None], nodes["mean_variance"]
    share = 1.0 - found.weight  # of the mean, 1/(1 + nA)
    noise = found.mean * (1.0 - found.mean) - np.square(share) * unknown
    within = spread * share * noise / (1.0 + spread * share)
    variance = within + np.square(found.weight) * unknown
    variance = np.maximum(variance, _LEAST * np.square(found.mean))
    return replace(
        found,
        parameters=with_moments(BETA, found.mean, variance),
        variance=variance,
        covariance=None,
    )


def _covariance(mean: Array, variance: Array, own: Array, nodes: NodeValues) -> Array:
    """Covariance of the shares, (J, S, K, K): that of the Dirichlet law, and of the mean."""
    spread = nodes["spread"][:, None, None]
    of_mean = _covariance_of_mean(nodes)
    shrunk = 1.0 + own[..., None]
    product = mean[..., :, None] * mean[..., None, :]
    found = (of_mean / shrunk - spread * product) / (shrunk + spread)
    place = np.arange(mean.shape[2])
    found[..., place, place] = variance
    return np.asarray(found)


def _covariance_of_mean(nodes: NodeValues) -> Array:
    """(S, K, K), with the variances that the nodes give on its diagonal."""
    mean, information, variance = nodes["mean"], nodes["information"], nodes["mean_variance"]
    pull = mean / information
    linear = -(mean * pull)[:, :, None] * (mean * pull)[:, None, :]
    linear = linear / total_pull(mean, information)[:, None, None]
    place = np.arange(mean.shape[1])
    linear[:, place, place] += mean * pull
    unit = linear[:, place, place]
    part = np.sqrt(np.divide(variance, unit, out=np.zeros_like(unit), where=unit > 0))
    return np.asarray(linear * part[:, :, None] * part[:, None, :])


def terms(statistics: Statistics) -> tuple[str, ...]:
    """Name the shares: theta[0] and so on, in the order of the classes."""
    return tuple(f"theta[{k}]" for k in range(np.shape(statistics["counts"])[1]))


def predict(posterior: Conditional, nodes: NodeValues, exposure: Array) -> Predictive:
    """Predict each class among ``exposure`` (J,) further events: Beta-Binomial at each node."""
    alpha, beta = posterior.parameters
    n = np.asarray(exposure, np.float64)[:, None, None]
    whole = alpha + beta
    mean = n * posterior.mean
    variance = mean * (1.0 - posterior.mean) * (whole + n) / (whole + 1.0)
    stores, _, size = mean.shape

    def mixed(weight: Array, levels: Array) -> Description:
        each, rest = (np.moveaxis(x, 1, 2).reshape(stores * size, -1) for x in (alpha, beta))
        trials = np.repeat(np.asarray(exposure, np.float64), size)
        flat = describe_beta_binomial_mixture(trials, each, rest, weight[None], levels)

        def cdf(points: Array | float) -> Array:
            at = np.broadcast_to(np.asarray(points, np.float64), (stores, size))
            return flat.cdf(at.ravel()).reshape(stores, size)

        return Description(
            flat.mean.reshape(stores, size),
            flat.sd.reshape(stores, size),
            flat.quantiles.reshape(stores, size, -1),
            cdf,
        )

    return Predictive(mean, variance, mixed)
