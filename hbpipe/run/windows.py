"""What each shard of a window is folded from: days, the days before them, and the store table."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from hbpipe.data.clock import to_date
from hbpipe.data.clusters import one_in
from hbpipe.data.day_tables import lay_out_days
from hbpipe.data.forgotten import without_forgotten
from hbpipe.data.presence import Presence
from hbpipe.data.reconcile import needed_columns, weight_columns
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.units import shard_of, shared_ids
from hbpipe.data.window import Folded, WindowOrder, fold_window
from hbpipe.errors import EventsError
from hbpipe.run.engine import Engine, Task
from hbpipe.run.fingerprints import needs_history
from hbpipe.run.ledger import DayEntry
from hbpipe.run.months import Sources, of_shard
from hbpipe.run.night import Night
from hbpipe.run.universe import check_weights, read_stores


def find_sources(night: Night) -> Sources:
    """Find the daily statistics that a night folds, and the units of the table of stores.

    Raises
    ------
    EventsError
        When the table of stores cannot be used.
    """
    settings, first = night.settings, night.plan.window[0]
    snapshot = night.lake.snapshot("statistics", night.versions["statistics"])
    levels = night.form.levels
    needed = needed_columns(night.metrics)
    listed = read_stores(settings.stores, levels, night.stock.level_types, needed)
    if listed is not None:
        check_weights(listed, weight_columns(night.metrics))
        listed = without_forgotten(listed, night.form.forgotten, levels)
    window = _without(_between(snapshot, first, night.plan.as_of), night.left_out)
    return Sources(
        window=window,
        history=_between(snapshot, None, first - 1) if needs_history(settings) else None,
        listed=listed,
        within_parent=_within_parent(night, listed),
        shards=_fold_shards(night),
        by_day=window if any(metric.by_day for metric in night.metrics) else None,
    )


def window_orders(night: Night, sources: Sources) -> list[WindowOrder]:
    """Describe each shard's part of the window, of the days before it, and of the store table."""
    first, as_of = night.plan.window[0], night.plan.as_of
    silent = night.settings.stores.keep_silent
    unit, shards, listed = night.form.levels[-1], sources.shards, sources.listed

    def part(snapshot: Snapshot | None, shard: int) -> Snapshot | None:
        return None if snapshot is None else of_shard(snapshot, shard, shards)

    return [
        WindowOrder(
            metrics=night.metrics,
            levels=night.form.levels,
            window=of_shard(sources.window, shard, shards),
            history=part(sources.history, shard),
            listed=None if listed is None else _shard_of_stores(listed, unit, shard, shards),
            within_parent=sources.within_parent,
            first_day=first,
            as_of=as_of,
            silent_since=min(first, as_of - silent + 1) if silent is not None else first,
            one_in=max((one_in(entry.account.rows) for entry in night.rests_on), default=1),
            attributes=needed_columns(night.metrics),
            months=part(sources.months, shard),
            by_day=part(sources.by_day, shard),
        )
        for shard in range(shards)
    ]


def fold_shards(engine: Engine, orders: Iterable[WindowOrder]) -> list[Task]:
    """Fold the shards of a window, in the form in which each metric is fitted."""
    folded = []
    for shard, order in enumerate(orders):
        task = engine.submit(fold_window, order, label=f"window fold of shard {shard}")
        if any(metric.dynamics is not None for metric in order.metrics):
            task = engine.submit(lay_out_days, task, order, label=f"days of shard {shard}")
        folded.append(task)
    return folded


def presence_of(night: Night) -> list[Presence]:
    """Return how many units each day has, shard by shard of what is folded."""
    tasks = [
        night.engine.submit(_presence, folded, label="units by day") for folded in night.folded
    ]
    return night.engine.gather(tasks)


def _presence(folded: Folded) -> Presence | None:
    return folded.presence


def _between(snapshot: Snapshot, first: int | None, last: int) -> Snapshot:
    """Narrow a snapshot to the files of some days, both ends included."""
    least = "" if first is None else to_date(first).isoformat()
    greatest = to_date(last).isoformat()
    return snapshot.select(lambda file: least <= file.partition["day"] <= greatest)


def _without(snapshot: Snapshot, held: Iterable[DayEntry]) -> Snapshot:
    """Leave out the statistics that held days may have from before."""
    labels = {to_date(entry.day).isoformat() for entry in held}
    return snapshot.select(lambda file: file.partition["day"] not in labels)


def _fold_shards(night: Night) -> int:
    """Return the fewest shards of any day that is read; finer ones nest within them."""
    first = None if needs_history(night.settings) else night.plan.window[0]
    return min(
        (
            entry.shards
            for day, entry in night.days.items()
            if day <= night.plan.as_of and (first is None or day >= first) and entry.units
        ),
        default=1,
    )


def _shard_of_stores(listed: pa.Table, unit: str, shard: int, shards: int) -> pa.Table:
    places = shard_of(listed.column(unit), shards)
    return listed.take(np.flatnonzero(places == shard))


def _within_parent(night: Night, listed: pa.Table | None) -> bool:
    """Decide whether unit ids are unique by themselves.

    ``auto``: an id seen under two parents on one day, or in the table of stores, belongs to two
    stores, so ids are only unique within their parent; an id seen under one parent at a time has
    moved.
    """
    mode = night.settings.events.unit_ids
    if mode == "within_parent":
        return True
    reused = 0 if listed is None else shared_ids(tuple(map(listed.column, night.form.levels)))
    if mode == "auto":
        return bool(reused) or any(entry.shared_ids for entry in night.rests_on)
    if reused:
        raise EventsError(
            f"{reused} store id(s) of the table of stores stand under more than one parent",
            where={"stores.path": night.settings.stores.path},
            expected="each id once, as events.unit_ids is unique",
            remedy="correct the table, or set events.unit_ids to within_parent",
        )
    return False
