"""Who a unit is where several days meet, and where it stands: under its latest parent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.footer import plain_type
from hbpipe.data.row_groups import RowGroups
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.units import Units, encode, find_units

Days = NDArray[np.int64]


@dataclass(frozen=True)
class Sightings:
    """Units by their levels (R,), and the first and the last day of each row, (R,) each.

    A unit may have many rows: one a day, one a month, one under each parent.
    """

    names: pa.Table
    first: Days
    last: Days


def identify(names: pa.Table, standing: Days, *, within_parent: bool) -> tuple[Units, bool]:
    """Code the units; where ids are unique, a unit stands under its latest parent.

    Parameters
    ----------
    names
        The levels of each row, coarse to fine.
    standing
        (R,) which rows are later. Of two parents on one latest day the greater in the order of
        names counts: any rule will do that does not depend on the order of files.
    within_parent
        Whether an id names a unit only together with its parents.

    Returns
    -------
    The units, and whether one of them has rows under another parent than its latest.
    """
    levels = [encode(column) for column in names.columns]
    everything = np.ones(names.num_rows, np.bool_)
    if within_parent or len(levels) == 1:
        return find_units(levels, everything), False
    *above, finest = levels
    parents = find_units(above, everything)
    order_of = np.empty(parents.n, np.int64)
    by_name = in_order(parents.keys, np.arange(parents.n))
    order_of[by_name] = np.arange(parents.n)
    latest = np.full(len(finest.values), np.iinfo(np.int64).min)
    np.maximum.at(latest, finest.codes, standing * max(parents.n, 1) + order_of[parents.codes])
    chosen = by_name[latest % max(parents.n, 1)] if len(latest) else latest
    moved = bool((parents.codes != chosen[finest.codes]).any())
    at = pa.array(chosen)
    return Units(finest.codes, (*(key.take(at) for key in parents.keys), finest.values)), moved


def in_order(keys: Sequence[pa.Array], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """Order some units by their keys, so that nothing later depends on the order of files."""
    names = [str(level) for level in range(len(keys))]
    table = pa.table([key.take(pa.array(chosen)) for key in keys], names)
    by = [(name, "ascending") for name in reversed(names)]
    return np.asarray(chosen[pc.sort_indices(table, sort_keys=by).to_numpy()])


def numbers(dates: pa.ChunkedArray) -> Days:
    """Return a column of dates as day numbers, (R,)."""
    return np.asarray(dates.cast(pa.int32()).to_numpy(), np.int64)


def read_metric(snapshot: Snapshot, metric: str, columns: Sequence[str]) -> pa.Table:
    """Read the rows of one metric, in the order of the files; see ``RowGroups.read``."""
    return RowGroups(snapshot, "metric").read(metric, columns)


def read_units(snapshot: Snapshot, columns: Sequence[str]) -> pa.Table:
    """Read columns that all metrics share, once for each unit and file, in any order.

    Files may have been made for other metrics than today's, and every metric of a file lists the
    same units: the first of its own will do.
    """
    by_lead: dict[str, list[str]] = {}
    for file in snapshot.files:
        by_lead.setdefault(file.statistics["metric"][0], []).append(file.path)
    parts = [
        decoded(read_metric(_only(snapshot, frozenset(paths)), lead, columns))
        for lead, paths in sorted(by_lead.items())
    ]
    return pa.concat_tables([_only(snapshot, frozenset()).read(columns=columns), *parts])


def decoded(rows: pa.Table) -> pa.Table:
    """Return the same rows with text in place of dictionaries."""
    plain = [pa.field(one.name, plain_type(one.type)) for one in rows.schema]
    return rows.cast(pa.schema(plain))


def _only(snapshot: Snapshot, paths: frozenset[str]) -> Snapshot:
    return snapshot.select(lambda file: file.path in paths)
