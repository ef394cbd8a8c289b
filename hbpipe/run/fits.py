"""The fits of a night: pools found, sketches made on workers, hyperparameters staged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.clock import to_date
from hbpipe.data.parts import write_part
from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import quantile_name
from hbpipe.data.units import encode
from hbpipe.data.window import Folded
from hbpipe.model.families import get_family
from hbpipe.model.fit import PoolFits, fit_pools
from hbpipe.model.nodes import Nodes
from hbpipe.model.posterior import integrate_pools, update_pools
from hbpipe.run import commits
from hbpipe.run.releases import current_release, read

if TYPE_CHECKING:
    from hbpipe.run.night import Night

#: The values of a pool's levels, coarse to fine; empty where all units share one prior.
Pool = tuple[Any, ...]


@dataclass(frozen=True)
class MetricFit:
    """The fits of one metric: ``pools`` in the order of every array over pools."""

    metric: Metric
    pools: list[Pool]
    fits: PoolFits
    nodes: Nodes
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


def fit_metric(night: Night, metric: Metric, sketches: list[Any], pools: list[Pool]) -> MetricFit:
    """Fit every pool of a metric in one batch, and integrate over what the fit leaves open."""
    family = get_family(metric.family)
    sketch = sketches[0] if len(sketches) == 1 else family.merge_sketches(sketches)
    inference = night.settings.inference
    fits = fit_pools(
        family,
        sketch,
        estimator=inference.estimator,
        fixed=metric.fixed or None,
        hyperprior=metric.hyperprior,
    )
    nodes = integrate_pools(fits, uncertainty=inference.uncertainty)
    return MetricFit(metric, pools, fits, nodes, _drift(night, metric, pools, fits))


def _drift(
    night: Night, metric: Metric, pools: list[Pool], fits: PoolFits
) -> list[float | None]:
    """Twice the log likelihood lost by keeping the last release's hyperparameters, by pool.

    Under no change it is about chi-squared with one degree per hyperparameter.
    """
    before = _previous(night, metric)
    labels = [pool_label(pool) for pool in pools]
    family = get_family(metric.family)
    known = [label in before for label in labels]
    if not any(known):
        return [None] * len(pools)
    names = family.hyperparameters
    fallback = {name: values for name, values in fits.hyperparameters.items()}
    old = {
        name: np.array(
            [
                before[label].get(name, fallback[name][g]) if known[g] else fallback[name][g]
                for g, label in enumerate(labels)
            ]
        )
        for name in names
    }
    lower, upper = family.bounds
    coordinates = np.clip(family.to_coordinates(old), lower, upper)
    value = family.log_marginal(fits.sketch, coordinates)[0]
    now = family.log_marginal(fits.sketch, fits.coordinates)[0]
    return [float(2 * (now[g] - value[g])) if known[g] else None for g in range(len(pools))]


def _previous(night: Night, metric: Metric) -> dict[str, dict[str, float]]:
    environment = night.settings.environment
    if current_release(night.lake, environment) is None:
        return {}
    table = read(night.lake, "hyperparameters", environment=environment)
    found: dict[str, dict[str, float]] = {}
    for row in table.to_pylist():
        if row["metric"] == metric.name and row["family"] == metric.family:
            found.setdefault(row["pool"], {})[row["parameter"]] = row["value"]
    return found


# --- tables -------------------------------------------------------------------------------------


def stage_fits(night: Night) -> None:
    """Write hyperparameters, fits and new stores of the as-of day, for the release to commit."""
    rows: dict[str, list[dict[str, Any]]] = {"hyperparameters": [], "fits": [], "new_stores": []}
    for found in night.fits.values():
        rows["hyperparameters"] += _hyperparameter_rows(night, found)
        rows["fits"] += _fit_rows(night, found)
        rows["new_stores"] += _new_store_rows(night, found)
    tables = commits.tables(night)
    for name, records in rows.items():
        schema = tables[name].data_schema
        receipt = write_part(
            night.lake.storage,
            name,
            pa.Table.from_pylist(records, schema=schema),
            schema=schema,
            run_id=night.run_id,
            partition={"as_of": to_date(night.plan.as_of).isoformat()},
        )
        night.staged[name] = [receipt]


def _pool_columns(night: Night, found: MetricFit, g: int) -> dict[str, Any]:
    return {
        "metric": found.metric.name,
        **dict(zip(night.settings.pool_by, found.pools[g], strict=True)),
        "pool": pool_label(found.pools[g]),
        "run_id": night.run_id,
    }


def _hyperparameter_rows(night: Night, found: MetricFit) -> list[dict[str, Any]]:
    sds = found.fits.standard_deviations()
    return [
        {
            **_pool_columns(night, found, g),
            "family": found.metric.family,
            "parameter": name,
            "value": float(values[g]),
            "sd": _finite(sds[name][g]),
        }
        for g in range(len(found.pools))
        for name, values in found.fits.hyperparameters.items()
    ]


def _finite(value: float) -> float | None:
    """Return null for what is not defined: the sd of a parameter on a bound, or held."""
    return float(value) if np.isfinite(value) and value > 0 else None


def _fit_rows(night: Night, found: MetricFit) -> list[dict[str, Any]]:
    fits = found.fits
    return [
        {
            **_pool_columns(night, found, g),
            "family": found.metric.family,
            "estimator": fits.estimator,
            "n_groups": int(fits.n_groups[g]),
            "log_marginal_likelihood": _finite_or_none(fits.log_marginal_likelihood[g]),
            "start_log_marginal_likelihood": _finite_or_none(
                fits.start_log_marginal_likelihood[g]
            ),
            "iterations": int(fits.iterations[g]),
            "gradient_norm": _finite_or_none(fits.gradient_norm[g]),
            "converged": bool(fits.converged[g]),
            "boundary": bool(fits.boundary[g]),
            "at_bound": ", ".join(fits.at_bound[g]),
            "status": fits.status[g],
            "method": str(found.nodes.method[g]),
            "drift": found.drift[g],
        }
        for g in range(len(found.pools))
    ]


def _finite_or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _new_store_rows(night: Night, found: MetricFit) -> list[dict[str, Any]]:
    """Describe a store without data in each pool: the prior, averaged over its uncertainty."""
    family = get_family(found.metric.family)
    count = len(found.pools)
    empty = {
        s.name: np.full(count, s.absent, np.int64 if s.dtype == "int64" else np.float64)
        for s in family.statistics
    }
    levels = night.settings.inference.quantiles
    columns = update_pools(
        family,
        found.nodes,
        found.fits.hyperparameters,
        empty,
        np.arange(count),
        quantiles=levels,
    )
    return [
        {
            **_pool_columns(night, found, g),
            "term": "theta",
            "mean": float(columns.mean[g]),
            "sd": float(columns.sd[g]),
            **{quantile_name(q): float(columns.quantiles[g, k]) for k, q in enumerate(levels)},
            "method": str(columns.method[g]),
        }
        for g in range(count)
    ]
