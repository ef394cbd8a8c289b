"""Metrics of experiments: the statistics of two arms become effects before anything is fitted.

What comes after knows effects alone: ``normal_known_variance`` of treatment less control.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hbpipe.data.quantities import Metric
from hbpipe.data.recent import Apart
from hbpipe.data.schemas import quantile_name
from hbpipe.data.window import Folded
from hbpipe.model.experiment.effects import (
    ArmScale,
    ArmSums,
    add_arms,
    arm_sizes,
    effects_by_arm,
    sum_arms,
)
from hbpipe.model.experiment.pooled import pooled_effect
from hbpipe.model.family import Codes, Statistics
from hbpipe.model.integration.nodes import Nodes
from hbpipe.run.inference.arms import refuse_third_arms
from hbpipe.run.inference.fits import MetricFit
from hbpipe.run.inference.tree import Pool, pool_codes
from hbpipe.run.night import Night


@dataclass(frozen=True)
class EffectOrder:
    """What a worker must know to make effects: the pools within which arms are shrunk."""

    metrics: tuple[Metric, ...]
    levels: tuple[str, ...]
    pool_by: tuple[str, ...]
    pools: list[Pool]

    def codes(self, folded: Folded) -> Codes:
        """Return the number of each unit's pool, (U,)."""
        return pool_codes(folded, self.levels, self.pool_by, self.pools)


def fold_effects(night: Night, pools: list[Pool]) -> None:
    """Put effects in place of the statistics by arm, in every shard of the window.

    Raises
    ------
    StatisticsError
        When a metric whose treatment is not named has seen more than two arms.
    """
    metrics = tuple(metric for metric in night.metrics if metric.experiment is not None)
    if not metrics:
        return
    refuse_third_arms(night.rests_on, metrics)
    order = EffectOrder(metrics, night.form.levels, tuple(night.settings.pool_by), pools)
    shards = night.engine.gather(
        [
            night.engine.submit(sum_shard, order, folded, label="arms of experiments")
            for folded in night.folded
        ]
    )
    scales = {
        metric.name: add_arms(metric.family, [shard[metric.name] for shard in shards]).scale()
        for metric in metrics
    }
    night.folded = [
        night.engine.submit(with_effects, order, scales, folded, label="effects of experiments")
        for folded in night.folded
    ]


def sum_shard(order: EffectOrder, folded: Folded) -> dict[str, ArmSums]:
    """Add up what the variances of effects rest on, by metric and pool."""
    codes = order.codes(folded)
    return {
        metric.name: sum_arms(
            metric.family, folded.statistics[metric.name], codes, len(order.pools)
        )
        for metric in order.metrics
    }


def with_effects(order: EffectOrder, scales: Mapping[str, ArmScale], folded: Folded) -> Folded:
    """Return a shard with effects, and with the sizes of the arms they come from.

    The last day and the days before it become effects likewise, at the variances of the window.
    """
    codes, recent = order.codes(folded), folded.recent
    statistics, arms = dict(folded.statistics), {}
    apart = {} if recent is None else dict(recent.apart)

    def effects(metric: Metric, by_arm: Statistics) -> dict[str, Any]:
        return effects_by_arm(metric.family, by_arm, scales[metric.name], codes)

    for metric in order.metrics:
        name = metric.name
        arms[name] = arm_sizes(metric.family, statistics[name])
        statistics[name] = effects(metric, statistics[name])
        if name in apart:
            parts = apart[name]
            apart[name] = Apart(effects(metric, parts.day), effects(metric, parts.rest))
    recent = None if recent is None else replace(recent, apart=apart)
    return replace(folded, statistics=statistics, arms=arms, recent=recent)


def pooled_rows(found: MetricFit, levels: Sequence[float]) -> list[dict[str, dict[str, Any]]]:
    """Describe the pooled effect and its spread: for each pool, parameter -> columns.

    Nothing of metrics without experiment, nor where the prior mean has covariates or groups.
    """
    pools: list[dict[str, dict[str, Any]]] = [{} for _ in found.pools]
    plain = found.groups is None and isinstance(found.nodes, Nodes)
    if found.metric.experiment is None or not plain:
        return pools
    assert isinstance(found.nodes, Nodes)
    for parameter, law in pooled_effect(found.nodes, levels).items():
        columns = {f"posterior_{name}": law[name] for name in ("mean", "sd")}
        columns |= {quantile_name(q): law["quantiles"][:, k] for k, q in enumerate(levels)}
        columns["p_above_zero"] = law["above_zero"]
        for g, pool in enumerate(pools):
            shown = {name: float(values[g]) for name, values in columns.items()}
            pool[parameter] = {name: v if np.isfinite(v) else None for name, v in shown.items()}
    return pools
