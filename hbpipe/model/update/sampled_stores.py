"""Posteriors of the stores of one pool, mixed over sampled nodes of the hyperparameters.

Mean and variance over nodes are those of the law of total variance. Under ``first_order`` there
is one node, the centre, and the gradient of the mean along the hyperparameters adds its part to
the variance: Var = v + ∇m' Σ ∇m (Kass and Steffey 1989), by central differences along the axes
of Σ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.declarations import given
from hbpipe.model.distributions.condense import mixture_quantiles, with_moments
from hbpipe.model.distributions.laws import BETA
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.distributions.normal_score import quick_cdf
from hbpipe.model.family import Array, Description, Statistics
from hbpipe.model.integration.sampled_nodes import STEP, PoolNodes
from hbpipe.model.integration.sampling import Conditional, NodeValues, Predictive, StoreUpdate

#: A variance on (0, 1) is below mean (1 − mean); first order can overshoot that.
_LARGEST_SHARE = 0.98


@dataclass(frozen=True)
class StorePosterior:
    """Posteriors of ``J`` stores of one pool with ``T`` terms each, on ``S`` nodes.

    Parameters
    ----------
    conditional
        Posteriors at each node.
    weight
        (S,) of the nodes, adding to one.
    values
        What the nodes are, name -> (S, ...).
    """

    conditional: Conditional
    weight: Array
    values: NodeValues

    @staticmethod
    def of(
        sampling: StoreUpdate, nodes: PoolNodes, statistics: Statistics, *, deviation: bool = False
    ) -> StorePosterior:
        """Update stores with the nodes of their pool; ``deviation`` as of ``StoreUpdate``."""
        beside = sampling.deviation if deviation else None
        conditional = (beside or sampling.conditional)(statistics, nodes.values)
        if nodes.method != "first_order" or len(nodes.weight) == 1:
            return StorePosterior(conditional, nodes.weight, nodes.values)
        centre = {name: values[:1] for name, values in nodes.values.items()}
        moving = conditional.mean - conditional.prior_mean if deviation else conditional.mean
        return StorePosterior(_first_order(conditional, moving), np.ones(1), centre)

    @property
    def mean(self) -> Array:
        """(J, T); ∞ where it does not exist."""
        return _existing(self.conditional.has_mean, self.average(self.conditional.mean))

    @property
    def variance(self) -> Array:
        """(J, T); ∞ where it does not exist."""
        within, mean = self.conditional.variance, self.conditional.mean
        with np.errstate(over="ignore", invalid="ignore"):
            between = np.square(mean - self.average(mean)[:, None, :])
            return _existing(self.conditional.has_mean, self.average(within + between))

    @property
    def prior_mean(self) -> Array:
        """(J, T); ∞ where it does not exist."""
        average = self.average(self.conditional.prior_mean)
        return _existing(self.conditional.has_prior_mean, average)

    @property
    def covariance(self) -> Array:
        """(J, T, T)."""
        own = given(self.conditional.covariance)
        if own is None:
            return self.variance[:, :, None]
        offset = self.conditional.mean - self.mean[:, None, :]
        both = own + offset[:, :, :, None] * offset[:, :, None, :]
        stores, nodes, terms = offset.shape
        flat = self.average(both.reshape(stores, nodes, terms * terms))
        return flat.reshape(stores, terms, terms)

    def average(self, values: Array) -> Array:
        """Average over nodes, (J, S, T) -> (J, T)."""
        rows = np.sum(self.weight * _by_term(values), axis=1)
        return np.asarray(rows.reshape(len(values), -1))

    def quantiles(self, levels: Array) -> Array:
        """Quantiles of the mixtures of each term, (J, T, Q)."""
        if self.conditional.mixture is not None:
            return self.conditional.mixture(self.weight).quantiles(levels)[:, None, :]
        parameters = tuple(_by_term(values) for values in self.conditional.parameters)
        found = mixture_quantiles(self.conditional.law, self.law_weight, parameters, levels)
        return found.reshape(*self._shape, len(levels))

    def cdf(self, points: Array) -> Array:
        """Posterior probability that each term is at most its point, (J, T) -> (J, T)."""
        if self.conditional.mixture is not None:
            return self.conditional.mixture(self.weight).cdf(points[:, 0])[:, None]
        parameters = tuple(_by_term(values) for values in self.conditional.parameters)
        weight = np.broadcast_to(self.law_weight, parameters[0].shape)
        found = Mixture(self.conditional.law, weight, parameters).cdf(points.reshape(-1))
        return found.reshape(self._shape)

    def below_prior_mean(self) -> Array:
        """Probability that each term is at most its prior mean, (J, T), of a deviation."""
        at, (stores, nodes, terms) = self.conditional, self.conditional.mean.shape
        if at.mixture is not None:
            return at.mixture(self.weight).below_prior_mean()[:, None]
        laws = at.parameters[0].shape[1] // nodes
        point = np.repeat(at.prior_mean, laws, axis=1)
        rows = np.sum(self.law_weight * _by_term(quick_cdf(at.law, at.parameters, point)), axis=1)
        return np.asarray(rows.reshape(stores, terms))

    def predictive_moments(self, sampling: StoreUpdate, exposure: Array) -> tuple[Array, Array]:
        """Mean and sd of the next observation of the given exposure (J,), each (J,) or (J, T)."""
        law = self._predictive(sampling, exposure)
        weight = self.weight if law.mean.ndim == 2 else self.weight[:, None]
        mean = np.sum(weight * law.mean, axis=1)
        spread = law.variance + np.square(law.mean - mean[:, None])
        sd = np.sqrt(np.sum(weight * spread, axis=1))
        if law.has_mean is None:
            return mean, sd
        return np.where(law.has_mean, mean, np.inf), np.where(law.has_mean, sd, np.inf)

    def predict(self, sampling: StoreUpdate, exposure: Array, levels: Array) -> Description:
        """Describe the next observation of the given exposure (J,)."""
        return self._predictive(sampling, exposure).mixed(self.weight, levels)

    def _predictive(self, sampling: StoreUpdate, exposure: Array) -> Predictive:
        return sampling.predict(self.conditional, self.values, exposure)

    @property
    def law_weight(self) -> Array:
        """Weight of each law of the posteriors: (S,), or (J, S K) where stores differ."""
        return self.conditional.law_weight(self.weight)

    @property
    def _shape(self) -> tuple[int, int]:
        stores, _, terms = self.conditional.mean.shape
        return stores, terms


def _existing(exists: NDArray[np.bool_] | None, values: Array) -> Array:
    """Return values (J, T) of the stores that have them, ∞ of the others."""
    return values if exists is None else np.where(exists[:, None], values, np.inf)


def _by_term(values: Array) -> Array:
    """Nodes last, one row for each store and term: (J, S, T) -> (J T, S).

    Sums over nodes then run along memory, and their bits do not depend on the other rows.
    """
    return np.ascontiguousarray(np.moveaxis(values, 1, 2)).reshape(-1, values.shape[1])


def _first_order(nodes: Conditional, moving: Array) -> Conditional:
    """Posteriors at the centre alone, widened by the delta method by what moves, (J, S, T)."""
    axes = (moving.shape[1] - 1) // 2
    slope = (moving[:, 1 : axes + 1] - moving[:, axes + 1 :]) / (2.0 * STEP)
    mean = nodes.mean[:, :1]
    variance = nodes.variance[:, :1] + np.sum(slope**2, axis=1, keepdims=True)
    if nodes.share is not None:
        return _first_order_of_several(nodes, nodes.share, mean, variance)
    if nodes.law is BETA:
        variance = np.minimum(variance, _LARGEST_SHARE * mean * (1.0 - mean))
    at = tuple(values[:, :1] for values in nodes.parameters)
    return Conditional(
        law=nodes.law,
        parameters=with_moments(nodes.law, mean, variance, at),
        mean=mean,
        variance=variance,
        weight=nodes.weight[:, :1],
        prior_mean=nodes.prior_mean[:, :1],
        covariance=_first_order_covariance(nodes.covariance, slope),
        noise=None if nodes.noise is None else nodes.noise[:, :1],
    )


def _first_order_of_several(
    nodes: Conditional, share: Array, mean: Array, variance: Array
) -> Conditional:
    """Widen each law of the centre by what the variance (J, 1, T) of their mixture has gained."""
    laws = share.shape[2]
    at = tuple(values[:, :laws] for values in nodes.parameters)
    centre, sd = nodes.law.mean_sd(*at)
    wider = np.square(sd) + (variance - nodes.variance[:, :1])
    return Conditional(
        law=nodes.law,
        parameters=with_moments(nodes.law, centre, wider, at),
        mean=mean,
        variance=variance,
        weight=nodes.weight[:, :1],
        prior_mean=nodes.prior_mean[:, :1],
        share=share[:, :1],
    )


def _first_order_covariance(
    own: Array | Callable[[], Array] | None, slope: Array
) -> Array | Callable[[], Array] | None:
    """Covariance at the centre, and that of the slopes along the axes (J, V, T)."""
    if own is None:
        return None
    if callable(own):
        return lambda: _wider(own(), slope)
    return _wider(own, slope)


def _wider(covariance: Array, slope: Array) -> Array:
    between = np.sum(slope[:, :, :, None] * slope[:, :, None, :], axis=1, keepdims=True)
    return np.asarray(covariance[:, :1] + between)
