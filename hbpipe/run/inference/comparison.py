"""Units compared with the others of their pool, which may lie in other shards.

The units of all shards are updated first and stay on the workers. A comparison takes of each shard
sums over its pools, or a few numbers of each unit; puts these together in the order of the shards;
and gives each shard back the columns that come of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hbpipe.model.family import Array, Codes
from hbpipe.model.multiplicity import adjusted_p_values, s_values
from hbpipe.run.engine import Engine, Task
from hbpipe.run.inference.ranks import rank_units
from hbpipe.run.inference.updated import Columns, MetricColumns, ShardUpdate, UpdateOrder


def compare_units(
    engine: Engine, order: UpdateOrder, shared: Task, updated: Sequence[Task]
) -> list[list[Task]]:
    """Promise the columns that need the whole of a pool.

    Parameters
    ----------
    order, shared
        What the shards were updated by, and the promise of it that their tasks take.
    updated
        A promise of a ``ShardUpdate`` for each shard.

    Returns
    -------
    For each shard promises of ``MetricColumns``, which ``write_posteriors`` puts together.
    """
    found = rank_units(engine, order, shared, updated)
    for metric in order.metrics:
        # One metric after the other, so that numbers of all units are there of few at a time.
        scores = [
            engine.submit(scores_of, shard, metric.name, label=f"scores of {metric.name}")
            for shard in updated
        ]
        compared = engine.submit(
            compare_scores, metric.name, scores, label=f"comparison of {metric.name}"
        )
        for shard, columns in enumerate(found):
            label = f"compared columns of {metric.name}"
            columns.append(engine.submit(_at, compared, shard, label=label))
    return found


@dataclass(frozen=True)
class Scores:
    """What is compared of the units of one shard in one metric.

    ``codes`` (U,) are their pools, ``false_sign_rate`` is (U, T), the p-value is (U,); NaN where
    a unit has none.
    """

    codes: Codes
    false_sign_rate: Array
    last_day_p: Array


def scores_of(updated: ShardUpdate, metric: str) -> Scores:
    """Take what is compared of a shard."""
    units = updated[metric]
    rates, unknown = units.columns["false_sign_rate"], np.full(len(units.codes), np.nan)
    return Scores(
        units.codes,
        rates.reshape(len(units.codes), -1),
        units.columns.get("last_day_p", unknown),
    )


def compare_scores(metric: str, parts: Sequence[Scores]) -> list[MetricColumns]:
    """Compare the units of all shards, and return the columns of each shard."""
    codes, rates, last_day_p = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("codes", "false_sign_rate", "last_day_p")
    )
    columns: Columns = {
        "s_value": np.column_stack([s_values(rate, codes) for rate in rates.T]),
        "last_day_q": adjusted_p_values(last_day_p, codes),
    }
    cuts = np.cumsum([len(part.codes) for part in parts])[:-1]
    split = {name: np.split(values, cuts) for name, values in columns.items()}
    return [
        {metric: {name: values[shard] for name, values in split.items()}}
        for shard in range(len(parts))
    ]


def _at(columns: Sequence[MetricColumns], shard: int) -> MetricColumns:
    return columns[shard]


def joined(parts: Sequence[MetricColumns]) -> MetricColumns:
    """Put together the columns of several comparisons."""
    found: MetricColumns = {}
    for part in parts:
        for metric, columns in part.items():
            found.setdefault(metric, {}).update(columns)
    return found
