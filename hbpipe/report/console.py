"""Progress on a terminal: one bar per stage, nothing where nobody watches."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from hbpipe.data.clock import to_date
from hbpipe.errors import HbpipeError
from hbpipe.run.observe import Silent

if TYPE_CHECKING:
    from hbpipe.run.night import Night


class ConsoleObserver(Silent):
    """Shows stages as progress bars on standard error; a log gets one line per stage instead."""

    def __init__(self, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._bars = self._console.is_terminal and not quiet
        self._progress = Progress(
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._bars,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> ConsoleObserver:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def night_ended(self, night: Night, error: BaseException | None) -> None:
        """Print why a night of many is not published."""
        if error is not None:
            found = error.found if isinstance(error, HbpipeError) else repr(error)
            self.message(f"No release of {to_date(night.plan.as_of)}: {found}")

    def stage_started(self, stage: str) -> None:
        """Show a bar."""
        self._tasks[stage] = self._progress.add_task(stage, total=1)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Move the bar."""
        if stage in self._tasks:
            self._progress.update(self._tasks[stage], completed=done, total=total)

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        """Fill the bar, or print a line to the log."""
        if stage in self._tasks:
            total = self._progress.tasks[self._tasks[stage]].total or 1
            self._progress.update(self._tasks[stage], completed=total)
        if not self._bars:
            facts = ", ".join(f"{key} {value}" for key, value in summary.items())
            self._console.print(f"{stage}: {facts}", markup=False, soft_wrap=True)

    def message(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)
