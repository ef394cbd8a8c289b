"""The rows of ``new_stores``: stores without data, as each pool's prior describes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.schemas import quantile_name
from hbpipe.model.family import Array, Family
from hbpipe.model.integration.sampled_nodes import AnyNodes
from hbpipe.model.update.pools import update_pools
from hbpipe.run.inference.fits import MetricFit
from hbpipe.run.inference.tree import Pool, pool_label
from hbpipe.run.inference.typical import NewStores
from hbpipe.run.night import Night


def new_store_rows(night: Night, found: MetricFit) -> list[dict[str, Any]]:
    """Describe stores without data in each pool: the prior, averaged over its uncertainty.

    With nested levels, for each known pool and group a store of a new group below it, and a new
    store of each of the finest groups; ``level`` is that of what is new.
    """
    unit, groups, new = night.form.levels[-1], found.groups, found.new_stores
    if groups is None:
        point = found.fits.hyperparameters
        return _new_stores(night, found, found.pools, unit, found.nodes, point, new)
    found_rows = []
    for depth, (pools, level) in enumerate(
        zip(found.tree.keys, (*found.tree.nest_by, unit), strict=True)
    ):
        nodes, point = groups.nodes[depth], groups.hyperparameters[depth]
        new = NewStores(np.arange(len(pools)))
        found_rows += _new_stores(night, found, pools, level, nodes, point, new)
    return found_rows


def _new_stores(
    night: Night,
    found: MetricFit,
    pools: Sequence[Pool],
    level: str,
    nodes: AnyNodes,
    hyperparameters: dict[str, Array],
    new: NewStores,
) -> list[dict[str, Any]]:
    family = found.priors.family
    levels, terms = night.settings.inference.quantiles, found.metric.term_names
    count = len(new.pools)
    columns = update_pools(
        family,
        nodes,
        hyperparameters,
        {**_empty(family, count), **new.statistics},
        new.pools,
        quantiles=levels,
    )
    numbers = {"mean": columns.mean, "sd": columns.sd} | {
        quantile_name(q): columns.quantiles[..., k] for k, q in enumerate(levels)
    }
    by_term = {name: values.reshape(count, len(terms)) for name, values in numbers.items()}
    return [
        {
            **pool_columns(night, found, pools[int(g)]),
            "level": level,
            "covariates": new.words[row] if new.words else None,
            "term": term,
            **{
                name: finite(values[row, k]) if columns.method[row] != "unidentified" else None
                for name, values in by_term.items()
            },
            "method": str(columns.method[row]),
        }
        for row, g in enumerate(new.pools)
        for k, term in enumerate(terms)
    ]


def _empty(family: Family, count: int) -> dict[str, NDArray[Any]]:
    """Return the statistics of stores without data."""
    return {
        one.name: np.full((count, *one.shape), one.absent, np.dtype(one.dtype))
        for one in family.statistics
    }


def pool_columns(night: Night, found: MetricFit, pool: Pool) -> dict[str, Any]:
    """Return what every row of a pool begins with."""
    return {
        "metric": found.metric.name,
        **dict(zip(found.tree.levels, pool, strict=False)),
        "pool": pool_label(pool),
        "run_id": night.run_id,
    }


def finite(value: float) -> float | None:
    """Return a number, None in place of what is none."""
    return float(value) if np.isfinite(value) else None
