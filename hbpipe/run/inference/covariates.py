"""Covariates of a night: decided on the driver, carried by the units, checked before a release."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from hbpipe.config import Audits
from hbpipe.data.covariates import attributes
from hbpipe.data.quantities import Metric
from hbpipe.data.reconcile import weight_columns
from hbpipe.data.window import Folded
from hbpipe.model.covariates.design import Design
from hbpipe.model.numerics.grouped import Rows, merge_counts
from hbpipe.run.audits import Check, PosteriorTally, at_most
from hbpipe.run.inference.coding import count_sizes, cover, design_of
from hbpipe.run.inference.tree import Pool, number_pools, pool_codes
from hbpipe.run.inference.typical import Coded, describe_new_stores
from hbpipe.run.night import Night


def code_covariates(
    night: Night, pools: list[Pool], listed: list[pa.Table | None]
) -> dict[str, Coded]:
    """Decide how each metric's covariates are coded, and give every unit its own.

    Parameters
    ----------
    listed
        The parts of the table of stores that the shards have.

    Raises
    ------
    EventsError, FitError
        When a covariate cannot be used; names it and its metric.
    """
    metrics = tuple(metric for metric in night.metrics if metric.covariates)
    if not metrics:
        return {}
    sizes = _gather_sizes(night, metrics, pools)
    tables = [part for part in listed if part is not None]
    stores = pa.concat_tables(tables) if tables else None
    found = {}
    for metric in metrics:
        table = stores if attributes(metric.covariates) else None
        design = design_of(metric, table, sizes[metric.name])
        codes = np.empty(0, np.int64)
        if table is not None:
            keys = [table.column(name) for name in night.settings.pool_by]
            codes = number_pools(keys, table.num_rows, pools)
        described = describe_new_stores(metric, design, table, codes, sizes[metric.name])
        found[metric.name] = Coded(design, described)
    kept = weight_columns(night.metrics)
    designs = {name: coded.design for name, coded in found.items()}
    night.folded = [
        night.engine.submit(
            cover, folded, metrics, designs, kept, label=f"covariates of shard {shard}"
        )
        for shard, folded in enumerate(night.folded)
    ]
    return found


def _gather_sizes(night: Night, metrics: tuple[Metric, ...], pools: list[Pool]) -> dict[str, Rows]:
    shards = night.engine.gather(
        [
            night.engine.submit(
                _shard_sizes,
                folded,
                metrics,
                night.form.levels,
                night.settings.pool_by,
                pools,
                label="sizes of units",
            )
            for folded in night.folded
        ]
    )
    return {
        metric.name: merge_counts([shard[metric.name] for shard in shards]) for metric in metrics
    }


def _shard_sizes(
    folded: Folded,
    metrics: tuple[Metric, ...],
    levels: tuple[str, ...],
    pool_by: tuple[str, ...],
    pools: list[Pool],
) -> dict[str, Rows]:
    codes = pool_codes(folded, levels, pool_by, pools)
    return {metric.name: count_sizes(metric, folded, codes, len(pools)) for metric in metrics}


def told(design: Design | None) -> str | None:
    """Describe a coding as JSON, for readers of ``fits``; None without covariates."""
    return None if design is None else json.dumps(design.told(), ensure_ascii=False)


def check_covariates(
    tallies: Iterable[PosteriorTally], metrics: Iterable[Metric], limits: Audits
) -> list[Check]:
    """Check how many units of metrics with covariates have no prior mean.

    Units whose covariates are unknown are worth a warning, and stop the release above a limit;
    those of a kind of which their pool has no data are worth a warning.
    """
    every, checks = list(tallies), []
    for metric in metrics:
        if metric.covariates:
            parts = [part for part in every if part.metric == metric.name]
            checks += [_check_known(metric, parts, limits), _check_estimable(metric, parts)]
    return checks


def check_curves(designs: Mapping[str, Design | None]) -> list[Check]:
    """Warn of splines in log n that have fewer columns than asked for: sizes hardly differ."""
    return [
        at_most("release", "spline_columns", name, curve.missing, 0, curve.story, "warn")
        for name, design in sorted(designs.items())
        if design is not None
        for curve in design.curves
    ]


def _check_known(metric: Metric, tallies: list[PosteriorTally], limits: Audits) -> Check:
    units = sum(tally.units for tally in tallies)
    unknown = sum(tally.no_covariates for tally in tallies)
    share, limit = unknown / max(units, 1), limits.max_unknown_covariates
    message = f"{unknown} of {units} units have no posterior: their covariates are unknown"
    if unknown:
        message += "; give them a row without nulls in the table of stores"
    severity = "warn" if share <= limit else "fail"
    bound = limit if share > limit else 0.0
    return at_most("release", "covariates_known", metric.name, share, bound, message, severity)


def _check_estimable(metric: Metric, tallies: list[PosteriorTally]) -> Check:
    units = sum(tally.units for tally in tallies)
    lost = sum(tally.not_estimable for tally in tallies)
    message = (
        f"{lost} of {units} units are of a kind of which no unit of their pool has data; they have "
        "no posterior"
    )
    return at_most("release", "prior_means_estimable", metric.name, lost, 0, message, "warn")
