"""Copies of an event in different readings of a day: found, and taken out of the sums.

Within a piece copies are found while it is read (``repeats``). For the others the readings hand
on their ids; a reading that holds copies of events of an earlier one is read once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.events import full_path, read_piece
from hbpipe.data.partials import Partial, ReadingOrder, summarise
from hbpipe.data.readings import Reading
from hbpipe.data.repeats import first_rows, rows_differ
from hbpipe.errors import EventsError


@dataclass(frozen=True)
class Copies:
    """Rows that repeat an event of an earlier reading, (R,) each.

    ``owner`` and ``row`` are the number of the reading among those of the day and the row of its
    piece; ``first_owner`` and ``first_row`` the same of the copy that counts.
    """

    owner: NDArray[np.int64]
    row: NDArray[np.int64]
    first_owner: NDArray[np.int64]
    first_row: NDArray[np.int64]

    def of(self, owner: int) -> Copies:
        """Return those of one reading."""
        mine = np.flatnonzero(self.owner == owner)
        return Copies(*(column[mine] for column in vars(self).values()))


def find_copies(
    order: ReadingOrder, day: int, partials: Sequence[Partial], shards: Sequence[int]
) -> Copies:
    """Find the copies among the ids of a day, or among some shards of them.

    Raises
    ------
    EventsError
        When event ids have different types in the day's files.
    LakeError
        When ids that were set aside cannot be read.
    """
    return join_copies(
        [
            _among(order, day, partials, [one.ids_of(order, day, shard) for one in partials])
            for shard in shards
        ]
    )


def join_copies(found: Sequence[Copies]) -> Copies:
    """Put together what was found in different shards."""
    columns = zip(*(vars(one).values() for one in found), strict=True)
    return Copies(*(np.concatenate(column) for column in columns))


def _among(
    order: ReadingOrder, day: int, partials: Sequence[Partial], tables: Sequence[pa.Table]
) -> Copies:
    _check_id_types(order, partials, tables)
    everything = pa.concat_tables(tables)
    owner = np.repeat(np.arange(len(tables)), [table.num_rows for table in tables])
    days = np.full(everything.num_rows, day, np.int32)
    first = first_rows(everything.select(list(order.form.event_id)), days)
    rows = everything.column("__row").to_numpy()
    across = np.flatnonzero(owner[first] != owner)
    first = first[across]
    return Copies(owner[across], rows[across], owner[first], rows[first])


def _check_id_types(
    order: ReadingOrder, partials: Sequence[Partial], tables: Sequence[pa.Table]
) -> None:
    form = order.form
    for partial, table in zip(partials, tables, strict=True):
        if table.schema != tables[0].schema:
            found, expected = (
                ", ".join(f"{name} {one.schema.field(name).type}" for name in form.event_id)
                for one in (table, tables[0])
            )
            raise EventsError(
                f"event id is {found}",
                where={"file": _path(order, partial)},
                expected=f"{expected} as in {_path(order, partials[0])}",
                remedy="write ids with one type everywhere: '007' and 7 are different events",
            )


def _path(order: ReadingOrder, partial: Partial) -> str:
    return full_path(order.form.root, partial.reading.pieces[0].file.path)


def without_copies(
    order: ReadingOrder,
    day: int,
    partials: Sequence[Partial],
    copies: Copies,
    numbers: Sequence[int],
) -> tuple[Partial, ...]:
    """Return some of the readings, by number; what holds copies is summarised again without them.

    Raises
    ------
    EventsError
        When a file is damaged or has changed.
    LakeError
        When sums cannot be set aside.
    """
    return tuple(_without(order, day, partials, copies.of(number), number) for number in numbers)


def _without(
    order: ReadingOrder, day: int, partials: Sequence[Partial], mine: Copies, number: int
) -> Partial:
    partial = partials[number]
    if not len(mine.row):
        return partial
    reading = Reading(partial.reading.pieces, (day,))
    again = summarise(replace(order, compared=frozenset()), reading, mine.row)
    (account,) = again.accounts[day].values()
    account.conflicting += _conflicts(order, partials, mine)
    return again


def _conflicts(order: ReadingOrder, partials: Sequence[Partial], copies: Copies) -> int:
    """Count the copies in one reading that differ from the first, in another reading."""
    columns = order.form.columns(order.metrics)
    (owner,) = np.unique(copies.owner)
    mine = read_piece(order.form, partials[owner].reading.pieces[0], columns)
    differing = 0
    for other in np.unique(copies.first_owner):
        theirs = read_piece(order.form, partials[other].reading.pieces[0], columns)
        pairs = copies.first_owner == other
        left = mine.take(pa.array(copies.row[pairs]))
        right = theirs.take(pa.array(copies.first_row[pairs]))
        differing += int(rows_differ(left, right).sum())
    return differing
