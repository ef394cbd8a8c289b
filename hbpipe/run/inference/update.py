"""The posteriors of one shard, computed and written by a worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.durable import Storage
from hbpipe.data.identities import count_repeated_in_order
from hbpipe.data.parts import Receipt, write_part
from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import Table
from hbpipe.data.window import Folded
from hbpipe.model.covariates.ranks import Span
from hbpipe.model.family import Statistics
from hbpipe.model.pooling import no_pooling
from hbpipe.model.update.pools import PosteriorColumns, cdf_pools, update_pools
from hbpipe.model.update.prior_range import prior_range
from hbpipe.run.audits import PosteriorTally
from hbpipe.run.inference.coding import COVARIATES, known_units
from hbpipe.run.inference.fits import UnitPriors, effective
from hbpipe.run.inference.posterior_rows import (
    NO_COVARIATES,
    NOT_ESTIMABLE,
    has_posterior,
    over_terms,
    tally_posteriors,
    term_columns,
)
from hbpipe.run.inference.tree import pool_codes, pool_label


@dataclass(frozen=True)
class UpdateOrder:
    """What a worker must know to update one shard."""

    metrics: tuple[Metric, ...]
    levels: tuple[str, ...]
    priors: dict[str, UnitPriors]
    quantiles: tuple[float, ...]
    table: Table
    label: str  # the ISO date, the partition
    run_id: str


def update_shard(
    storage: Storage, order: UpdateOrder, folded: Folded
) -> tuple[Receipt, list[PosteriorTally]]:
    """Update every unit of a shard, metric by metric, and write one file."""
    tallies: list[PosteriorTally] = []
    receipt = write_part(
        storage,
        "posteriors",
        _metric_tables(order, folded, tallies),
        schema=order.table.data_schema,
        run_id=order.run_id,
        partition={"as_of": order.label},
        dictionary=["metric", "level", "term", "pool", "method", "run_id", *order.levels[:-1]],
        statistics=["metric"],
    )
    return receipt, tallies


def _metric_tables(
    order: UpdateOrder, folded: Folded, tallies: list[PosteriorTally]
) -> Iterator[pa.Table]:
    schema, repeated = order.table.data_schema, count_repeated_in_order(folded.keys)
    for metric in order.metrics:
        terms, priors = metric.term_names, order.priors[metric.name]
        divisor = priors.divisor
        codes = pool_codes(folded, order.levels, priors.levels, priors.pools)
        labels = pa.array([pool_label(pool) for pool in priors.pools], pa.string())
        statistics = effective(metric, folded.statistics[metric.name], codes, divisor)
        statistics, aside = _set_aside(statistics, codes, priors.span)
        posterior = _update(order, metric, statistics, codes)
        posterior.method[aside != ""] = aside[aside != ""]
        of_units = {
            **dict(zip(order.levels, folded.keys, strict=True)),
            **_constants(order, metric, folded.n),
            "pool": labels.take(pa.array(codes)),
            **_size_columns(metric, folded, statistics, codes, divisor),
            **_unit_columns(folded, posterior),
        }
        pooled = _pooled(order, metric, statistics, codes, has_posterior(posterior))
        for name in ("complete_pooling", "complete_pooling_sd"):
            pooled[name] = np.where(aside == "", pooled[name].T, np.nan).T
        pooled["raw"] = metric.model.raw_estimates(folded.statistics[metric.name])
        below = _below_target(order, metric, statistics, codes)
        columns = {name: over_terms(column, len(terms)) for name, column in of_units.items()}
        columns |= term_columns(metric, posterior, pooled, below, order.quantiles)
        between = None if metric.terms else prior_range(priors.nodes, statistics, codes)
        tally = tally_posteriors(metric, folded, posterior, pooled["raw"], between)
        tallies.append(replace(tally, repeated=repeated))
        arrays = [
            columns[field.name]
            if field.name in columns
            else pa.nulls(folded.n * len(terms), field.type)
            for field in schema
        ]
        yield pa.table(arrays, names=schema.names).cast(schema)


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
    order: UpdateOrder, metric: Metric, statistics: Statistics, codes: NDArray[np.int64]
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


def _constants(order: UpdateOrder, metric: Metric, n: int) -> dict[str, pa.Array]:
    values = {"metric": metric.name, "level": order.levels[-1], "run_id": order.run_id}
    return {name: pa.repeat(pa.scalar(value, pa.string()), n) for name, value in values.items()}


def _size_columns(
    metric: Metric,
    folded: Folded,
    statistics: Statistics,
    codes: NDArray[np.int64],
    divisor: NDArray[np.float64] | None,
) -> dict[str, pa.Array]:
    n, independent = sizes(metric, folded, statistics, codes, divisor)
    return {"n": pa.array(n), "n_effective": pa.array(independent)}


def sizes(
    metric: Metric,
    folded: Folded,
    statistics: Statistics,
    codes: NDArray[np.int64],
    divisor: NDArray[np.float64] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Give the size of each unit, and its effective size where events hang together, (U,)."""
    name = metric.model.sample_size
    n = folded.n_events if name is None else _whole(folded.statistics[metric.name][name])
    independent = (n if name is None else _whole(statistics[name])).astype(np.float64)
    if name is None and divisor is not None:
        independent = independent / divisor[codes]
    return n.astype(np.int64), independent


def _whole(counts: NDArray[Any]) -> NDArray[Any]:
    """Return the size of each unit, (U,), of which classes may have a part each, (U, K)."""
    return counts if counts.ndim == 1 else counts.sum(axis=1)


def _unit_columns(folded: Folded, posterior: PosteriorColumns) -> dict[str, pa.Array]:
    """Return what else is said of a unit whatever the term."""
    known = has_posterior(posterior)
    predictive = {
        "predictive_mean": posterior.predictive_mean,
        "predictive_sd": posterior.predictive_sd,
    }
    return {
        "n_events": pa.array(folded.n_events),
        "method": pa.array(posterior.method.tolist(), pa.string()),
        "silent": pa.array(folded.n_events == 0),
        **{
            name: pa.array(values, mask=~known)
            for name, values in predictive.items()
            if values is not None
        },
    }


def _pooled(
    order: UpdateOrder,
    metric: Metric,
    statistics: Statistics,
    codes: NDArray[np.int64],
    known: NDArray[np.bool_],
) -> dict[str, NDArray[np.float64]]:
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
    order: UpdateOrder, metric: Metric, statistics: Statistics, codes: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Return the probability that a term lies below the target, (U, T); NaN for other terms."""
    if metric.target is None:
        return None
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
    return np.where(meant, below.reshape(len(codes), len(terms)), np.nan)
