"""What each pool of a release believes: its fit, its prior, a new store, and nights before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from hbpipe.data.lake import Lake
from hbpipe.report.html.packing import Pack
from hbpipe.report.html.stores import Columns
from hbpipe.run.history import Release
from hbpipe.run.releases import read_of

#: So many nights at most are drawn, and so many numbers of them fit a page.
_NIGHTS, _NUMBERS = 60, 120_000

_OF_A_FIT = (
    "family",
    "estimator",
    "n_groups",
    "log_marginal_likelihood",
    "log_likelihood_no_pooling",
    "log_likelihood_complete_pooling",
    "iterations",
    "at_bound",
    "status",
    "method",
    "sampler",
    "ess",
    "pareto_k",
    "r_hat",
    "drift",
    "overdispersion",
    "overdispersion_by",
)

Pool = tuple[Any, ...]


def read_fits(
    lake: Lake, row: Release, columns: Columns, metrics: Collection[str]
) -> list[dict[str, Any]]:
    """Read the fits of a release: for each the metric, its pool's levels as a tuple, its story."""
    table = read_of(lake, row, "fits", filters=[("metric", "in", list(metrics))])
    return [
        {
            "metric": fit["metric"],
            "pool": tuple(fit[name] for name in columns.pool_levels),
            "label": fit["pool"],
            **{name: fit.get(name) for name in _OF_A_FIT},
        }
        for fit in table.to_pylist()
    ]


def read_new_stores(
    lake: Lake, row: Release, columns: Columns, metrics: Collection[str]
) -> list[dict[str, Any]]:
    """Read what is expected of a store never seen, with the outer limits of each prediction."""
    table = read_of(lake, row, "new_stores", filters=[("metric", "in", list(metrics))])
    found = []
    for new in table.to_pylist():
        # Stores of a nested group, or of one kind among several, are told of by the lake alone.
        if new["level"] != columns.unit or new["covariates"] is not None:
            continue
        if any(new.get(name) is None for name in columns.pool_levels):
            continue
        limits = [new[name] for name in columns.quantiles if new.get(name) is not None]
        found.append(
            {
                "metric": new["metric"],
                "pool": tuple(new[name] for name in columns.pool_levels),
                "term": new["term"],
                "mean": new["mean"],
                "low": limits[0] if limits else None,
                "high": limits[-1] if limits else None,
            }
        )
    return found


def pack_history(
    lake: Lake,
    row: Release,
    columns: Columns,
    metrics: Collection[str],
    pools: Sequence[Pool],
    pack: Pack,
) -> dict[str, Any]:
    """Pack the hyperparameters of this night and of those before it.

    Returns
    -------
    dict
        ``nights``: their days, oldest first; ``keys``: metric, number of the pool and parameter of
        each series; ``value`` and ``sd``: packed, night by night, of every key.
    """
    records = _records(lake, row, columns, metrics)
    today = [one for one in records if one["as_of"] == row["as_of"]]
    place = {pool: number for number, pool in enumerate(pools)}
    keys = {_key(one, columns): number for number, one in enumerate(today)}
    room = min(_NIGHTS, max(2, _NUMBERS // max(len(keys), 1)))
    nights = sorted({one["as_of"] for one in records})[-room:]
    numbers = np.full((2, len(nights), len(keys)), np.nan)
    night_of = {night: number for number, night in enumerate(nights)}
    for one in records:
        at = night_of.get(one["as_of"]), keys.get(_key(one, columns))
        if None not in at:
            for which, name in enumerate(("value", "sd")):
                numbers[which, *at] = np.nan if one[name] is None else one[name]
    return {
        "nights": [night.isoformat() for night in nights],
        "keys": [[metric, place[pool], parameter] for metric, pool, parameter in keys],
        "value": pack.decimal(numbers[0].ravel(), 4),
        "sd": pack.decimal(numbers[1].ravel(), 2),
    }


def _key(one: dict[str, Any], columns: Columns) -> tuple[str, Pool, str]:
    return one["metric"], tuple(one[name] for name in columns.pool_levels), one["parameter"]


def _records(
    lake: Lake, row: Release, columns: Columns, metrics: Collection[str]
) -> list[dict[str, Any]]:
    """Read hyperparameters of pools: those of the release, and what earlier days have by now."""
    wanted = ("metric", "in", list(metrics))
    since = row["as_of"] - timedelta(days=2 * _NIGHTS)
    # The newest version: a backfill publishes earlier days later.
    before = [("as_of", ">", since), ("as_of", "<", row["as_of"]), wanted]
    table = pa.concat_tables(
        [
            lake.read("hyperparameters", filters=before),
            read_of(lake, row, "hyperparameters", filters=[wanted]),
        ],
        promote_options="default",
    )
    # A nested group has values in levels below those of its pool.
    at = table.column_names.index("pool")
    below = [name for name in table.column_names[2:at] if name not in columns.pool_levels]
    return [one for one in table.to_pylist() if all(one[name] is None for name in below)]
