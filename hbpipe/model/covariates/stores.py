"""Stores with covariates at nodes of their pool's hyperparameters.

At a node a pool's coefficients are known, or normal around a mean; a store's prior mean then is
g⁻¹(x'b), with the variance (slope of g⁻¹)² x'Cx by the delta method, exactly for normal families.

Values at S nodes: ``coefficients`` (S, P); ``spread`` (S,), A at location 0 in units of one
observation's variance; ``noise`` (S,), the within-store variance σ², 1 for families without it;
and where something is left open within a node, ``remaining`` (S, P, P), the covariance of the
coefficients, and of ``first_order`` nodes ``spread_variance`` (S,) and ``spread_covariance``
(S, P), those of log A and with it.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from hbpipe.model.distributions.condense import condensed
from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.family import Array, Description, Family, Statistics
from hbpipe.model.geometry import Geometry, geometry_of
from hbpipe.model.integration.sampling import Conditional, NodeValues, Predictive, StoreUpdate
from hbpipe.model.update.deviation import deviation
from hbpipe.model.update.predictive import mix_predictive, predictive_moments
from hbpipe.model.update.shrink import NodeRows, node_moments

#: With more nodes than this, predictive counts are those of a few laws that stand for all.
_MANY = 64


def store_update(base: Family) -> StoreUpdate:
    """Return the slot ``sampling`` of a base family with covariates."""
    return StoreUpdate(
        conditional=partial(_of_statistics, base),
        deviation=partial(_deviation, base),
        predict=partial(_predict, base),
    )


def _of_statistics(base: Family, statistics: Statistics, nodes: NodeValues) -> Conditional:
    geometry = geometry_of(base)
    size, raw = geometry.sizes(statistics)
    x = np.asarray(statistics["covariates"], np.float64)
    return conditional(geometry, nodes, size, raw, x)


def _deviation(base: Family, statistics: Statistics, nodes: NodeValues) -> Conditional:
    geometry = geometry_of(base)
    size, raw = geometry.sizes(statistics)
    rows = _rows(geometry, nodes, np.asarray(statistics["covariates"], np.float64))
    parameters, at = deviation(geometry, rows, size, raw)
    mean, sd = geometry.law.mean_sd(*parameters)
    return Conditional(
        law=geometry.law,
        parameters=tuple(values[:, :, None] for values in parameters),
        mean=mean[:, :, None],
        variance=np.square(sd)[:, :, None],
        weight=np.ones_like(at)[:, :, None],
        prior_mean=at[:, :, None],
    )


def conditional(
    geometry: Geometry, nodes: NodeValues, size: Array, raw: Array, covariates: Array
) -> Conditional:
    """Posteriors of stores with sizes and raw estimates (J,) and covariates (J, P)."""
    rows = _rows(geometry, nodes, covariates)
    moments = node_moments(geometry, rows, size, raw)
    mean, variance, weight, prior_mean = (
        np.broadcast_to(values, moments.mean.shape)[:, :, None]
        for values in (moments.mean, moments.variance, moments.weight, rows.location)
    )
    return Conditional(
        law=geometry.law,
        parameters=geometry.law.from_moments(mean, variance),
        mean=mean,
        variance=variance,
        weight=weight,
        prior_mean=prior_mean,
    )


def _rows(geometry: Geometry, nodes: NodeValues, x: Array) -> NodeRows:
    """Nodes as stores with covariates (J, P) see them, (J, S)."""
    line = _lines(x, nodes["coefficients"])
    location = geometry.mean(line)
    slope, follows = geometry.slope(location), geometry.spread_follows
    own = spread_variance = covariance = np.zeros((1, len(line[0])))
    if "remaining" in nodes:
        own = np.einsum("jp,spq,jq->js", x, nodes["remaining"], x)
    if "spread_variance" in nodes:
        along = _lines(x, nodes["spread_covariance"])
        spread_variance = nodes["spread_variance"] + follows * (2.0 * along + follows * own)
        covariance = slope * (along + follows * own)
    return NodeRows(
        weight=np.ones((1, 1)),
        spread=nodes["spread"] * np.exp(follows * line),
        location=location,
        location_variance=slope**2 * own,
        noise=nodes["noise"][None],
        spread_variance=spread_variance,
        covariance=covariance,
    )


def _lines(x: Array, coefficients: Array) -> Array:
    """X'b of stores (J, P) at coefficients (S, P), (J, S), in the order of the columns.

    A plain sum: its bits depend on the row alone, and not on how many rows there are.
    """
    line = x[:, 0, None] * coefficients[:, 0]
    for p in range(1, x.shape[1]):
        line = line + x[:, p, None] * coefficients[:, p]
    return np.asarray(line)


def _predict(base: Family, found: Conditional, nodes: NodeValues, exposure: Array) -> Predictive:
    """Predict the next observation of stores of the given exposure (J,)."""
    geometry, noise = geometry_of(base), nodes["noise"]
    mean, variance = predictive_moments(
        geometry, found.mean[..., 0], found.variance[..., 0], noise, exposure[:, None]
    )
    parameters = tuple(values[..., 0] for values in found.parameters)

    def mixed(weight: Array, levels: Array) -> Description:
        laws, shares = parameters, np.broadcast_to(weight, mean.shape)
        if geometry.law is not NORMAL and len(weight) > _MANY:
            # A sum over counts for every node of thousands would be long.
            few = condensed(geometry.law, weight, parameters)
            laws, shares = few.parameters, few.weight
        # A posterior has the names of the first hyperparameters, in the order of its law.
        parts = dict(zip(base.hyperparameters, laws, strict=False))
        known = {"sigma": np.sqrt(noise)}
        return mix_predictive(base, parts, shares, exposure, known, levels)

    return Predictive(mean, variance, mixed)
