"""The fit of one metric on the engine: sketches from the shards, then the hyperparameters."""

from __future__ import annotations

from typing import Any

from hbpipe.data.quantities import Metric
from hbpipe.model.covariates.design import Design
from hbpipe.model.family import Array
from hbpipe.model.overdispersion import Overdispersion
from hbpipe.run.inference.fit_tables import last_hyperparameters
from hbpipe.run.inference.fits import MetricFit, compress_shard, family_of, fit_metric
from hbpipe.run.inference.nested import fit_groups
from hbpipe.run.inference.shards import join_sketches
from hbpipe.run.inference.tree import Pool, Tree, find_pools
from hbpipe.run.inference.typical import Coded
from hbpipe.run.night import Night


def find_trees(night: Night) -> dict[str, Tree]:
    """Find the pools of each metric, and the nested groups below them."""
    pool_by, nest_by = night.settings.pool_by, night.settings.inference.nest_by
    levels = (*pool_by, *nest_by)
    shards = night.engine.gather(
        [
            night.engine.submit(find_pools, folded, night.form.levels, levels, label="pools")
            for folded in night.folded
        ]
    )
    paths = {path for found in shards for path in found}
    return {
        metric.name: Tree.of(paths, levels, pool_by, night.settings.nest_by(metric))
        for metric in night.metrics
    }


def fit_on_sketches(
    night: Night,
    metric: Metric,
    tree: Tree,
    overdispersion: Overdispersion | None,
    divisor: Array | None,
    coded: Coded | None,
) -> MetricFit:
    """Fit one metric, with the groups below its pools where it has nested levels.

    ``divisor`` (R,) is what divides the sizes of each pool's units, ``coded`` the covariates.
    """
    design = None if coded is None else coded.design
    inference, before = night.settings.inference, last_hyperparameters(night, metric, design)
    whole = _sketch(night, metric, tree.pool_by, tree.pools, divisor, design)
    if not tree.depth:
        return fit_metric(
            night.engine, metric, whole, tree, inference, before, overdispersion, divisor, coded
        )
    of_groups = None if divisor is None else divisor[tree.roots(tree.depth)]
    finest = _sketch(night, metric, tree.levels, tree.finest, of_groups)
    return fit_groups(
        night.engine, metric, finest, whole, tree, inference, before, overdispersion, divisor
    )


def _sketch(
    night: Night,
    metric: Metric,
    levels: tuple[str, ...],
    pools: list[Pool],
    divisor: Array | None,
    design: Design | None = None,
) -> Any:
    """Return the sketch of all shards, by the pools that some levels tell apart."""
    tasks = [
        night.engine.submit(
            compress_shard,
            folded,
            metric,
            night.form.levels,
            levels,
            pools,
            divisor,
            label=f"sketch of {metric.name}",
        )
        for folded in night.folded
    ]
    return join_sketches(night.engine, family_of(metric, design), tasks)
