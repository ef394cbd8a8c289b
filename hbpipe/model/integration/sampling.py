"""What integration over more than two hyperparameters needs to know of a family.

Families whose posterior fits the scalar scheme of ``geometry.py`` are integrated on a grid. The
others (coefficients of a regression with their covariance, a variance per store) give a
:class:`Sampling`: the log posterior of the hyperparameters of one pool as a function of many
points, and the conjugate posteriors of stores at many nodes. Families with covariates on the
prior mean find their nodes together (``covariates/posterior.py``) and give the latter alone, a
:class:`StoreUpdate`.

Shapes: ``S`` points or nodes, ``V`` working variables, ``J`` stores, ``T`` terms of a store
(its coefficients; one, θ, in most families), ``Q`` quantile levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.distributions.laws import Law
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array, Description, Family, Statistics

#: What a worker must know of each node: name -> (S, ...).
NodeValues: TypeAlias = Mapping[str, Array]


class HyperTarget(Protocol):
    """The posterior density of the hyperparameters of one pool."""

    @property
    def names(self) -> tuple[str, ...]:
        """The ``V`` free working variables.

        Each runs over the whole line: logarithms of sds, logits, atanh of correlations.
        """

    @property
    def spreads(self) -> tuple[int, ...]:
        """Numbers of the variables that are log sds between stores, half the log of a variance.

        ``auto`` looks at their curvature.
        """

    @property
    def start(self) -> Array:
        """The point estimate, (V,), finite also where the estimate is on a bound.

        There it is so far out that posteriors of stores no longer change.
        """

    def log_density(self, points: Array) -> Array:
        """Log of marginal likelihood × hyperprior × Jacobian, (S, V) -> (S,).

        Locations are integrated out where that is analytic. −∞ is allowed, NaN is not. The value
        at a point does not depend on the other points.
        """

    def nodes(self, points: Array) -> dict[str, Array]:
        """Return what a worker must know of each point, (S, V) -> name -> (S, ...)."""


@dataclass(frozen=True)
class Conditional:
    """Posteriors of ``J`` stores at ``S`` nodes, for each of ``T`` terms.

    Parameters
    ----------
    law, parameters
        The marginal law of a term, and its parameters in the order of the law, (J, S, T) each.
        Where a posterior at a node is a mixture of K such laws, (J, S K, T): those of a node next
        to each other.
    mean, variance
        Its moments, (J, S, T); what is left of the uncertainty of an analytic location is in
        them, and in the parameters.
    weight
        The share of the store's own data in the mean, (J, S, T).
    prior_mean
        What it is shrunk to, (J, S, T).
    covariance
        (J, S, T, T) where there are several terms; a function that gives it where terms may be
        many, and few ask.
    noise
        (J, S) what a store's next observation varies by about θ, where ``predict`` cannot tell it
        from the node: a squared scale, or a variance.
    share
        (J, S, K) the weight of each law at its node; None where there is one.
    mixture
        Weights of the nodes (S,) -> the posteriors over all nodes, of a family that has them
        otherwise than node by node; its only term is θ.
    has_mean, has_prior_mean
        (J,) whether the averages of ``mean`` and ``variance``, and of ``prior_mean``, over the
        hyperparameters exist; None where all do. Where they do not they are ∞: an average over
        nodes is a number all the same, and says nothing.
    """

    law: Law
    parameters: tuple[Array, ...]
    mean: Array
    variance: Array
    weight: Array
    prior_mean: Array
    covariance: Array | Callable[[], Array] | None = None
    noise: Array | None = None
    share: Array | None = None
    mixture: Callable[[Array], StoreMixture] | None = None
    has_mean: NDArray[np.bool_] | None = None
    has_prior_mean: NDArray[np.bool_] | None = None

    def law_weight(self, weight: Array) -> Array:
        """Weight of each law, (S,), or (J, S K) where stores differ, from those of nodes (S,)."""
        if self.share is None:
            return weight
        both = weight[:, None] * self.share
        return both.reshape(len(both), -1)


class StoreMixture(Protocol):
    """Posteriors of ``J`` stores over all nodes of their pool."""

    def quantiles(self, levels: Array) -> Array:
        """Quantiles, (J, Q)."""

    def cdf(self, points: Array) -> Array:
        """Posterior probability that θ is at most the store's point (J,), (J,)."""

    def below_prior_mean(self) -> Array:
        """Probability that θ is at most its prior mean at the node, (J,)."""

    def few(self) -> Mixture:
        """Few laws of a monotone function of θ that stand for each posterior in comparisons."""


@dataclass(frozen=True)
class Predictive:
    """The next observation of ``J`` stores at ``S`` nodes.

    Parameters
    ----------
    mean, variance
        (J, S); (J, S, T) where each term has a prediction of its own.
    mixed
        (weights of the nodes (S,), levels (Q,)) -> Description of the mixture over nodes: mean
        and sd (J,) or (J, T), quantiles (J, Q) or (J, T, Q), cdf.
    has_mean
        As of :class:`Conditional`.
    """

    mean: Array
    variance: Array
    mixed: Callable[[Array, Array], Description]
    has_mean: NDArray[np.bool_] | None = None


def theta(statistics: Statistics) -> tuple[str, ...]:
    """Name the only term of most families."""
    return ("theta",)


def any_store(sketch: Any, held: Array) -> NDArray[np.bool_]:
    """Whether a pool has a store with data, (G,)."""
    return np.asarray(np.asarray(sketch.n_groups) > 0)


@dataclass(frozen=True, kw_only=True)
class StoreUpdate:
    """How stores are updated at nodes of the hyperparameters.

    Parameters
    ----------
    conditional
        (statistics of J stores, values at S nodes) -> Conditional. A store's numbers do not depend
        on the other stores, bit for bit. Nodes at no spread and stores without data are ordinary.
    predict
        (conditional, nodes, exposure (J,)) -> Predictive.
    terms
        Statistics -> names of the terms of a store.
    many_terms
        Whether terms may be hundreds, so that their covariances are computed only when asked for.
    deviation
        As ``conditional``, of each term beside its prior mean m: laws with the variance of θ − m,
        whose cdf at ``prior_mean`` is P(θ ≤ m) at the node. None where m is known at a node, and
        ``conditional`` says that as it is.
    """

    conditional: Callable[[Statistics, NodeValues], Conditional]
    predict: Callable[[Conditional, NodeValues, Array], Predictive]
    terms: Callable[[Statistics], tuple[str, ...]] = theta
    many_terms: bool = False
    deviation: Callable[[Statistics, NodeValues], Conditional] | None = None


@dataclass(frozen=True, kw_only=True)
class Sampling(StoreUpdate):
    """The same, and how nodes are found pool by pool.

    Parameters
    ----------
    target
        (sketch of one pool, hyperprior, held coordinates (D,), NaN where free, point estimate
        (D,)) -> :class:`HyperTarget`, whose ``nodes`` gives the values at nodes. It raises
        FitError for a hyperprior that does not fit the family or leaves the posterior improper.
    integrable
        (sketch, held coordinates (G, D), NaN where free) -> for which pools, (G,), the data give
        a proper posterior under a proper hyperprior.
    representatives
        Sketch of one pool -> statistics of a few of its stores, the smallest, the largest and
        one without data among them, whose limits decide when there are nodes enough. Without it
        mean and sd of the working variables do.
    on_a_line
        Whether one variable is all that is left: it is integrated by a trapezoidal rule.
    """

    target: Callable[[Any, Any, Array, Array], HyperTarget]
    integrable: Callable[[Any, Array], NDArray[np.bool_]] = any_store
    representatives: Callable[[Any], dict[str, NDArray[Any]]] | None = None
    on_a_line: bool = False


def store_update(family: Family) -> StoreUpdate:
    """Return the slot ``sampling`` of a family.

    Raises
    ------
    FitError
        If the family has none.
    """
    if family.sampling is not None:
        return family.sampling
    raise FitError(
        f"sampling of hyperparameters is not defined for {family.name!r}",
        expected="a family with the slot `sampling`",
        remedy="use the family's update and describe at the hyperparameters of the fit",
    )
