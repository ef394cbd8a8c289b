"""The tasks that turn events into the statistics of days, as few as a scheduler is at ease with.

    read ──▶ finish_day                                          a day of few rows
    read ──▶ collect ──▶ merge_shards ──▶ close_day              a large day
    read ──▶ collect ──▶ find_copies ──▶ without_copies ──▶ collect ──▶ merge_shards ──▶ close_day
                                                                 a large day with event ids

Readers set aside what they find of a large day, a block for each shard. ``collect`` hands on where
the blocks lie: in one place, so that the graph has no edge from each reading to each shard.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from hbpipe.data.clock import to_date
from hbpipe.data.copies import find_copies, join_copies, without_copies
from hbpipe.data.daily import close_day, finish_day, merge_shards
from hbpipe.data.day_files import DayOrder
from hbpipe.data.events import EventFormat
from hbpipe.data.partials import ReadingOrder, collect, merges, summarise_readings
from hbpipe.data.quantities import Metric
from hbpipe.data.readings import Reading, Source, plan_readings
from hbpipe.data.snapshot import Snapshot
from hbpipe.run.due import DayPlan
from hbpipe.run.engine import Task
from hbpipe.run.night import Night
from hbpipe.run.tables import tables

#: Of each kind of task: to read, to find copies, to take them out, to merge; and one more a day.
MOST_TASKS = 2_000

T = TypeVar("T")


def day_tasks(night: Night) -> list[Task]:
    """Submit the work of all due days; those that need the same metrics share their readings."""
    alike: dict[tuple[str, ...], list[DayPlan]] = {}
    for day in night.plan.days:
        alike.setdefault(day.metrics, []).append(day)
    return [
        task
        for names, days in alike.items()
        for task in _tasks_of(night, tuple(m for m in night.metrics if m.name in names), days)
    ]


def _tasks_of(night: Night, metrics: tuple[Metric, ...], due: list[DayPlan]) -> list[Task]:
    """Submit every reading once, and for each day what waits for its readings."""
    form = _reading(night, metrics)
    readings = plan_readings(form, _sources(night, due))
    order = _reading_order(night, form, metrics, due, readings)
    read: dict[int, list[Task]] = {}
    for run in _runs(readings, len(readings)):
        task = night.engine.submit(summarise_readings, order, run, label=_label(run))
        for number in {number for reading in run for number in reading.days}:
            read.setdefault(number, []).append(task)
    snapshot = night.lake.snapshot("statistics")
    large = {day.day: merges(day.rows) for day in due if merges(day.rows) > 1}
    tasks = []
    for day in sorted(due, key=lambda day: day.day):
        if day.day in read:
            last = _day_order(night, form, metrics, day, snapshot)
            graph = _DayGraph(night, order, last, read[day.day])
            shards = sum(large.values())
            tasks.append(graph.sharded(readings, shards) if day.day in large else graph.whole())
    return tasks


@dataclass(frozen=True)
class _DayGraph:
    """The tasks of one day that come after its readings."""

    night: Night
    order: ReadingOrder
    last: DayOrder
    read: list[Task]

    def whole(self) -> Task:
        """Merge and write the day in one task."""
        return self._submit("merge", finish_day, self.order, self.last, self.read)

    def sharded(self, readings: Sequence[Reading], shards: int) -> Task:
        """Merge and write every shard by itself.

        Parameters
        ----------
        readings, shards
            Those of all days, which decide how many a task takes.
        """
        order, day = self.order, self.last.day
        mine = range(merges(self.last.rows))
        partials = self._submit("readings", collect, day, self.read)
        if day in order.compared:
            found = [
                self._submit("event ids", find_copies, order, day, partials, run)
                for run in _runs(mine, shards)
            ]
            copies = self._submit("copies of events", join_copies, found)
            numbers = range(sum(day in reading.days for reading in readings))
            without = [
                self._submit("events once", without_copies, order, day, partials, copies, run)
                for run in _runs(numbers, len(readings))
            ]
            partials = self._submit("readings", collect, day, without)
        written = [
            self._submit("merge", merge_shards, order, self.last, partials, run)
            for run in _runs(mine, shards)
        ]
        return self._submit("receipt", close_day, self.last, partials, written)

    def _submit(self, what: str, function: Callable[..., Any], *args: Any) -> Task:
        label = f"{what} of {to_date(self.last.day)}"
        return self.night.engine.submit(function, *args, label=label, priority=10)


def _runs(items: Sequence[T], total: int) -> list[Sequence[T]]:
    """Cut items into runs, one for a task, where all days together have ``total`` of them."""
    size = max(1, -(-total // MOST_TASKS))
    return [items[first : first + size] for first in range(0, len(items), size)]


def _label(run: Sequence[Reading]) -> str:
    """Name what a task reads, for errors."""
    pieces = [piece for reading in run for piece in reading.pieces]
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return f"aggregation of {first.file.path}, row groups {first.row_groups}"
    return f"aggregation of {len(pieces)} pieces, from {first.file.path} to {last.file.path}"


def _sources(night: Night, due: list[DayPlan]) -> list[Source]:
    """Return the files that feed due days."""
    fed: dict[str, list[int]] = {}
    for day in due:
        for path in day.files:
            fed.setdefault(path, []).append(day.day)
    entries = [(night.stock.files[path], tuple(days)) for path, days in fed.items()]
    return [
        Source(entry.file, entry.row_groups, tuple(sorted(entry.days)), days)
        for entry, days in entries
    ]


def _reading(night: Night, metrics: tuple[Metric, ...]) -> EventFormat:
    """Compare repeated events by what all metrics need, also where some alone are measured."""
    if not night.form.event_id or metrics == night.metrics:
        return night.form
    return replace(night.form, compared=night.form.columns(night.metrics))


def _reading_order(
    night: Night,
    form: EventFormat,
    metrics: tuple[Metric, ...],
    due: list[DayPlan],
    readings: list[Reading],
) -> ReadingOrder:
    """Say how to read; event ids are compared across readings where a day has several."""
    feeding = Counter(day for reading in readings for day in reading.days)
    crowded = frozenset(day for day, count in feeding.items() if count > 1)
    return ReadingOrder(
        storage=night.lake.storage,
        run_id=night.run_id,
        form=form,
        metrics=metrics,
        rows={day.day: day.rows for day in due},
        compared=crowded if form.event_id else frozenset(),
    )


def _day_order(
    night: Night,
    form: EventFormat,
    metrics: tuple[Metric, ...],
    day: DayPlan,
    statistics: Snapshot,
) -> DayOrder:
    label = to_date(day.day).isoformat()
    return DayOrder(
        form=form,
        metrics=metrics,
        day=day.day,
        label=label,
        rows=day.rows,
        table=replace(tables(night)["statistics"], schema=statistics.schema),
        run_id=night.run_id,
        kept=statistics.in_partitions([{"day": label}]) if day.keeps else None,
        keeps=day.keeps,
    )
