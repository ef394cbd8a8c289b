"""The partial sums of one business day merged in a fixed order, and written as its statistics.

A day of few rows is finished in one task, ``finish_day``. Of a large one no worker could hold all
that the readings found: every shard of its units is merged, and written, by itself. The bits are
the same either way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from hbpipe.data.aggregate import Account, add_accounts
from hbpipe.data.copies import find_copies, without_copies
from hbpipe.data.day_files import DayOrder, split, write_shard
from hbpipe.data.day_statistics import DayStatistics, add_up
from hbpipe.data.identities import count_impossible, count_repeated
from hbpipe.data.partials import Partial, ReadingOrder, collect
from hbpipe.data.parts import Receipt
from hbpipe.data.rejections import Rejection, merge_rejections
from hbpipe.data.units import all_distinct, count_shards, shared_ids


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


@dataclass(frozen=True)
class Merged:
    """A shard that is merged and written, and what is counted over its units.

    Whatever has one id is in one shard, so the counts of shards add up to those of the day.
    """

    receipt: Receipt
    units: int
    shared_ids: int
    n_events: int
    impossible: dict[str, int]
    repeated_units: int


def finish_day(
    reading: ReadingOrder, order: DayOrder, read: Sequence[Sequence[Partial]]
) -> DayResult:
    """Take copies of events out, merge the readings of a day, and write its files.

    Raises
    ------
    EventsError
        When event ids have different types in the day's files.
    StatisticsError
        When a sum overflows.
    LakeError
        When the lake cannot be written.
    """
    partials = collect(order.day, read)
    if order.day in reading.compared:
        copies = find_copies(reading, order.day, partials, [0])
        everyone = range(len(partials))
        partials = without_copies(reading, order.day, partials, copies, everyone)
    found = [one.statistics_of(reading, order.day, 0) for one in partials]
    merged = add_up(order.metrics, order.day, found)
    shards = split(merged, count_shards(order.rows))
    written = [_write(reading, order, shard, one) for shard, one in shards]
    return close_day(order, partials, [written])


def merge_shards(
    reading: ReadingOrder, order: DayOrder, partials: Sequence[Partial], shards: Sequence[int]
) -> list[Merged]:
    """Merge and write some shards of a large day, one after the other; errors as ``finish_day``."""
    merged = []
    for shard in shards:
        found = [one.statistics_of(reading, order.day, shard) for one in partials]
        units = add_up(order.metrics, order.day, found)
        if units.n:
            merged.append(_write(reading, order, shard, units))
    return merged


def _write(reading: ReadingOrder, order: DayOrder, shard: int, found: DayStatistics) -> Merged:
    """Write a shard, and count what must be true of it."""
    # Where no id stands twice no key does: one pass over the ids, and in most lakes no other.
    unique = all_distinct(found.keys[-1])
    return Merged(
        receipt=write_shard(reading.storage, order, shard, found),
        units=found.n,
        shared_ids=0 if unique else shared_ids(found.keys),
        n_events=int(found.n_events.sum()),
        impossible={
            metric.name: count_impossible(metric.measured, found.statistics[metric.name])
            for metric in order.metrics
        },
        repeated_units=0 if unique else count_repeated(found.keys),
    )


def close_day(
    order: DayOrder, partials: Sequence[Partial], written: Sequence[Sequence[Merged]]
) -> DayResult:
    """Put the receipt of a day together, from the shards that each merge has written."""
    merged = [one for task in written for one in task]
    accounts: dict[str, Account] = {}
    for partial in partials:
        for path, account in partial.accounts[order.day].items():
            accounts[path] = add_accounts(accounts.get(path), account)
    impossible = Counter({metric.name: 0 for metric in order.metrics})
    for one in merged:
        impossible.update(one.impossible)
    return DayResult(
        day=order.day,
        receipts=tuple(one.receipt for one in merged),
        accounts=accounts,
        rejections=tuple(merge_rejections([r for one in partials for r in one.rejections])),
        units=sum(one.units for one in merged),
        shared_ids=sum(one.shared_ids for one in merged),
        shards=count_shards(order.rows),
        n_events=sum(one.n_events for one in merged),
        impossible=dict(impossible),
        repeated_units=sum(one.repeated_units for one in merged),
    )
