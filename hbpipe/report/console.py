"""Progress on a terminal: one bar per stage, nothing where nobody watches."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

from hbpipe.data.clock import to_date
from hbpipe.errors import HbpipeError
from hbpipe.run.observe import Silent

if TYPE_CHECKING:
    from hbpipe.report.bars import Bars
    from hbpipe.run.night import Night


class ConsoleObserver(Silent):
    """Shows stages as progress bars on standard error; a log gets one line per stage instead."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Bars | None = None
        self._rows: int | None = None

    def __enter__(self) -> ConsoleObserver:
        if not self._quiet and _on_a_terminal():
            from hbpipe.report.bars import Bars  # a night without a terminal starts sooner

            self._bars = Bars()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def run_planned(self, night: Night) -> None:
        """Keep how many rows are to be read."""
        self._rows = night.plan.rows

    def night_ended(self, night: Night, error: BaseException | None) -> None:
        """Print why a night of many is not published."""
        if error is not None:
            found = error.found if isinstance(error, HbpipeError) else repr(error)
            self.message(f"No release of {to_date(night.plan.as_of)}: {found}")

    def stage_started(self, stage: str) -> None:
        """Show a bar."""
        if self._bars is not None:
            self._bars.start(stage, self._rows if stage == "aggregate" else None)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Move the bar."""
        if self._bars is not None:
            self._bars.move(stage, done, total)

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        """Fill the bar, or print a line to the log."""
        if self._bars is not None:
            self._bars.fill(stage)
        else:
            self.message(f"{stage}: " + ", ".join(f"{key} {it}" for key, it in summary.items()))

    def message(self, text: str) -> None:
        """Print a line."""
        if self._bars is not None:
            self._bars.print(text)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)


def _on_a_terminal() -> bool:
    return sys.stderr.isatty() or bool(os.environ.get("FORCE_COLOR"))
