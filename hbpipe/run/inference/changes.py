"""How far the means of units moved since the release of the latest earlier as-of day.

Never since one of the same day: a rerun would then tell of no change at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.pairing import pair
from hbpipe.data.row_groups import RowGroups
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.standing import decoded
from hbpipe.data.units import shard_of
from hbpipe.data.window import Folded
from hbpipe.model.family import Array
from hbpipe.run.engine import Task
from hbpipe.run.fingerprints import definition
from hbpipe.run.inference.fit_tables import earlier_release
from hbpipe.run.inference.posterior_rows import has_posterior, over_terms
from hbpipe.run.inference.updated import Columns, MetricColumns, ShardUpdate, UpdateOrder
from hbpipe.run.night import Night
from hbpipe.run.releases import read_of


def compare_with_earlier(night: Night, shared: Task, updated: Sequence[Task]) -> list[list[Task]]:
    """Promise for each shard the columns ``change`` and ``change_sd``, where anything is earlier.

    The earlier rows are read once, metric by metric, and dealt to the shards.
    """
    found: list[list[Task]] = [[] for _ in updated]
    last = earlier_release(night)
    if last is None:
        return found
    table = read_of(night.lake, last, "fits").to_pylist()
    before = {row["metric"]: row.get("definition") for row in table}
    version = dict(last["versions"])["posteriors"]
    day = {"as_of": last["as_of"].isoformat()}
    snapshot = night.lake.snapshot("posteriors", version).in_partitions([day])
    for metric in night.metrics:
        if before.get(metric.name) != definition(metric):
            continue
        dealt = night.engine.submit(
            read_earlier,
            snapshot,
            metric.name,
            night.form.levels,
            len(updated),
            label=f"earlier means of {metric.name}",
        )
        for shard, columns in enumerate(found):
            columns.append(
                night.engine.submit(
                    changes,
                    shared,
                    metric.name,
                    night.folded[shard],
                    updated[shard],
                    dealt,
                    shard,
                    label=f"change of {metric.name} in shard {shard}",
                )
            )
    return found


def read_earlier(
    snapshot: Snapshot, metric: str, levels: Sequence[str], shards: int
) -> list[pa.Table]:
    """Read the means of the units of a release and deal them to shards: levels, term, mean."""
    names = [*levels, "term", "mean"]
    rows = RowGroups(snapshot, "metric").read(metric, [*names, "level"])
    # Nested groups are rows too.
    rows = decoded(rows.filter(pc.equal(rows.column("level"), levels[-1])).select(names))
    if shards == 1:
        return [rows]
    places = shard_of(rows.column(levels[-1]), shards)
    return [rows.filter(pa.array(places == shard)) for shard in range(shards)]


def changes(
    order: UpdateOrder,
    metric: str,
    folded: Folded,
    updated: ShardUpdate,
    earlier: Sequence[pa.Table],
    shard: int,
) -> MetricColumns:
    """Compare the means of a shard's units with their earlier ones, term by term."""
    (terms,) = (one.term_names for one in order.metrics if one.name == metric)
    posterior = updated[metric].posterior
    names = pa.array(list(terms), pa.string())
    keys = dict(zip(order.levels, folded.keys, strict=True))
    now = pa.table(
        {
            **{name: over_terms(key, len(terms)) for name, key in keys.items()},
            "term": names.take(pa.array(np.tile(np.arange(len(terms)), folded.n))),
        }
    )
    known = has_posterior(posterior)
    mean, sd = (_by_term(values, known) for values in (posterior.mean, posterior.sd))
    before = np.full(now.num_rows, np.nan)
    paired = pair(now, earlier[shard], now.column_names)
    before[paired.left] = earlier[shard].column("mean").to_numpy()[paired.right]
    change = (mean - before).reshape(folded.n, len(terms))
    # Without an sd, which ``plug_in`` may claim, or with an infinite one a change has no size.
    has_size = (sd > 0) & np.isfinite(sd)
    empty = np.full(len(sd), np.nan)
    relative = np.divide(mean - before, sd, out=empty, where=has_size).reshape(change.shape)
    columns: Columns = {"change": change, "change_sd": relative}
    return {metric: columns}


def _by_term(values: Array, known: NDArray[np.bool_]) -> Array:
    return np.ravel(np.where(known, values.T, np.nan).T)
