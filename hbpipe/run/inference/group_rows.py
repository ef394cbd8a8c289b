"""Posteriors of nested groups as rows: one for each group of each nested level.

A group's row is about what its units vary around. ``raw`` takes all its units as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.clock import to_date
from hbpipe.data.identities import count_repeated
from hbpipe.data.parts import write_part
from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import quantile_name
from hbpipe.data.window import Folded
from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.nested.levels import GroupMeans
from hbpipe.model.numerics.grouped import float_sums, integer_sums
from hbpipe.run.audits import PosteriorTally
from hbpipe.run.inference.fits import MetricFit, UnitPriors, effective
from hbpipe.run.inference.nested import Groups
from hbpipe.run.inference.tree import pool_codes, pool_label
from hbpipe.run.inference.update import sizes
from hbpipe.run.night import Night
from hbpipe.run.tables import lake_table


@dataclass(frozen=True)
class GroupTotals:
    """The units of ``G`` groups put together: statistics (G, ...), events and sizes (G,)."""

    statistics: Statistics
    n_events: NDArray[np.int64]
    n: NDArray[np.int64]
    n_effective: Array

    def merged(self, metric: Metric, parents: Codes, n_parents: int) -> GroupTotals:
        """Put groups together whose parents are ``parents``."""
        return GroupTotals(
            metric.model.fold(self.statistics, parents, n_parents),
            integer_sums(self.n_events, parents, n_parents),
            integer_sums(self.n, parents, n_parents),
            float_sums(self.n_effective, parents, n_parents),
        )


def total_groups(
    folded: Folded, metric: Metric, levels: Sequence[str], priors: UnitPriors
) -> GroupTotals:
    """Add up the units of one shard by their groups."""
    codes = pool_codes(folded, levels, priors.levels, priors.pools)
    own = folded.statistics[metric.name]
    used = effective(metric, own, codes, priors.divisor)
    n, n_effective = sizes(metric, folded, used, codes, priors.divisor)
    units = GroupTotals(own, folded.n_events, n, n_effective)
    return units.merged(metric, codes, len(priors.pools))


def stage_groups(night: Night) -> list[PosteriorTally]:
    """Write the posteriors of nested groups of the as-of day, for the release to commit."""
    tallies, tables = [], []
    schema = lake_table(night, "posteriors").data_schema
    for found in night.fits.values():
        if found.groups is not None:
            totals = _totals(night, found)
            for depth in range(found.tree.depth, 0, -1):
                columns = _group_columns(night, found, found.groups, depth, totals)
                tables.append(_as_table(columns, schema, len(found.tree.keys[depth])))
                tallies.append(_tally(found.metric, columns, night.form.levels))
                parents = found.tree.parents[depth - 1]
                totals = totals.merged(found.metric, parents, len(found.tree.keys[depth - 1]))
    if tables:
        receipt = write_part(
            night.lake.storage,
            "posteriors",
            pa.concat_tables(tables),
            schema=schema,
            run_id=night.run_id,
            partition={"as_of": to_date(night.plan.as_of).isoformat()},
            statistics=["metric"],
        )
        night.staged["posteriors"].append(receipt)
    return tallies


def _totals(night: Night, found: MetricFit) -> GroupTotals:
    """Return the totals of the finest groups, of all shards in their order."""
    priors = found.priors
    shards = night.engine.gather(
        [
            night.engine.submit(
                total_groups,
                folded,
                found.metric,
                night.form.levels,
                priors,
                label=f"groups of {found.metric.name}",
            )
            for folded in night.folded
        ]
    )
    names, groups = found.metric.model.statistics, len(priors.pools)
    every = GroupTotals(
        {one.name: np.concatenate([part.statistics[one.name] for part in shards]) for one in names},
        *(
            np.concatenate([getattr(part, name) for part in shards])
            for name in ("n_events", "n", "n_effective")
        ),
    )
    return every.merged(found.metric, np.tile(np.arange(groups), len(shards)), groups)


def _group_columns(
    night: Night, found: MetricFit, groups: Groups, depth: int, totals: GroupTotals
) -> dict[str, Any]:
    tree, metric = found.tree, found.metric
    keys, parents = tree.keys[depth], tree.parents[depth - 1]
    levels = (*tree.pool_by, *tree.nest_by[:depth])
    root, nodes = tree.roots(depth), groups.nodes[depth]
    known = nodes.method != "unidentified"
    numbers = {
        "raw": metric.model.raw_estimates(totals.statistics),
        "complete_pooling": found.complete.estimate[root],
        "complete_pooling_sd": found.complete.sd[root],
        **_means(metric, nodes, night.settings.inference.quantiles),
        "weight": np.where(known, groups.weight[depth - 1], np.nan),
        "prior_mean": _middle(groups.nodes[depth - 1])[parents],
    }
    return {
        **{name: [key[place] for key in keys] for place, name in enumerate(levels)},
        "metric": [metric.name] * len(keys),
        "level": [levels[-1]] * len(keys),
        "term": list(metric.term_names) * len(keys),
        "pool": [pool_label(tree.keys[depth - 1][parent]) for parent in parents],
        "n_events": totals.n_events,
        "n": totals.n,
        "n_effective": totals.n_effective,
        **{name: pa.array(v, mask=~np.isfinite(v)) for name, v in numbers.items()},
        "method": nodes.method.tolist(),
        "silent": totals.n_events == 0,
        "run_id": [night.run_id] * len(keys),
    }


def _means(metric: Metric, nodes: Nodes, levels: Sequence[float]) -> dict[str, Array]:
    """Describe the means of groups, (G,); NaN where data determine none.

    A mean that is taken as known, as ``plug_in`` does for counts, has no sd and no quantiles.
    """
    names = ("sd", *(quantile_name(level) for level in levels))
    out = {
        name: np.full(nodes.n_pools, np.nan)
        for name in ("mean", *names, "p_below_target", "p_above_zero")
    }
    known = nodes.method != "unidentified"
    out["mean"] = np.where(known, _centre(nodes), np.nan)
    spread = np.any(nodes.location_variance > 0, axis=(1, 2)) | np.any(
        (nodes.weight > 0) & (nodes.location != nodes.location[:, :1, :1]), axis=(1, 2)
    )
    some = np.flatnonzero(known & spread)
    if len(some):
        means = GroupMeans(nodes.select(some), tuple(levels))
        for name in names:
            out[name][some] = means[name]
        if metric.target is not None:
            out["p_below_target"][some] = means.cdf(metric.target)
        if metric.experiment is not None:
            out["p_above_zero"][some] = 1.0 - means.cdf(0.0)
    return out


def _centre(nodes: Nodes) -> Array:
    """Posterior mean of the mean of units, (G,)."""
    centre = np.sum(nodes.weight * nodes.location, axis=(1, 2))
    return np.where(nodes.method != "unidentified", centre, np.nan)


def _middle(nodes: Nodes) -> Array:
    """Return what groups are shrunk to, (G,): of counts the middle on the line of the location."""
    geometry = geometry_of(nodes.family)
    line = np.asarray(geometry.law.to_line(nodes.location))
    middle = np.asarray(geometry.mean(np.sum(nodes.weight * line, axis=(1, 2))))
    return np.where(nodes.method != "unidentified", middle, np.nan)


def _as_table(columns: dict[str, Any], schema: pa.Schema, rows: int) -> pa.Table:
    arrays = [
        pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


def _tally(metric: Metric, columns: dict[str, Any], levels: Sequence[str]) -> PosteriorTally:
    """Count what is wrong with the posteriors of groups; their units are counted elsewhere."""
    known = np.array([method != "unidentified" for method in columns["method"]])
    mean, sd = (columns[name].to_numpy(zero_copy_only=False) for name in ("mean", "sd"))
    certain = np.array([method == "plug_in" for method in columns["method"]])
    return PosteriorTally(
        metric=metric.name,
        units=0,
        posteriors=len(known),
        n_events=0,
        unidentified=0,
        not_finite=int((known & ~np.isfinite(mean)).sum()),
        zero_width=int((known & ~certain & ~(sd > 0)).sum()),
        disordered=0,
        unusable=0,
        repeated=count_repeated([pa.array(columns[name]) for name in levels if name in columns]),
    )
