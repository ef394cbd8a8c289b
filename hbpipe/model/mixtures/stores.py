"""Stores under a mixture of conjugate laws at nodes of their pool's hyperparameters.

Values at S nodes, with K components each: ``mu``, ``spread`` (A in units of one observation's
variance) and ``proportion``, (S, K), and the parameters of the components' laws. Where the pool has
a single law K is 1, and what is left open within a node comes with it: ``location_variance``
(S, 1), and of ``first_order`` nodes ``spread_variance`` and ``covariance`` (S, 1), as in
:class:`hbpipe.model.integration.nodes.Nodes`.

With ``refits`` (S, B, K), proportions that were estimated B times, a store's probabilities of
components are averages over these.

The weight of a store's own data is Σ_k r_k B_k, with r_k the posterior probability that the store
is of component k and B_k = nA_k/(1 + nA_k): its mean is Σ_k r_k (B_k raw + (1 − B_k) m_k). The
prior mean is Σ_k w_k m_k, what is expected of a store before it has data.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from scipy import special

from hbpipe.model.distributions.condense import condensed
from hbpipe.model.distributions.laws import BETA, GAMMA, NORMAL
from hbpipe.model.family import Array, Description, Family, Prior, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.sampling import Conditional, NodeValues, Predictive
from hbpipe.model.mixtures.evidence import log_evidence
from hbpipe.model.update.deviation import deviation as beside_prior_mean
from hbpipe.model.update.predictive import mix_predictive, predictive_moments
from hbpipe.model.update.shrink import NodeRows, node_moments

#: With more laws than this, predictive counts are those of a few that stand for all.
_MANY = 64
#: A sum of likelihoods below this has lost digits.
_LOST = 1e-250


def prior_at(base: Family, line: Array, spread: Array) -> Prior:
    """Parameters of the conjugate law with this location on its line, and this spread A."""
    law = geometry_of(base).law
    if law is BETA:
        return {"alpha": special.expit(line) / spread, "beta": special.expit(-line) / spread}
    if law is GAMMA:
        return {"shape": np.exp(line) / spread, "rate": 1.0 / spread}
    return {"mu": np.asarray(line), "tau": np.sqrt(spread)}


def slots(base: Family) -> dict[str, Any]:
    """Return the functions of a :class:`hbpipe.model.integration.sampling.StoreUpdate`."""
    return {
        "conditional": partial(conditional, base),
        "deviation": partial(_deviation, base),
        "predict": partial(_predict, base),
    }


def conditional(base: Family, statistics: Statistics, nodes: NodeValues) -> Conditional:
    """Posteriors of ``J`` stores at ``S`` nodes."""
    geometry = geometry_of(base)
    size, raw = geometry.sizes(statistics)
    each = node_moments(geometry, _rows(nodes), size, raw)
    share = _responsibilities(base, statistics, nodes)
    stores, (count, components) = len(size), nodes["mu"].shape
    shape = (stores, count, components)
    mean, variance, own = (
        np.broadcast_to(values, (stores, count * components)).reshape(shape)
        for values in (each.mean, each.variance, each.weight)
    )
    centre = np.sum(share * mean, axis=2)
    spread = np.sum(share * (variance + np.square(mean - centre[:, :, None])), axis=2)
    prior_mean = np.sum(nodes["proportion"] * nodes["mu"], axis=1)
    laws = geometry.law.from_moments(_in_a_row(mean), _in_a_row(variance))
    return Conditional(
        law=geometry.law,
        parameters=tuple(values[:, :, None] for values in laws),
        mean=centre[:, :, None],
        variance=spread[:, :, None],
        weight=np.sum(share * own, axis=2)[:, :, None],
        prior_mean=np.broadcast_to(prior_mean, centre.shape)[:, :, None],
        share=None if components == 1 else share,
    )


def _in_a_row(values: Array) -> Array:
    """Put the components of a node next to each other, (J, S, K) -> (J, S K)."""
    return values.reshape(len(values), -1)


def _rows(nodes: NodeValues) -> NodeRows:
    """Each component of each node as a node of the scalar scheme, (1, S K)."""
    flat = {name: values.reshape(1, -1) for name, values in nodes.items() if values.ndim == 2}
    nothing = np.zeros((1, 1))
    return NodeRows(
        weight=np.ones((1, 1)),
        spread=flat["spread"],
        location=flat["mu"],
        location_variance=flat.get("location_variance", nothing),
        noise=np.ones((1, 1)),
        spread_variance=flat.get("spread_variance", nothing),
        covariance=flat.get("covariance", nothing),
    )


def _responsibilities(base: Family, statistics: Statistics, nodes: NodeValues) -> Array:
    """Posterior probability of each component, (J, S, K)."""
    stores, shape = len(statistics[base.statistics[0].name]), nodes["mu"].shape
    if shape[1] == 1:
        return np.ones((stores, *shape))
    own = {name: np.asarray(values)[:, None, None] for name, values in statistics.items()}
    prior = {name: nodes[name] for name in _law_names(base)}
    evidence = log_evidence(base, own, prior)
    if "refits" in nodes:
        return _average_responsibilities(evidence, nodes["refits"])
    with np.errstate(divide="ignore"):
        log_weight = np.log(nodes["proportion"]) + evidence
    return np.asarray(special.softmax(log_weight, axis=2))


def _average_responsibilities(log_evidence: Array, refits: Array) -> Array:
    """Average over B refits of the proportions, (J, S, K) and (S, B, K) -> (J, S, K).

    Refit by refit, so that a row's bits do not depend on other rows.
    """
    likelihood = np.exp(log_evidence - log_evidence.max(axis=2, keepdims=True))
    found = np.zeros_like(likelihood)
    for proportion in np.moveaxis(refits, 1, 0):
        each = proportion * likelihood
        total = np.sum(each, axis=2, keepdims=True)
        lost = np.flatnonzero(np.any(total < _LOST, axis=(1, 2)))
        if len(lost):  # the components of these stores have next to no weight in this refit
            with np.errstate(divide="ignore"):
                log_weight = np.log(proportion) + log_evidence[lost]
            each[lost], total[lost] = special.softmax(log_weight, axis=2), 1.0
        found += each / total
    return np.asarray(found / refits.shape[1])


def _law_names(base: Family) -> tuple[str, ...]:
    return tuple(prior_at(base, np.zeros(1), np.ones(1)))


def _deviation(base: Family, statistics: Statistics, nodes: NodeValues) -> Conditional:
    """Posteriors beside the prior mean: known at a node, but for a single law's."""
    if nodes["mu"].shape[1] > 1:
        return conditional(base, statistics, nodes)
    geometry = geometry_of(base)
    size, raw = geometry.sizes(statistics)
    parameters, at = beside_prior_mean(geometry, _rows(nodes), size, raw)
    mean, sd = geometry.law.mean_sd(*parameters)
    return Conditional(
        law=geometry.law,
        parameters=tuple(values[:, :, None] for values in parameters),
        mean=mean[:, :, None],
        variance=np.square(sd)[:, :, None],
        weight=np.ones_like(at)[:, :, None],
        prior_mean=at[:, :, None],
    )


def _predict(base: Family, found: Conditional, nodes: NodeValues, exposure: Array) -> Predictive:
    """Predict the next observation of stores of the given exposure (J,)."""
    geometry = geometry_of(base)
    mean, variance = predictive_moments(
        geometry, found.mean[..., 0], found.variance[..., 0], np.ones(1), exposure[:, None]
    )
    laws = tuple(values[..., 0] for values in found.parameters)

    def mixed(weight: Array, levels: Array) -> Description:
        shares = np.broadcast_to(found.law_weight(weight), laws[0].shape)
        parameters = laws
        if geometry.law is not NORMAL and shares.shape[1] > _MANY:
            # A sum over counts for every law of thousands would be long.
            few = condensed(geometry.law, shares, laws)
            shares, parameters = few.weight, few.parameters
        parts = dict(zip(_law_names(base), parameters, strict=True))
        return mix_predictive(base, parts, shares, exposure, {}, levels)

    return Predictive(mean, variance, mixed)
