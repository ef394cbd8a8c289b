"""The units of one shard updated by a worker: all that can be said of them without other shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.identities import count_repeated_in_order
from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded
from hbpipe.model.covariates.ranks import Span
from hbpipe.model.diagnostics.predictive import sizes_of
from hbpipe.model.estimation.moments import ratio
from hbpipe.model.family import Codes, Statistics
from hbpipe.model.kish import size_of
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
from hbpipe.run.inference.predictions import Units, judge_last_day, predict_next
from hbpipe.run.inference.tree import pool_codes
from hbpipe.run.inference.updated import Columns, MetricUpdate, ShardUpdate, UpdateOrder


def update_shard(
    order: UpdateOrder, folded: Folded, outliers: Mapping[str, NDArray[np.int64]]
) -> ShardUpdate:
    """Update every unit of a shard, metric by metric.

    ``outliers`` has the rows of units that are outliers, by metric; none of a metric whose units
    are not held against their pools.
    """
    repeated = count_repeated_in_order(folded.keys)
    found = {
        metric.name: _update_metric(order, folded, metric, outliers.get(metric.name))
        for metric in order.metrics
    }
    return {
        name: replace(units, tally=replace(units.tally, repeated=repeated))
        for name, units in found.items()
    }


def _update_metric(
    order: UpdateOrder, folded: Folded, metric: Metric, outliers: NDArray[np.int64] | None
) -> MetricUpdate:
    priors, own = order.priors[metric.name], folded.statistics[metric.name]
    codes = pool_codes(folded, order.levels, priors.levels, priors.pools)
    statistics = effective(metric, own, codes, priors.divisor)
    statistics, aside = _set_aside(statistics, codes, priors.span)
    posterior = _update(order, metric, statistics, codes)
    posterior.method[aside != ""] = aside[aside != ""]
    units = Units(order, metric, folded, codes, statistics, has_posterior(posterior))
    columns = _pooled(units, aside != "")
    columns["raw"] = metric.model.raw_estimates(own)
    _, columns["n_effective"] = sizes(metric, folded, statistics, codes, priors.divisor)
    for further in (_below_target, _of_arms, _false_signs, predict_next, judge_last_day, _flags):
        columns |= further(units)
    if outliers is not None:
        columns["outlier"] = _flag_outliers(units, outliers)
    # A level that moves, and the mean of a product, need not lie between data and prior.
    plain = not metric.terms and metric.dynamics is None and not metric.model.heavy_tails
    between = prior_range(priors.nodes, statistics, codes) if plain else None
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
    )


def _false_signs(units: Units) -> Columns:
    priors = units.priors
    rates = false_sign_rates(priors.family, priors.nodes, units.statistics, units.codes)
    return {"false_sign_rate": units.shown(rates.T).T}


def _flags(units: Units) -> Columns:
    """Tell which units are new, and whose pool's fit is on a bound."""
    assert units.folded.recent is not None
    is_new = units.folded.recent.is_new
    found = {"at_boundary": units.priors.at_boundary[units.codes]}
    return found if is_new is None else {**found, "is_new": is_new}


def _flag_outliers(units: Units, outliers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Flag some rows; nothing is said of units without data, (U,)."""
    flags = np.zeros(units.folded.n)
    flags[outliers] = 1.0
    return units.shown(flags, sizes_of(units.priors.family, units.statistics) > 0)


def sizes(
    metric: Metric,
    folded: Folded,
    statistics: Statistics,
    codes: Codes,
    divisor: NDArray[np.float64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give the size of each unit, and its effective size where events hang together, (U,)."""
    if metric.experiment is not None:
        both = sum(folded.arms[metric.name].values(), np.zeros(folded.n, np.int64))
        return both, both / (1.0 if divisor is None else divisor[codes])
    name = metric.model.sample_size
    counted = folded.whole(metric.name)
    n = folded.n_events if name is None else _whole(counted[name])
    independent = (n if name is None else _whole(statistics[name])).astype(np.float64)
    if name is None and metric.name in folded.counted:
        # What is left of all trials, exposure or precision, by weight and by overdispersion.
        left = size_of(metric.base, statistics)
        independent = independent * ratio(left, size_of(metric.base, counted))
    elif name is None and divisor is not None:
        independent = independent / divisor[codes]
    return (n if n.dtype.kind == "i" else np.rint(n)).astype(np.int64), independent


def _whole(counts: NDArray[Any]) -> NDArray[Any]:
    """Return the size of each unit, (U,), of which classes may have a part each, (U, K)."""
    return counts if counts.ndim == 1 else counts.sum(axis=1)


def _pooled(units: Units, aside: NDArray[np.bool_]) -> Columns:
    """Give the store by itself, and the pool as one store, beside the posterior: (U, T) each.

    Units that are set ``aside`` (U,) are like nobody.
    """
    priors, statistics, codes = units.priors, units.statistics, units.codes
    at = {name: values[codes] for name, values in priors.hyperparameters.items()}
    if "sigma" in at:
        # Without an estimate of σ nobody knows how exact a raw mean is.
        at["sigma"] = np.where(units.known, at["sigma"], np.nan)
    _, sd = no_pooling(units.metric.model, statistics, at)
    alike, alike_sd = priors.complete.of_stores(priors.family, statistics, codes)
    return {
        "raw_sd": sd,
        "complete_pooling": np.where(aside, np.nan, alike.T).T,
        "complete_pooling_sd": np.where(aside, np.nan, alike_sd.T).T,
    }


def _of_arms(units: Units) -> Columns:
    """Return the sizes of the arms of an experiment, and the probability of an effect above 0."""
    metric, priors = units.metric, units.priors
    if metric.experiment is None:
        return {}
    below = cdf_pools(
        priors.family, priors.nodes, priors.hyperparameters, units.statistics, units.codes, 0.0
    )
    sizes = {f"n_{arm}": n for arm, n in units.folded.arms[metric.name].items()}
    return {**sizes, "p_above_zero": units.shown(1.0 - below)}


def _below_target(units: Units) -> Columns:
    """Return the probability that a term lies below the target, (U, T); NaN for other terms."""
    metric, priors = units.metric, units.priors
    if metric.target is None:
        return {}
    terms = metric.term_names
    below = cdf_pools(
        priors.family,
        priors.nodes,
        priors.hyperparameters,
        units.statistics,
        units.codes,
        np.full(len(terms), metric.target),
    )
    meant = np.array([metric.target_term in (None, term) for term in terms])
    shaped = below.reshape(len(units.codes), len(terms))
    return {"p_below_target": np.where(meant, units.shown(shaped.T).T, np.nan)}
