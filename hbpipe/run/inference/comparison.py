"""Units compared with the others of their pool, which may lie in other shards.

The units of all shards are updated first and stay on the workers. A comparison takes of each shard
sums over its pools, or a few numbers of each unit; puts these together in the order of the shards;
and gives each shard back the columns that come of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from hbpipe.run.engine import Engine, Task
from hbpipe.run.inference.updated import MetricColumns, UpdateOrder


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
    return [[] for _ in updated]


def joined(parts: Sequence[MetricColumns]) -> MetricColumns:
    """Put together the columns of several comparisons."""
    found: MetricColumns = {}
    for part in parts:
        for metric, columns in part.items():
            found.setdefault(metric, {}).update(columns)
    return found
