"""Progress bars of a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bars:
    """One bar for each stage, on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._rows: dict[str, int | None] = {}
        self._progress.start()

    def stop(self) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def start(self, stage: str, rows: int | None = None) -> None:
        """Show a bar; of a stage that reads rows, with how many it reads in a second."""
        self._tasks[stage] = self._progress.add_task(stage, total=1, rate="")
        self._rows[stage] = rows

    def move(self, stage: str, done: int, total: int) -> None:
        """Move the bar of a stage."""
        if stage not in self._tasks:
            return
        place, rows = self._tasks[stage], self._rows[stage]
        elapsed = self._progress.tasks[place].elapsed
        rate = f"{rows * done / total / elapsed:,.0f} rows/s" if rows and elapsed and total else ""
        self._progress.update(place, completed=done, total=total, rate=rate)

    def fill(self, stage: str) -> None:
        """Show that a stage is done."""
        if stage in self._tasks:
            total = self._progress.tasks[self._tasks[stage]].total or 1
            self._progress.update(self._tasks[stage], completed=total)

    def print(self, text: str) -> None:
        """Print a line above the bars."""
        self._console.print(text, markup=False)
