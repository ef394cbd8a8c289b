"""The rows of one shard: its units as they were updated, beside what comparing them has shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from hbpipe.data.durable import Storage
from hbpipe.data.parts import Receipt, write_part
from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded
from hbpipe.run.audits import PosteriorTally
from hbpipe.run.inference.comparison import joined
from hbpipe.run.inference.posterior_rows import (
    over_terms,
    released,
    term_columns,
)
from hbpipe.run.inference.tree import pool_label
from hbpipe.run.inference.update import sizes
from hbpipe.run.inference.updated import (
    Columns,
    MetricColumns,
    MetricUpdate,
    ShardUpdate,
    UpdateOrder,
)


def write_posteriors(
    storage: Storage,
    order: UpdateOrder,
    folded: Folded,
    updated: ShardUpdate,
    compared: Sequence[MetricColumns],
) -> tuple[Receipt, list[PosteriorTally]]:
    """Write one file with the rows of a shard, and return what its tallies counted."""
    receipt = write_part(
        storage,
        "posteriors",
        _metric_tables(order, folded, updated, joined(compared)),
        schema=order.table.data_schema,
        run_id=order.run_id,
        partition={"as_of": order.label},
        dictionary=["metric", "level", "term", "pool", "method", "run_id", *order.levels[:-1]],
        statistics=["metric"],
    )
    return receipt, [updated[metric.name].tally for metric in order.metrics]


def _metric_tables(
    order: UpdateOrder, folded: Folded, updated: ShardUpdate, compared: MetricColumns
) -> Iterator[pa.Table]:
    """Give one table per metric, each a row group."""
    schema = order.table.data_schema
    for metric in order.metrics:
        units, terms = updated[metric.name], len(metric.term_names)
        further = units.columns | compared.get(metric.name, {})
        columns = _rows(order, folded, metric, units, further)
        arrays = [
            columns[field.name] if field.name in columns else pa.nulls(folded.n * terms, field.type)
            for field in schema
        ]
        yield pa.table(arrays, names=schema.names).cast(schema)


def _rows(
    order: UpdateOrder, folded: Folded, metric: Metric, units: MetricUpdate, further: Columns
) -> dict[str, pa.Array]:
    """Return the columns of one metric, unit by unit and term by term."""
    labels = pa.array([pool_label(pool) for pool in order.priors[metric.name].pools], pa.string())
    n, _ = sizes(metric, folded, units.statistics, units.codes, None)
    constants = {"metric": metric.name, "level": order.levels[-1], "run_id": order.run_id}
    of_units = {
        **dict(zip(order.levels, folded.keys, strict=True)),
        **{name: pa.repeat(pa.scalar(v, pa.string()), folded.n) for name, v in constants.items()},
        "pool": labels.take(pa.array(units.codes)),
        "n": pa.array(n),
        "n_events": pa.array(folded.n_events),
        "method": pa.array(units.posterior.method.tolist(), pa.string()),
        "silent": pa.array(np.asarray(folded.n_events == 0)),
    }
    terms = len(metric.term_names)
    return {
        **{name: over_terms(column, terms) for name, column in of_units.items()},
        **term_columns(metric, units.posterior, order.quantiles),
        **released(further, terms),
    }
