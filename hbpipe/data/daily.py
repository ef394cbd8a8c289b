"""The parts of one business day merged in a fixed order, and written as the day's statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.aggregate import Account, Part, add_accounts, summarise_piece
from hbpipe.data.clock import to_date
from hbpipe.data.clusters import Clusters, merge_clusters
from hbpipe.data.day_files import DayOrder, DayStatistics, write_day
from hbpipe.data.durable import Storage
from hbpipe.data.events import full_path, read_piece
from hbpipe.data.identities import count_impossible, count_repeated
from hbpipe.data.parts import Receipt
from hbpipe.data.quantities import Metric
from hbpipe.data.rejections import Rejection, merge_rejections
from hbpipe.data.repeats import first_rows, plain, rows_differ
from hbpipe.data.units import all_distinct, count_shards, encode, find_units, shared_ids
from hbpipe.errors import EventsError, StatisticsError


@dataclass(frozen=True)
class DayResult:
    """The receipt of one day: where its statistics lie and where every row went."""

    day: int
    receipts: tuple[Receipt, ...]
    accounts: dict[str, Account]
    rejections: tuple[Rejection, ...]
    units: int
    shared_ids: int
    shards: int
    n_events: int
    #: Units whose statistics no events can have, by metric; and rows whose unit stands twice.
    impossible: dict[str, int] = field(default_factory=dict)
    repeated_units: int = 0


def finish_day(storage: Storage, order: DayOrder, parts: Sequence[Part]) -> DayResult:
    """Settle repeats across parts, merge the parts, write the day's files.

    Raises
    ------
    EventsError
        When event ids have different types in the day's files.
    StatisticsError
        When a sum overflows.
    LakeError
        When the lake cannot be written.
    """
    ordered = sorted(parts, key=lambda part: part.piece.key)
    ordered = _settle_repeats(order, ordered)
    merged = merge_day(order.metrics, order.day, ordered)
    receipts = write_day(storage, order, merged)
    accounts: dict[str, Account] = {}
    for part in ordered:
        if order.day in part.accounts:
            account = part.accounts[order.day]
            file = part.piece.file.path
            accounts[file] = add_accounts(accounts.get(file), account)
    rejections = [r for part in ordered for r in part.rejections if r.day == order.day]
    # Where no id stands twice no key does: one pass over the ids, and in most lakes no other.
    unique = all_distinct(merged.keys[-1])
    return DayResult(
        day=order.day,
        receipts=receipts,
        accounts=accounts,
        rejections=tuple(merge_rejections(rejections)),
        units=len(merged.n_events),
        shared_ids=0 if unique else shared_ids(merged.keys),
        shards=count_shards(order.rows),
        n_events=int(merged.n_events.sum()),
        impossible={
            metric.name: count_impossible(metric.model, merged.statistics[metric.name])
            for metric in order.metrics
        },
        repeated_units=0 if unique else count_repeated(merged.keys),
    )


def merge_day(metrics: tuple[Metric, ...], day: int, parts: Sequence[Part]) -> DayStatistics:
    """Merge the parts' rows of one day, in the order of the parts.

    One fold over all rows in a fixed order: the bits depend on the pieces alone.

    Raises
    ------
    StatisticsError
        When a sum overflows; names day and metric.
    """
    rows = [_rows_of(part, day) for part in parts]
    keys = tuple(
        pa.chunked_array(
            [_take(part.keys[level], at) for part, at in zip(parts, rows, strict=True)]
        )
        for level in range(len(parts[0].keys))
    )
    n_events = np.concatenate([part.n_events[at] for part, at in zip(parts, rows, strict=True)])
    statistics = {
        metric.name: {
            name: np.concatenate(
                [
                    part.statistics[metric.name][name][at]
                    for part, at in zip(parts, rows, strict=True)
                ]
            )
            for name in parts[0].statistics[metric.name]
        }
        for metric in metrics
    }
    if len(parts) == 1:
        clusters = _clusters(parts, rows, np.arange(len(n_events)))
        return DayStatistics(tuple(key.chunk(0) for key in keys), n_events, statistics, clusters)
    units = find_units([encode(key) for key in keys], np.ones(len(n_events), np.bool_))
    total = np.zeros(units.n, np.int64)
    np.add.at(total, units.codes, n_events)
    folded = {}
    for metric in metrics:
        try:
            folded[metric.name] = metric.model.fold(statistics[metric.name], units.codes, units.n)
        except StatisticsError as error:
            raise error.at(day=to_date(day), metric=metric.name) from None
        if metric.calendar == "active_days":
            exposure = folded[metric.name]["exposure"]
            folded[metric.name]["exposure"] = np.minimum(exposure, 1.0)  # one day, however cut
    return DayStatistics(units.keys, total, folded, _clusters(parts, rows, units.codes))


def _rows_of(part: Part, day: int) -> NDArray[np.int64]:
    """Return the rows of a day; they stand together, because rows are ordered by day."""
    first, end = np.searchsorted(part.days, [day, day + 1])
    return np.arange(first, end)


def _take(key: pa.Array, rows: NDArray[np.int64]) -> pa.Array:
    return key.slice(rows[0], len(rows)) if len(rows) else key.slice(0, 0)


def _clusters(
    parts: Sequence[Part], rows: Sequence[NDArray[np.int64]], codes: NDArray[np.int64]
) -> dict[str, Clusters]:
    """Merge the parts' clusters, metric by metric; ``codes`` number the units of ``rows``."""
    owners, end = [np.full(len(part.days), -1, np.int64) for part in parts], 0
    for owner, at in zip(owners, rows, strict=True):
        owner[at] = codes[end : end + len(at)]
        end += len(at)
    return {
        name: merge_clusters(
            [part.clusters[name].of(owner) for part, owner in zip(parts, owners, strict=True)]
        )
        for name in parts[0].clusters
    }


def _settle_repeats(order: DayOrder, parts: list[Part]) -> list[Part]:
    """Find events repeated across parts and summarise again the parts that hold a repeat."""
    if not order.form.event_id or len(parts) < 2:
        return parts
    tables = [_ids_of_day(part, order.day) for part in parts]
    _check_id_types(order, parts, tables)
    everything = pa.concat_tables(tables)
    owner = np.repeat(np.arange(len(parts)), [table.num_rows for table in tables])
    days = np.full(everything.num_rows, order.day, np.int32)
    first = first_rows(everything.select(list(order.form.event_id)), days)
    rows = everything.column("__row").to_numpy()
    across = np.flatnonzero(owner[first] != owner)
    settled = list(parts)
    for index in np.unique(owner[across]):
        mine = across[owner[across] == index]
        conflicts = _conflicts(order, parts, owner, rows, mine, first[mine])
        again = summarise_piece(
            order.form,
            parts[index].piece,
            order.metrics,
            (order.day,),
            repeated_rows=rows[mine],
        )
        again.accounts[order.day].conflicting += conflicts
        settled[index] = replace(again, ids=None)
    return settled


def _ids_of_day(part: Part, day: int) -> pa.Table:
    assert part.ids is not None
    at = np.flatnonzero(part.ids.column("__day").to_numpy() == day)
    ids = part.ids.take(pa.array(at))
    return pa.table({name: plain(ids.column(name)) for name in ids.column_names})


def _check_id_types(order: DayOrder, parts: list[Part], tables: list[pa.Table]) -> None:
    for part, table in zip(parts, tables, strict=True):
        if table.schema != tables[0].schema:
            form = order.form
            first = full_path(form.root, parts[0].piece.file.path)
            found, expected = (
                ", ".join(f"{name} {one.schema.field(name).type}" for name in form.event_id)
                for one in (table, tables[0])
            )
            raise EventsError(
                f"event id is {found}",
                where={"file": full_path(form.root, part.piece.file.path)},
                expected=f"{expected} as in {first}",
                remedy="write ids with one type everywhere: '007' and 7 are different events",
            )


def _conflicts(
    order: DayOrder,
    parts: list[Part],
    owner: NDArray[np.int64],
    rows: NDArray[np.int64],
    repeats: NDArray[np.int64],
    firsts: NDArray[np.int64],
) -> int:
    """Count the repeats of one part that differ from the first copy in another part."""
    columns = order.form.columns(order.metrics)
    mine = read_piece(order.form, parts[owner[repeats[0]]].piece, columns)
    differing = 0
    for other in np.unique(owner[firsts]):
        theirs = read_piece(order.form, parts[other].piece, columns)
        pairs = owner[firsts] == other
        left = mine.take(pa.array(rows[repeats[pairs]]))
        right = theirs.take(pa.array(rows[firsts[pairs]]))
        differing += int(rows_differ(left, right).sum())
    return differing
