"""The fits of a night: pools found and sketched on workers, hyperparameters fitted in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.config import Inference
from hbpipe.data.quantities import Metric
from hbpipe.data.units import encode
from hbpipe.data.window import Folded
from hbpipe.model.families import get_family
from hbpipe.model.fit import PoolFits, fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.sampled_nodes import AnyNodes

#: The values of a pool's levels, coarse to fine; empty where all units share one prior.
Pool = tuple[Any, ...]


@dataclass(frozen=True)
class MetricFit:
    """The fits of one metric: ``pools`` in the order of every array over pools."""

    metric: Metric
    pools: list[Pool]
    fits: PoolFits
    nodes: AnyNodes
    drift: list[float | None]

    @property
    def labels(self) -> list[str]:
        """Return a readable name of each pool."""
        return [pool_label(pool) for pool in self.pools]


def pool_label(pool: Pool) -> str:
    """Name a pool: its levels' values, or ``all``."""
    return " / ".join(str(value) for value in pool) if pool else "all"


def find_pools(folded: Folded, levels: Sequence[str], pool_by: Sequence[str]) -> list[Pool]:
    """List the pools of one shard."""
    if not pool_by:
        return [()] if folded.n else []
    columns = [folded.keys[levels.index(name)] for name in pool_by]
    distinct = pa.table(columns, names=list(pool_by)).group_by(list(pool_by), use_threads=False)
    return [tuple(row.values()) for row in distinct.aggregate([]).to_pylist()]


def pool_codes(
    folded: Folded, levels: Sequence[str], pool_by: Sequence[str], pools: list[Pool]
) -> NDArray[np.int64]:
    """Return the number of each unit's pool, (U,)."""
    if not pool_by:
        return np.zeros(folded.n, np.int64)
    encoded = [encode(folded.keys[levels.index(name)]) for name in pool_by]
    joint = np.zeros(folded.n, np.int64)
    for level in encoded:
        joint = joint * len(level.values) + level.codes
    numbers = {pool: number for number, pool in enumerate(pools)}
    present, first, inverse = np.unique(joint, return_index=True, return_inverse=True)
    values = [level.values.take(pa.array(level.codes[first])).to_pylist() for level in encoded]
    of_present = [numbers[pool] for pool in zip(*values, strict=True)]
    return np.array(of_present, np.int64)[inverse] if len(present) else joint


def compress_shard(
    folded: Folded,
    metric: Metric,
    levels: Sequence[str],
    pool_by: Sequence[str],
    pools: list[Pool],
) -> Any:
    """Make the sketch of one shard: all that the likelihood of its stores depends on."""
    codes = pool_codes(folded, levels, pool_by, pools)
    family = get_family(metric.family)
    return family.compress(folded.statistics[metric.name], codes, len(pools))


def fit_metric(
    metric: Metric,
    sketches: list[Any],
    pools: list[Pool],
    inference: Inference,
    before: dict[str, dict[str, float]],
) -> MetricFit:
    """Fit every pool of a metric in one batch, and integrate over what the fits leave open.

    ``before`` holds the last release's hyperparameters by pool label, for the drift.
    """
    family = get_family(metric.family)
    sketch = sketches[0] if len(sketches) == 1 else family.merge_sketches(sketches)
    fits = fit_pools(
        family,
        sketch,
        estimator=inference.estimator,
        fixed=metric.fixed or None,
        hyperprior=metric.hyperprior,
    )
    nodes = integrate_pools(fits, uncertainty=inference.uncertainty)
    return MetricFit(metric, pools, fits, nodes, _drift(metric, pools, fits, before))


def _drift(
    metric: Metric, pools: list[Pool], fits: PoolFits, before: dict[str, dict[str, float]]
) -> list[float | None]:
    """Twice the log likelihood lost by keeping the last release's hyperparameters, by pool.

    Without change it is about chi-squared with one degree per hyperparameter.
    """
    family, labels = get_family(metric.family), [pool_label(pool) for pool in pools]
    known = [set(family.hyperparameters) <= before.get(label, {}).keys() for label in labels]
    if not any(known):
        return [None] * len(pools)
    old = {
        name: np.where(known, [before.get(label, {}).get(name, 0.0) for label in labels], values)
        for name, values in fits.hyperparameters.items()
        if name in family.hyperparameters
    }
    coordinates = np.clip(family.to_coordinates(old), *family.bounds)
    kept = family.log_marginal(fits.sketch, coordinates)[0]
    now = family.log_marginal(fits.sketch, fits.coordinates)[0]
    return [float(2 * (now[g] - kept[g])) if known[g] else None for g in range(len(pools))]
