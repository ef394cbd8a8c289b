"""Units of all shards ranked within their pools, some pools a task.

A pool is ranked as a whole, from the statistics that its posteriors rest on; its ranks then go back
to the shards that its units lie in. Which pools share a task shows in no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Codes, Statistics
from hbpipe.model.ranking import rank_pools
from hbpipe.run.engine import Engine, Task
from hbpipe.run.inference.posterior_rows import has_posterior
from hbpipe.run.inference.updated import Columns, MetricColumns, ShardUpdate, UpdateOrder


@dataclass(frozen=True)
class Members:
    """Units of one shard that are ranked together: their rows in it, pools and statistics."""

    rows: NDArray[np.int64]
    codes: Codes
    statistics: Statistics


@dataclass(frozen=True)
class Ranked:
    """Ranks of some units of one shard: their rows in it, and columns (U,) or (U, T)."""

    rows: NDArray[np.int64]
    columns: Columns


def rank_units(
    engine: Engine, order: UpdateOrder, shared: Task, updated: Sequence[Task]
) -> list[list[Task]]:
    """Promise the rank columns; parameters and result are those of ``compare_units``."""
    found: list[list[Task]] = [[] for _ in updated]
    for metric in order.metrics:
        name = metric.name
        groups = max(1, min(len(updated), len(order.priors[name].pools)))
        ranked = []
        for group in range(groups):
            parts = [
                engine.submit(
                    members_of, shard, name, group, groups, label=f"units of {name} to be ranked"
                )
                for shard in updated
            ]
            ranked.append(
                engine.submit(rank_members, shared, name, parts, label=f"ranks of {name}")
            )
        for number, shard in enumerate(updated):
            label = f"ranks of {name} in shard {number}"
            found[number].append(engine.submit(ranks_of, shard, name, ranked, number, label=label))
    return found


def members_of(updated: ShardUpdate, metric: str, group: int, groups: int) -> Members:
    """Take the units of a shard whose pools are of a group, and that have a posterior."""
    units = updated[metric]
    rows = np.flatnonzero(has_posterior(units.posterior) & (units.codes % groups == group))
    statistics = {name: np.asarray(values)[rows] for name, values in units.statistics.items()}
    return Members(rows, units.codes[rows], statistics)


def rank_members(order: UpdateOrder, metric: str, parts: Sequence[Members]) -> list[Ranked]:
    """Rank the units of some pools, and return the ranks of each shard."""
    priors = order.priors[metric]
    codes = np.concatenate([part.codes for part in parts])
    statistics = {
        name: np.concatenate([np.asarray(part.statistics[name]) for part in parts])
        for name in parts[0].statistics
    }
    ranks = rank_pools(priors.family, priors.nodes, statistics, codes)
    cuts = np.cumsum([len(part.rows) for part in parts])[:-1]
    split = {name: np.split(values, cuts) for name, values in vars(ranks).items()}
    return [
        Ranked(part.rows, {name: values[shard] for name, values in split.items()})
        for shard, part in enumerate(parts)
    ]


def ranks_of(
    updated: ShardUpdate, metric: str, ranked: Sequence[Sequence[Ranked]], shard: int
) -> MetricColumns:
    """Put the ranks of a shard's units in their order; NaN for units without a posterior."""
    units = len(updated[metric].codes)
    columns: Columns = {}
    for of_shards in ranked:
        found = of_shards[shard]
        for name, values in found.columns.items():
            empty = np.full((units, *values.shape[1:]), np.nan)
            columns.setdefault(name, empty)[found.rows] = values
    return {metric: columns}
