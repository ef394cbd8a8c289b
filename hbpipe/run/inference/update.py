"""The units of one shard updated by a worker: all that can be said of them without other shards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.identities import count_repeated_in_order
from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded
from hbpipe.model.covariates.ranks import Span
from hbpipe.model.family import Codes, Statistics
from hbpipe.model.pooling import no_pooling
from hbpipe.model.update.pools import PosteriorColumns, cdf_pools, update_pools
from hbpipe.model.update.prior_range import prior_range
from hbpipe.model.update.signs import false_sign_rates
from hbpipe.run.inference.coding import COVARIATES, known_units
from hbpipe.run.inference.fits import effective
from hbpipe.run.inference.posterior_rows import (
    NO_COVARIATES,
    NOT_ESTIMABLE,
    has_posterior,
    tally_posteriors,
)
from hbpipe.run.inference.tree import pool_codes
from hbpipe.run.inference.updated import Columns, MetricUpdate, ShardUpdate, UpdateOrder


def update_shard(order: UpdateOrder, folded: Folded) -> ShardUpdate:
    """Update every unit of a shard, metric by metric."""
    repeated = count_repeated_in_order(folded.keys)
    found = {metric.name: _update_metric(order, folded, metric) for metric in order.metrics}
    return {
        name: replace(units, tally=replace(units.tally, repeated=repeated))
        for name, units in found.items()
    }


def _update_metric(order: UpdateOrder, folded: Folded, metric: Metric) -> MetricUpdate:
    priors, own = order.priors[metric.name], folded.statistics[metric.name]
    codes = pool_codes(folded, order.levels, priors.levels, priors.pools)
    statistics = effective(metric, own, codes, priors.divisor)
    statistics, aside = _set_aside(statistics, codes, priors.span)
    posterior = _update(order, metric, statistics, codes)
    posterior.method[aside != ""] = aside[aside != ""]
    columns = _pooled(order, metric, statistics, codes, has_posterior(posterior))
    for name in ("complete_pooling", "complete_pooling_sd"):
        columns[name] = np.where(aside == "", columns[name].T, np.nan).T
    columns["raw"] = metric.model.raw_estimates(own)
    _, columns["n_effective"] = sizes(metric, folded, statistics, codes, priors.divisor)
    columns |= _below_target(order, metric, statistics, codes)
    columns |= _predicted(posterior)
    columns |= _false_signs(order, metric, statistics, codes, has_posterior(posterior))
    between = None if metric.terms else prior_range(priors.nodes, statistics, codes)
    tally = tally_posteriors(metric, folded, posterior, columns["raw"], between)
    return MetricUpdate(codes, statistics, posterior, columns, tally)


def _set_aside(
    statistics: Statistics, codes: NDArray[np.int64], span: Span | None
) -> tuple[Statistics, NDArray[np.str_]]:
    """Find the units without a prior mean, and put any numbers in place of their covariates.

    Returns
    -------
    Statistics, and (U,) the method of such a unit, nothing for the others.
    """
    known, method = known_units(statistics), np.full(len(codes), "", "<U16")
    if known is None:
        return statistics, method
    x = np.where(known[:, None], statistics[COVARIATES], 0.0)
    if span is not None:
        method[~span.reaches(x, codes)] = NOT_ESTIMABLE
    method[~known] = NO_COVARIATES
    return {**statistics, COVARIATES: x}, method


def _update(
    order: UpdateOrder, metric: Metric, statistics: Statistics, codes: Codes
) -> PosteriorColumns:
    priors = order.priors[metric.name]
    return update_pools(
        priors.family,
        priors.nodes,
        priors.hyperparameters,
        statistics,
        codes,
        quantiles=order.quantiles,
        exposure=_next_exposure(metric),
    )


def _next_exposure(metric: Metric) -> float | None:
    """Return the size of the next observation that the predictive is about: one of each.

    A store's next estimate has a sampling variance, and a next response has predictors, that
    nobody knows yet, so none is predicted.
    """
    return None if metric.terms or metric.family == "normal_known_variance" else 1.0


def _false_signs(
    order: UpdateOrder,
    metric: Metric,
    statistics: Statistics,
    codes: Codes,
    known: NDArray[np.bool_],
) -> Columns:
    priors = order.priors[metric.name]
    rates = false_sign_rates(priors.family, priors.nodes, statistics, codes)
    return {"false_sign_rate": np.where(known, rates.T, np.nan).T}


def _predicted(posterior: PosteriorColumns) -> Columns:
    known = has_posterior(posterior)
    found = {name: getattr(posterior, name) for name in ("predictive_mean", "predictive_sd")}
    return {n: np.where(known, values, np.nan) for n, values in found.items() if values is not None}


def sizes(
    metric: Metric,
    folded: Folded,
    statistics: Statistics,
    codes: Codes,
    divisor: NDArray[np.float64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give the size of each unit, and its effective size where events hang together, (U,)."""
    name = metric.model.sample_size
    n = folded.n_events if name is None else folded.statistics[metric.name][name]
    independent = n.astype(np.float64) if name is None else statistics[name].astype(np.float64)
    if name is None and divisor is not None:
        independent = independent / divisor[codes]
    return n.astype(np.int64), independent


def _pooled(
    order: UpdateOrder,
    metric: Metric,
    statistics: Statistics,
    codes: Codes,
    known: NDArray[np.bool_],
) -> Columns:
    """Give the store by itself, and the pool as one store, beside the posterior: (U, T) each."""
    priors = order.priors[metric.name]
    at = {name: values[codes] for name, values in priors.hyperparameters.items()}
    if "sigma" in at:
        # Without an estimate of σ nobody knows how exact a raw mean is.
        at["sigma"] = np.where(known, at["sigma"], np.nan)
    _, sd = no_pooling(metric.model, statistics, at)
    alike, alike_sd = priors.complete.of_stores(priors.family, statistics, codes)
    return {"raw_sd": sd, "complete_pooling": alike, "complete_pooling_sd": alike_sd}


def _below_target(
    order: UpdateOrder, metric: Metric, statistics: Statistics, codes: Codes
) -> Columns:
    """Return the probability that a term lies below the target, (U, T); NaN for other terms."""
    if metric.target is None:
        return {}
    terms = metric.term_names
    priors = order.priors[metric.name]
    below = cdf_pools(
        priors.family,
        priors.nodes,
        priors.hyperparameters,
        statistics,
        codes,
        np.full(len(terms), metric.target),
    )
    meant = np.array([metric.target_term in (None, term) for term in terms])
    return {"p_below_target": np.where(meant, below.reshape(len(codes), len(terms)), np.nan)}
