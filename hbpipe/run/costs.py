"""What a plan costs: rows and bytes from the ledger, seconds from the runs before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from hbpipe.data.survey import RowGroup
from hbpipe.run.due import DayPlan
from hbpipe.run.runs import RunEntry
from hbpipe.run.stock import Stock

#: So many of the newest runs say how long a run takes.
_RECENT = 20
#: The stage that reads the days of the plan; the others work on the whole window.
_READING = "aggregate"


def bytes_of(stock: Stock, days: Iterable[DayPlan]) -> int:
    """Count the bytes of the row groups that may hold rows of some days, each group once."""
    groups = {
        (path, group.index): group.bytes
        for day in days
        for path in day.files
        for group in _groups_of(stock, path, day.day)
    }
    return sum(groups.values())


def _groups_of(stock: Stock, path: str, day: int) -> list[RowGroup]:
    groups = stock.files[path].row_groups
    return [group for group in groups if group.first_day <= day <= group.last_day]


def expected_seconds(runs: Sequence[RunEntry], rows: int) -> float | None:
    """Say how long a run that reads ``rows`` rows takes; None without runs to tell from.

    Reading takes its median time per row, every other stage its median time: it works on the
    whole window, however few days of it are read.
    """
    finished = [run for run in runs if run.state == "done" and run.seconds][-_RECENT:]
    if not finished:
        return None
    per_row = [
        run.seconds[_READING] / run.rows for run in finished if run.rows and _READING in run.seconds
    ]
    if rows and not per_row:
        return None
    reading = rows * median(per_row) if rows else 0.0
    stages = {stage for run in finished for stage in run.seconds} - {_READING}
    rest = [
        median([run.seconds[stage] for run in finished if stage in run.seconds])
        for stage in sorted(stages)
    ]
    return reading + sum(rest)
