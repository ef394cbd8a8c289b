"""Partial sums: what a reading gives to those who merge the days that it feeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.aggregate import Account, add_accounts, summarise_piece
from hbpipe.data.clusters import identify, one_in
from hbpipe.data.day_files import split
from hbpipe.data.day_statistics import DayStatistics, add_up, day_of, from_table, to_table
from hbpipe.data.durable import Storage
from hbpipe.data.events import EventFormat
from hbpipe.data.quantities import Metric
from hbpipe.data.readings import Reading
from hbpipe.data.rejections import Rejection, merge_rejections
from hbpipe.data.repeats import plain
from hbpipe.data.spill import Spilled, read_block, spill
from hbpipe.data.units import count_shards

#: Shards of a day that is merged in one task.
MERGED_SHARDS = 4


def merges(rows: int) -> int:
    """Return in how many parts a day with so many rows is merged: 1, or one for each shard."""
    shards = count_shards(rows)
    return 1 if shards <= MERGED_SHARDS else shards


@dataclass(frozen=True)
class ReadingOrder:
    """What a worker must know to read.

    ``rows`` are those of each due day; ``compared`` the days whose event ids are compared across
    readings.
    """

    storage: Storage
    run_id: str
    form: EventFormat
    metrics: tuple[Metric, ...]
    rows: Mapping[int, int]
    compared: frozenset[int]


@dataclass(frozen=True)
class Partial:
    """What one reading gives, by day.

    ``statistics`` and ``ids`` (event ids, and the row of the piece) are in memory, or set aside
    in a block for each merge of the day. ``accounts`` are by day and file.
    """

    reading: Reading
    statistics: Mapping[int, DayStatistics | Spilled]
    ids: Mapping[int, pa.Table | Spilled]
    accounts: Mapping[int, Mapping[str, Account]]
    rejections: tuple[Rejection, ...]

    def of(self, day: int) -> Partial:
        """Return what there is of one day."""
        return Partial(
            self.reading,
            {day: self.statistics[day]},
            {day: self.ids[day]} if day in self.ids else {},
            {day: self.accounts.get(day, {})},
            tuple(one for one in self.rejections if one.day == day),
        )

    def statistics_of(self, order: ReadingOrder, day: int, merge: int) -> DayStatistics:
        """Return the sums of a day, or of one of its shards, that a merge needs."""
        found = self.statistics[day]
        if isinstance(found, DayStatistics):
            return found
        table = read_block(order.storage, found, merge)
        return from_table(table, order.metrics, len(order.form.levels))

    def ids_of(self, order: ReadingOrder, day: int, merge: int) -> pa.Table:
        """Return the event ids of a day, or those whose hash falls to a merge."""
        found = self.ids[day]
        return found if isinstance(found, pa.Table) else read_block(order.storage, found, merge)


def summarise_readings(order: ReadingOrder, readings: Sequence[Reading]) -> tuple[Partial, ...]:
    """Summarise what one task reads; errors as ``summarise_piece`` and ``spill``."""
    return tuple(summarise(order, reading) for reading in readings)


def summarise(
    order: ReadingOrder, reading: Reading, repeated_rows: NDArray[np.int64] | None = None
) -> Partial:
    """Read pieces one after the other, and add them up.

    Parameters
    ----------
    repeated_rows
        Rows of the only piece that repeat an event of an earlier one.
    """
    days = reading.days
    compared = not order.compared.isdisjoint(days)
    sampled = min(one_in(order.rows[day]) for day in days)
    sums: dict[int, DayStatistics] = {}
    accounts: dict[int, dict[str, Account]] = {day: {} for day in days}
    ids: dict[int, pa.Table] = {}
    rejections: list[Rejection] = []
    for piece in reading.pieces:
        part = summarise_piece(
            order.form, piece, order.metrics, days, compared, sampled, repeated_rows=repeated_rows
        )
        for day in days:
            found = day_of(part, day)
            sums[day] = add_up(order.metrics, day, [sums[day], found]) if day in sums else found
            if part.ids is not None:
                ids[day] = _ids_of_day(part.ids, day)
        for day, account in part.accounts.items():
            of_file = accounts[day]
            of_file[piece.file.path] = add_accounts(of_file.get(piece.file.path), account)
        rejections += part.rejections
    return Partial(
        reading,
        {day: _set_aside(order, day, found) for day, found in sums.items()},
        {day: _set_ids_aside(order, day, found) for day, found in ids.items()},
        accounts,
        tuple(merge_rejections(rejections)),
    )


def _set_aside(order: ReadingOrder, day: int, found: DayStatistics) -> DayStatistics | Spilled:
    """Keep the sums of a day that is merged in one task; set others aside, a block for a shard."""
    shards = merges(order.rows[day])
    if shards == 1:
        return found
    parts, none = dict(split(found, shards)), found.take(np.empty(0, np.int64))
    tables = (to_table(parts.get(shard, none)) for shard in range(shards))
    return spill(order.storage, order.run_id, tables)


def _ids_of_day(ids: pa.Table, day: int) -> pa.Table:
    """Return the ids of a day in the types in which they are compared."""
    at = np.flatnonzero(ids.column("__day").to_numpy() == day)
    mine = ids.drop_columns(["__day"]).take(pa.array(at))
    return pa.table({name: plain(mine.column(name)) for name in mine.column_names})


def _set_ids_aside(order: ReadingOrder, day: int, ids: pa.Table) -> pa.Table | Spilled:
    """Keep or set aside ids as sums are; copies of an event may be of two stores, so by the id."""
    shards = merges(order.rows[day])
    if shards == 1:
        return ids
    hashes, _ = identify(ids, order.form.event_id)
    places = (hashes % np.uint64(shards)).astype(np.int64)
    ordered = np.argsort(places, kind="stable")
    ends = np.searchsorted(places[ordered], np.arange(shards + 1))
    tables = (ids.take(pa.array(ordered[begin:end])) for begin, end in pairwise(ends))
    return spill(order.storage, order.run_id, tables)


def collect(day: int, read: Sequence[Sequence[Partial]]) -> tuple[Partial, ...]:
    """Return what all readings have of a day, in the fixed order of merging."""
    mine = [one.of(day) for task in read for one in task if day in one.statistics]
    return tuple(sorted(mine, key=lambda one: one.reading.key))
