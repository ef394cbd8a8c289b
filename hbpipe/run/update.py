"""The posteriors of one shard, computed and written by a worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.durable import Storage
from hbpipe.data.parts import Receipt, write_part
from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import Table, quantile_name
from hbpipe.data.window import Folded
from hbpipe.model.families import get_family
from hbpipe.model.geometry import geometry_of
from hbpipe.model.pools import PosteriorColumns, cdf_pools, update_pools
from hbpipe.model.sampled_nodes import AnyNodes
from hbpipe.run.audits import PosteriorTally
from hbpipe.run.fits import Pool, pool_codes, pool_label


@dataclass(frozen=True)
class UpdateOrder:
    """What a worker must know to update one shard."""

    metrics: tuple[Metric, ...]
    levels: tuple[str, ...]
    pool_levels: tuple[str, ...]
    pools: list[Pool]
    nodes: dict[str, AnyNodes]
    hyperparameters: dict[str, dict[str, NDArray[np.float64]]]
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
    codes = pool_codes(folded, order.levels, order.pool_levels, order.pools)
    labels = pa.array([pool_label(pool) for pool in order.pools], pa.string())
    pools = labels.take(pa.array(codes))
    schema = order.table.data_schema
    for metric in order.metrics:
        statistics = folded.statistics[metric.name]
        posterior = _update(order, metric, statistics, codes)
        columns = {
            **dict(zip(order.levels, folded.keys, strict=True)),
            **_constants(order, metric, folded.n),
            "pool": pools,
            "n_events": pa.array(folded.n_events),
            **_measured(order, metric, folded, posterior, codes),
        }
        tallies.append(_tally(metric, folded, posterior))
        arrays = [
            columns[field.name] if field.name in columns else pa.nulls(folded.n, field.type)
            for field in schema
        ]
        yield pa.table(arrays, names=schema.names).cast(schema)


def _update(
    order: UpdateOrder, metric: Metric, statistics: dict[str, Any], codes: NDArray[np.int64]
) -> PosteriorColumns:
    return update_pools(
        get_family(metric.family),
        order.nodes[metric.name],
        order.hyperparameters[metric.name],
        statistics,
        codes,
        quantiles=order.quantiles,
        exposure=_next_exposure(metric),
    )


def _next_exposure(metric: Metric) -> float | None:
    """Return the size of the next observation that the predictive is about: one of each.

    A store's next estimate has a sampling variance that nobody knows yet, so none is predicted.
    """
    return None if metric.family == "normal_known_variance" else 1.0


def _constants(order: UpdateOrder, metric: Metric, n: int) -> dict[str, pa.Array]:
    values = {
        "metric": metric.name,
        "level": order.levels[-1],
        "term": "theta",
        "run_id": order.run_id,
    }
    return {name: pa.array([value] * n, pa.string()) for name, value in values.items()}


def _measured(
    order: UpdateOrder,
    metric: Metric,
    folded: Folded,
    posterior: PosteriorColumns,
    codes: NDArray[np.int64],
) -> dict[str, pa.Array]:
    family, statistics = get_family(metric.family), folded.statistics[metric.name]
    size, raw = geometry_of(metric.family).sizes(statistics)
    n = folded.n_events if family.sample_size is None else statistics[family.sample_size]
    silent, known = size <= 0, posterior.method != "unidentified"
    below: Any = np.full(folded.n, np.nan)
    if metric.target is not None:
        below = cdf_pools(
            family,
            order.nodes[metric.name],
            order.hyperparameters[metric.name],
            statistics,
            codes,
            metric.target,
        )
    none = np.full(folded.n, np.nan)
    predictive = (posterior.predictive_mean, posterior.predictive_sd)
    return {
        "n": pa.array(n.astype(np.int64)),
        "n_effective": pa.array(n.astype(np.float64)),
        "raw": pa.array(raw, mask=silent),
        "mean": _where(known, posterior.mean),
        "sd": _where(known, posterior.sd),
        "sd_plug_in": _where(known, posterior.sd_plug_in),
        **{
            quantile_name(level): _where(known, posterior.quantiles[:, k])
            for k, level in enumerate(order.quantiles)
        },
        "weight": _where(known, posterior.weight),
        "prior_mean": _where(known, posterior.prior_mean),
        "method": pa.array(posterior.method.tolist(), pa.string()),
        "predictive_mean": _where(known, none if predictive[0] is None else predictive[0]),
        "predictive_sd": _where(known, none if predictive[1] is None else predictive[1]),
        "p_below_target": _where(known, below),
        "silent": pa.array(folded.n_events == 0),
    }


def _where(known: NDArray[np.bool_], values: NDArray[np.float64]) -> pa.Array:
    """Publish nothing of a pool whose data determine no prior, and no NaN at all."""
    return pa.array(values, mask=np.isnan(values) | ~known)


def _tally(metric: Metric, folded: Folded, posterior: PosteriorColumns) -> PosteriorTally:
    known = posterior.method != "unidentified"
    columns = [posterior.mean, posterior.sd, posterior.weight, posterior.prior_mean]
    numbers = np.column_stack([*columns, posterior.quantiles])[known]
    quantiles, sd = posterior.quantiles[known], posterior.sd[known]
    width = quantiles[:, -1] - quantiles[:, 0]
    several = quantiles.shape[1] > 1
    return PosteriorTally(
        metric=metric.name,
        units=folded.n,
        n_events=int(folded.n_events.sum()),
        not_finite=int((~np.isfinite(numbers)).any(axis=1).sum()),
        unidentified=int((~known).sum()),
        zero_width=int(((sd <= 0) | ((width <= 0) & several)).sum()),
        disordered=int((np.diff(quantiles, axis=1) < 0).any(axis=1).sum()),
        unusable=folded.unusable[metric.name],
    )
