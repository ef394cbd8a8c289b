"""Which calendar months a night reads rolled up, and the months that it rolls up before.

A month stands for its days only where it was made from the very files that the night would read
instead, which their names tell: whatever happens to a day, late rows, another kernel, a restated or
a forgotten unit, its statistics lie in a file of another name then. Nothing else of the lake rests
on ``months``: it is no part of a release, and without it nights read days.

A night rolls up each month that it may use once late files are no longer looked for, and again
when it has changed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date

import pyarrow as pa

from hbpipe.config import digest
from hbpipe.data.clock import to_date, to_number
from hbpipe.data.rollup import ROLLUP_VERSION, RollupOrder, roll_up, said
from hbpipe.data.snapshot import FileRef, Snapshot
from hbpipe.data.span import month_of
from hbpipe.run import commits
from hbpipe.run.fingerprints import makings
from hbpipe.run.ledger import DayEntry, Making
from hbpipe.run.night import Night
from hbpipe.run.tables import lake_table


@dataclass(frozen=True)
class Sources:
    """What a night folds: daily files of its window and of the days before, and whole months.

    ``months`` are the files that stand for daily ones, which ``window`` and ``history`` then lack.
    ``listed`` are the units of the dimension table; ``shards`` is in how many the fold is cut.
    ``by_day`` are all daily files of the window, where some metric wants its days one by one.
    """

    window: Snapshot
    history: Snapshot | None
    listed: pa.Table | None
    within_parent: bool
    shards: int
    months: Snapshot | None = None
    by_day: Snapshot | None = None


@dataclass(frozen=True)
class Month:
    """A calendar month: its first day, and the daily files that are read of it."""

    first: int
    days: Snapshot
    in_window: bool = True

    @property
    def last(self) -> int:
        """The last day of the month."""
        return month_of(self.first)[1]

    @property
    def label(self) -> str:
        """Its partition in ``months``."""
        return to_date(self.first).isoformat()

    @property
    def made_from(self) -> str:
        """Name the files whose rows it folds, and the code that does."""
        return digest([ROLLUP_VERSION, sorted(file.path for file in self.days.files)])

    def alike(
        self, wanted: Mapping[str, Making], ledger: Mapping[int, DayEntry]
    ) -> dict[str, Making]:
        """Return of the makings that are wanted, by metric, those that all its days have."""
        days = {_day(file) for file in self.days.files}
        entries = [ledger.get(day) for day in days]
        done = [e.makings for e in entries if e is not None and e.state in ("complete", "gone")]
        if len(done) < len(days):
            return {}
        return {
            name: made
            for name, made in wanted.items()
            if all(found.get(name) == made for found in done)
        }

    def fits(self, files: Iterable[FileRef], naming: Collection[str], made_with: str) -> bool:
        """Tell whether files of ``months`` stand for the days; before a window metrics are moot."""
        mine = [file for file in files if file.partition["month"] == self.label]
        made_from = self.made_from
        return bool(mine) and all(
            said(file, "made_from") == made_from
            and said(file, "unit_ids") in naming
            and (not self.in_window or said(file, "made_with") == made_with)
            for file in mine
        )


def with_months(night: Night, sources: Sources) -> Sources:
    """Roll up the months that are due, and let all that fit stand for their days.

    Raises
    ------
    LakeError
        When a day cannot be read, or the lake cannot be written.
    """
    whole = whole_months(sources, night.plan.window)
    made_with = digest(makings(night.form, night.metrics))
    naming = ("any", "within_parent" if sources.within_parent else "unique")

    def fitting(table: Snapshot) -> list[Month]:
        return [month for month in whole if month.fits(table.files, naming, made_with)]

    table = night.lake.snapshot("months", night.versions["months"])
    known = fitting(table)
    due = [month for month in _over(night, whole) if month not in known]
    if due:
        _roll_up(night, sources, due)
        table = night.lake.snapshot("months", night.versions["months"])
        known = fitting(table)
    return _replaced(sources, known, table)


def whole_months(sources: Sources, window: Sequence[int]) -> list[Month]:
    """List the months that lie wholly in the window, or wholly before it, and have statistics.

    The month that ends with the window is read by day: its last day is wanted by itself.
    """
    before = [] if sources.history is None else by_month(sources.history)
    past = [replace(month, in_window=False) for month in before if month.last < window[0]]
    inside = [
        month
        for month in by_month(sources.window)
        if window[0] <= month.first and month.last < window[-1]
    ]
    return past + inside


def by_month(days: Snapshot) -> list[Month]:
    """Sort daily files into their months."""
    found: dict[int, list[FileRef]] = {}
    for file in days.files:
        found.setdefault(month_of(_day(file))[0], []).append(file)
    return [Month(first, replace(days, files=tuple(found[first]))) for first in sorted(found)]


def _day(file: FileRef) -> int:
    return to_number(date.fromisoformat(file.partition["day"]))


def _over(night: Night, whole: Sequence[Month]) -> list[Month]:
    """List the months of which no late file is looked for any more.

    Where retention takes old days the month that it is at changes with every upkeep, and is read
    by day.
    """
    settings = night.settings
    end = night.plan.as_of - settings.events.horizon
    over = [month for month in whole if month.last <= end]
    if settings.retention.statistics is None or not over:
        return over
    oldest = min(_day(file) for month in over for file in month.days.files)
    return [month for month in over if month.first >= oldest]


def _roll_up(night: Night, sources: Sources, due: Sequence[Month]) -> None:
    """Fold some months on the workers, and commit them together."""
    schema = lake_table(night, "months").data_schema
    wanted = makings(night.form, night.metrics)
    tasks = []
    for month in due:
        alike = month.alike(wanted, night.days)
        shards = _shards(night, month, sources.shards)
        for shard in range(shards):
            days = of_shard(month.days, shard, shards)
            if days.files:
                order = RollupOrder(
                    metrics=tuple(metric for metric in night.metrics if metric.name in alike),
                    levels=night.form.levels,
                    days=days,
                    within_parent=sources.within_parent,
                    month=month.first,
                    shard=shard,
                    made_from=month.made_from,
                    made_with=digest(alike),
                    schema=schema,
                    label=month.label,
                    run_id=night.run_id,
                )
                label = f"roll-up of {month.label[:7]}, shard {shard}"
                tasks.append(night.engine.submit(roll_up, night.lake.storage, order, label=label))
    receipts = [receipt for receipt in night.engine.gather(tasks) if receipt is not None]
    commits.commit_months(night, receipts, [month.label for month in due])


def _shards(night: Night, month: Month, least: int) -> int:
    """Return the fewest shards of any day of a month; those of a fold nest within them."""
    entries = [night.days.get(_day(file)) for file in month.days.files]
    return min((entry.shards for entry in entries if entry is not None), default=least)


def of_shard(snapshot: Snapshot, shard: int, shards: int) -> Snapshot:
    """Narrow a snapshot to the files of one shard; a file holds one shard of its day or month."""
    return snapshot.select(lambda file: file.statistics["shard"][0] % shards == shard)


def _replaced(sources: Sources, known: Sequence[Month], table: Snapshot) -> Sources:
    """Leave out the daily files of some months, which stand for them."""
    labels = {month.label for month in known}
    rolled = {file.path for month in known for file in month.days.files}
    window, history = sources.window, sources.history
    return replace(
        sources,
        window=window.select(lambda file: file.path not in rolled),
        history=history and history.select(lambda file: file.path not in rolled),
        months=table.select(lambda file: file.partition["month"] in labels),
    )
