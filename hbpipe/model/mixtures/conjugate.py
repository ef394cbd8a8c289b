"""The algebra of a prior that is a finite mixture of a family's conjugate laws.

    p(θ) = Σ_k w_k p(θ | η_k)

with p(θ | η) the family's conjugate law. Given a store's data each component is updated by itself,
and its weight by what the data say of it (DuMouchel 1999, *The American Statistician* 53; Diaconis
and Ylvisaker 1985):

    p(θ | data) = Σ_k w'_k p(θ | η'_k),   w'_k ∝ w_k exp(A(η'_k) − A(η_k))

So prior and posterior are the same type: the parameters of the family's law with an axis of ``K``
components at the end, and beside them ``log_weight`` (..., K), log w_k plus the log evidence that
the data so far gave component k. It is not normalised, and A(mixture) = log Σ_k exp(log_weight_k)
is the log marginal of the data but for their base measure. The weights at present are the
*responsibilities*, exp(log_weight − A).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.distributions.laws import NORMAL, Law
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array, Description, Family, Hyperparameters, Prior, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.mixtures.evidence import conjugate_law
from hbpipe.model.update.predictive import mix_predictive

#: The mixing proportions w among the hyperparameters, (..., K).
PROPORTION = "proportion"
#: Their logarithms with the log evidence, among the parameters of prior and posterior.
LOG_WEIGHT = "log_weight"
#: The sd of a normal component without spread, in units of what components differ by, and where
#: they do not: no sum with a number is another number.
_NARROW, _NARROWEST = 1e-8, 1e-100


@dataclass(frozen=True)
class ConjugateMixture:
    """Slots of the Family contract for mixtures of the conjugate laws of ``base``.

    Hyperparameters are the base family's with an axis of components at the end, and
    ``proportion``; statistics are the base family's, one entry per store.
    """

    base: Family

    def prior(self, hyperparameters: Hyperparameters) -> Prior:
        """Components and their log weights; what is a prior or posterior already stays as it is."""
        found = self.base.prior(hyperparameters)
        if LOG_WEIGHT in hyperparameters:
            return {**found, LOG_WEIGHT: np.asarray(hyperparameters[LOG_WEIGHT], np.float64)}
        with np.errstate(divide="ignore"):
            weight = np.log(np.asarray(hyperparameters[PROPORTION], np.float64))
        return {**found, LOG_WEIGHT: weight}

    def update(self, statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
        """Posterior of each store, (J, K)."""
        before = self.prior(hyperparameters)
        own = {name: np.asarray(values)[..., None] for name, values in statistics.items()}
        evidence = conjugate_law(self.base)(own, before)
        return {**self.base.update(own, before), LOG_WEIGHT: before[LOG_WEIGHT] + evidence}

    def log_normaliser(self, prior: Prior) -> Array:
        """Log Σ_k exp(log_weight_k), (...): 0 for a prior, the log evidence for a posterior."""
        return np.asarray(special.logsumexp(prior[LOG_WEIGHT], axis=-1))

    def describe(self, posterior: Prior, quantiles: Any) -> Description:
        """Mean, sd, quantiles and cdf of the store's θ."""
        levels = np.atleast_1d(np.asarray(quantiles, np.float64))
        shape, mixture = self._mixture(posterior)
        mean, variance = mixture.moments()
        limits = mixture.quantiles(levels) if len(levels) else np.empty((len(mean), 0))

        def cdf(points: Any) -> Array:
            at = np.broadcast_to(np.asarray(points, np.float64), shape).ravel()
            return mixture.cdf(at).reshape(shape)

        return Description(
            mean.reshape(shape), np.sqrt(variance).reshape(shape), limits.reshape(*shape, -1), cdf
        )

    def _mixture(self, posterior: Prior) -> tuple[tuple[int, ...], Mixture]:
        """Return the shape of the posteriors, and one mixture for each, in a row."""
        weight, components = self._components(posterior)
        flat = [np.reshape(values, (-1, weight.shape[-1])) for values in (weight, *components)]
        law = geometry_of(self.base).law
        return weight.shape[:-1], Mixture(law, flat[0], with_width(law, flat[1:]))

    def _components(self, posterior: Prior) -> tuple[Array, list[Array]]:
        """Weights, and the law's parameters in its order, of one shape (..., K)."""
        parts = [values for name, values in posterior.items() if name != LOG_WEIGHT]
        weight, *components = np.broadcast_arrays(responsibilities(posterior), *parts)
        return weight, components

    def predict(
        self, posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
    ) -> Description:
        """Predict the next observation of each store: the mixture of the base's predictions."""
        weight, components = self._components(posterior)
        names = [name for name in posterior if name != LOG_WEIGHT]
        amount = np.broadcast_to(np.asarray(exposure, np.float64), weight.shape[:-1])
        levels = np.atleast_1d(np.asarray(quantiles, np.float64))
        parts = dict(zip(names, components, strict=True))
        return mix_predictive(self.base, parts, weight, amount, {}, levels)

    def simulate(
        self,
        rng: np.random.Generator,
        hyperparameters: Hyperparameters,
        n_stores: int,
        size: int | NDArray[Any],
        **options: Any,
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
        """Draw the component of each store, and its events from that."""
        prior = self.prior(hyperparameters)
        chosen = rng.choice(len(prior[LOG_WEIGHT]), n_stores, p=responsibilities(prior))
        own = {name: values[chosen] for name, values in _without_weight(prior).items()}
        return self.base.simulate(rng, own, n_stores, size, **options)


def with_width(law: Law, parameters: Sequence[Array]) -> tuple[Array, ...]:
    """Give a component without spread, a point, the width that a density must have."""
    if law is not NORMAL:
        return tuple(parameters)
    mean, sd = parameters
    apart = np.max(np.abs(mean - mean[:, :1]) + sd, axis=1, keepdims=True)
    return mean, np.maximum(sd, np.maximum(_NARROW * apart, _NARROWEST))


def _without_weight(prior: Prior) -> Mapping[str, Array]:
    return {name: values for name, values in prior.items() if name != LOG_WEIGHT}


def responsibilities(prior: Prior) -> Array:
    """Posterior probability that a store is of each component, (..., K), adding to one."""
    return np.asarray(special.softmax(prior[LOG_WEIGHT], axis=-1))
