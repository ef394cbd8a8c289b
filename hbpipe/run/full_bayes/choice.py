"""Which pools and stores are audited: the same ones for the same release and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.lake import Lake
from hbpipe.data.quantities import Metric
from hbpipe.data.schemas import quantile_name
from hbpipe.full_bayes.comparison import Published
from hbpipe.run.history import Release
from hbpipe.run.inference.tree import Pool
from hbpipe.run.releases import read_of


@dataclass(frozen=True)
class ChosenPool:
    """A pool: the values of its levels, its label, how many stores with data, and the method."""

    pool: Pool
    label: str
    stores: int
    method: str


@dataclass(frozen=True)
class ChosenStores:
    """Stores of a pool: their levels (K,), sizes ``n``, and what was published of them."""

    keys: pa.Table
    sizes: NDArray[np.int64]
    published: Published
    among: int


def choose_pools(
    lake: Lake, release: Release, metric: Metric, pool_by: tuple[str, ...], count: int
) -> list[ChosenPool]:
    """Choose pools whose prior is determined, evenly by rank of size.

    Three are the smallest, the median and the largest.
    """
    columns = [*pool_by, "pool", "n_groups", "method"]
    fits = read_of(
        lake, release, "fits", columns=columns, filters=[("metric", "==", metric.name)]
    ).to_pylist()
    known = [row for row in fits if row["method"] != "unidentified"]
    ranked = sorted(known, key=lambda row: (row["n_groups"], row["pool"]))
    places = np.unique(np.rint(np.linspace(0, len(ranked) - 1, count)).astype(np.int64))
    return [
        ChosenPool(
            tuple(row[name] for name in pool_by), row["pool"], row["n_groups"], row["method"]
        )
        for row in (ranked[place] for place in places if ranked)
    ]


def choose_stores(
    lake: Lake,
    release: Release,
    metric: Metric,
    pool: ChosenPool,
    levels: tuple[str, ...],
    quantiles: tuple[float, float],
    *,
    count: int,
    seed: int,
) -> ChosenStores:
    """Choose stores of a pool, one at random from each of ``count`` strata of equal size by n."""
    limits = [quantile_name(level) for level in quantiles]
    columns = [*levels, "term", "n", "mean", "sd", *dict.fromkeys(limits)]
    own = [("metric", "==", metric.name), ("pool", "==", pool.label), ("level", "==", levels[-1])]
    table = read_of(lake, release, "posteriors", columns=columns, filters=own)
    table = table.filter(pc.is_valid(table["mean"]))
    first = _of_term(table, metric.term_names[0])
    order: list[tuple[str, Any]] = [("n", "ascending"), *((name, "ascending") for name in levels)]
    first = first.sort_by(order)
    strata = np.array_split(np.arange(first.num_rows), min(count, first.num_rows))
    rng = np.random.default_rng(seed)
    chosen = first.take(pa.array([int(rng.choice(stratum)) for stratum in strata], pa.int64()))
    keys = chosen.select(list(levels))
    terms = [_aligned(keys, _of_term(table, term), levels) for term in metric.term_names]

    def column(name: str) -> NDArray[np.float64]:
        return np.stack([of_term[name].to_numpy() for of_term in terms], axis=1)

    published = Published(column("mean"), column("sd"), *(column(name) for name in limits))
    return ChosenStores(keys, chosen["n"].to_numpy(), published, first.num_rows)


def _of_term(table: pa.Table, term: str) -> pa.Table:
    return table.filter(pc.equal(table["term"], term))


def _aligned(keys: pa.Table, rows: pa.Table, levels: tuple[str, ...]) -> pa.Table:
    """Return the rows of some stores, in the order of ``keys``."""
    numbered = keys.append_column("place", pa.array(np.arange(keys.num_rows)))
    joined = numbered.join(rows, list(levels), join_type="left outer", use_threads=False)
    return joined.sort_by("place")
