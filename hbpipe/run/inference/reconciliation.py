"""Estimates moved to totals that somebody knows, group by group; a group may span pools.

As in ``comparison``, a few numbers of each unit leave its shard and come back as columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hbpipe.data.attributes import to_values
from hbpipe.data.quantities import Metric
from hbpipe.data.reconcile import EQUAL, SIZE, Reconcile
from hbpipe.data.window import Folded
from hbpipe.model.family import Array, Codes
from hbpipe.model.reconciliation import limits, reconcile
from hbpipe.run.engine import Task
from hbpipe.run.inference.coding import store_sizes
from hbpipe.run.inference.posterior_rows import has_posterior
from hbpipe.run.inference.reconciled import Outcome
from hbpipe.run.inference.tree import Pool, find_pools, pool_codes
from hbpipe.run.inference.updated import MetricColumns, ShardUpdate
from hbpipe.run.night import Night
from hbpipe.run.totals import Totals, TotalsTables


def read_totals(night: Night) -> dict[str, Totals]:
    """Read the known totals of the metrics that have some.

    Raises
    ------
    EventsError
        When a table of totals cannot be used.
    """
    tables = TotalsTables(night.settings)
    levels = dict(zip(night.form.levels, night.stock.level_types, strict=True))
    return {
        metric.name: tables.read(metric, levels, night.plan.as_of)
        for metric in night.metrics
        if metric.reconcile is not None
    }


def reconcile_units(night: Night, updated: Sequence[Task]) -> list[list[Task]]:
    """Promise for each shard the columns ``reconciled`` and ``reconciled_rmse``.

    What became of the totals is noted in ``night.reconciled``, for the checks of the release.
    """
    engine, found = night.engine, [list[Task]() for _ in updated]
    for metric in night.metrics:
        if metric.name not in night.totals:
            continue
        totals = night.totals[metric.name]
        parts = [
            engine.submit(
                known_of,
                metric,
                totals,
                night.form.levels,
                folded,
                shard,
                label=f"estimates of {metric.name}",
            )
            for folded, shard in zip(night.folded, updated, strict=True)
        ]
        label = f"totals of {metric.name}"
        reconciled = engine.submit(reconcile_shards, metric, totals, parts, label=label)
        (night.reconciled[metric.name],) = engine.gather(
            [engine.submit(_outcome, reconciled, label=f"outcome of {label}")]
        )
        for shard, columns in enumerate(found):
            columns.append(engine.submit(_at, reconciled, shard, label=f"reconciled {metric.name}"))
    return found


@dataclass(frozen=True)
class Known:
    """What is known of the units of one shard.

    ``groups`` (U,) are numbers of ``Totals.groups``, -1 where there is no total; ``unknown`` are
    the groups of those. Means and sds are NaN where a unit has no posterior.
    """

    groups: Codes
    unknown: list[Pool]
    means: Array
    sds: Array
    weights: Array


def known_of(
    metric: Metric, totals: Totals, levels: Sequence[str], folded: Folded, updated: ShardUpdate
) -> Known:
    """Take what is reconciled of a shard."""
    assert metric.reconcile is not None
    posterior = updated[metric.name].posterior
    known = has_posterior(posterior)
    present = find_pools(folded, levels, totals.levels)
    groups = np.full(folded.n, -1)  # where no total is known of this night
    if totals.groups:
        groups = pool_codes(folded, levels, totals.levels, totals.groups)
    return Known(
        groups,
        sorted(set(present).difference(totals.groups)),
        np.where(known, posterior.mean, np.nan),
        np.where(known, posterior.sd, np.nan),
        weights_of(metric, metric.reconcile, folded),
    )


def weights_of(metric: Metric, asked: Reconcile, folded: Folded) -> Array:
    """Return the weights of the units of a shard, (U,); NaN where nobody knows it."""
    if asked.weight == EQUAL:
        return np.ones(folded.n)
    if asked.weight == SIZE:
        return np.asarray(store_sizes(metric, folded.whole(metric.name)), np.float64)
    assert folded.attributes is not None
    return to_values(folded.attributes.column(asked.weight), categorical=False)


def reconcile_shards(
    metric: Metric, totals: Totals, parts: Sequence[Known]
) -> tuple[Outcome, list[MetricColumns]]:
    """Reconcile the units of all shards; return what became of it, and the columns of each."""
    assert metric.reconcile is not None
    groups, means, sds, weights = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("groups", "means", "sds", "weights")
    )
    found = reconcile(means, sds, weights, groups, totals.values, of_means=metric.reconcile.is_mean)
    unknown = sorted(set().union(*(part.unknown for part in parts)))
    outcome = Outcome.of(totals, unknown, groups, found, limits(metric.measured))
    cuts = np.cumsum([len(part.groups) for part in parts])[:-1]
    shards = zip(np.split(found.estimate, cuts), np.split(found.rmse, cuts), strict=True)
    return outcome, [
        {metric.name: {"reconciled": estimate, "reconciled_rmse": rmse}}
        for estimate, rmse in shards
    ]


def _outcome(reconciled: tuple[Outcome, list[MetricColumns]]) -> Outcome:
    return reconciled[0]


def _at(reconciled: tuple[Outcome, list[MetricColumns]], shard: int) -> MetricColumns:
    return reconciled[1][shard]
