"""The overdispersion of a night's metrics: measured on workers, applied where it is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hbpipe.config import Audits
from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded
from hbpipe.model.dispersion import CellSums
from hbpipe.model.family import Array
from hbpipe.model.overdispersion import Overdispersion
from hbpipe.run.audits import Check, at_most
from hbpipe.run.inference.fits import MetricFit
from hbpipe.run.inference.tree import Pool, pool_codes
from hbpipe.run.night import Night


def disperse_shard(
    folded: Folded,
    metrics: Sequence[Metric],
    levels: Sequence[str],
    pool_by: Sequence[str],
    pools: list[Pool],
) -> dict[str, CellSums]:
    """Add up the cells of one shard by pool, (G,); metrics that measure none are not there."""
    codes = pool_codes(folded, levels, pool_by, pools)
    found = {metric.name: folded.dispersion[metric.name] for metric in metrics}
    return {name: sums.by(codes, len(pools)) for name, sums in found.items() if sums is not None}


def measure(night: Night, pools: list[Pool]) -> dict[str, Overdispersion]:
    """Measure the overdispersion of every metric that has one, pool by pool."""
    shards = night.engine.gather(
        [
            night.engine.submit(
                disperse_shard,
                folded,
                night.metrics,
                night.form.levels,
                night.settings.pool_by,
                pools,
                label="overdispersion",
            )
            for folded in night.folded
        ]
    )
    return {
        name: Overdispersion(CellSums.added([shard[name] for shard in shards]))
        for name in shards[0]
    }


def divisors(metrics: Sequence[Metric], found: dict[str, Overdispersion]) -> dict[str, Array]:
    """Return what divides the sizes of each metric that asks for it, (G,)."""
    return {metric.name: found[metric.name].divisor() for metric in metrics if metric.cells.correct}


def check_overdispersion(fits: Mapping[str, MetricFit], limits: Audits) -> list[Check]:
    """Warn of metrics whose units vary more than their model says.

    The value is the largest overdispersion, of a pool or of all together, that is more than
    chance: 1 where there is none, and where sizes were divided by it.
    """
    checks = []
    for name, fit in sorted(fits.items()):
        if fit.overdispersion is not None:
            largest = 1.0 if fit.divisor is not None else _beyond_chance(fit.overdispersion)
            limit = limits.max_overdispersion
            story = _story(fit, fit.overdispersion, limit)
            severity = limits.severity("overdispersion")
            checks.append(
                at_most("release", "overdispersion", name, largest, limit, story, severity)
            )
    return checks


def _beyond_chance(found: Overdispersion) -> float:
    every = found.together()
    phi, low = np.append(every.phi, found.phi), np.append(every.lower(), found.lower())
    return float(phi[low > 1.0].max(initial=1.0))


def _story(fit: MetricFit, found: Overdispersion, limit: float) -> str:
    """Say in a sentence how units vary, where most, and what to do about it."""
    phi, cells = float(found.together().phi[0]), fit.metric.cells
    if np.isnan(phi):
        return f"no unit has two cells by {cells.by} to compare"
    story = f"totals by {cells.by} vary {phi:.2f} times as much as {fit.metric.family} says"
    pools = np.flatnonzero((found.lower() > 1.0) & (found.phi > limit))
    if len(pools) and len(fit.pools) > 1:
        most = int(pools[np.argmax(found.phi[pools])])
        story += f", more than {limit:g} times in {len(pools)} of {len(fit.pools)} pools"
        story += f", most in {fit.labels[most]} ({found.phi[most]:.2f})"
    if fit.divisor is not None:
        return story + "; the sizes of units were divided by it"
    if _beyond_chance(found) <= limit:
        return story
    advice = "set overdispersion.correct to divide sizes by it"
    if not cells.clusters:
        advice += ", or name the columns of what belongs together in overdispersion.by"
    return f"{story}: intervals are too narrow; {advice}"
