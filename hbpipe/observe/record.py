"""What a run has told so far: every sink reads it, and hears when to."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.errors import HbpipeError
from hbpipe.observe.courier import within
from hbpipe.run.audits import Check
from hbpipe.run.night import Night, open_lake
from hbpipe.run.nightly import rows_read
from hbpipe.run.observe import NIGHT, Opening, Silent
from hbpipe.run.releases import current_release

#: How long the lake may take to say what readers see, in seconds.
LAKE_S = 10.0
_INTERRUPTED = 130  # what a shell says of a process that Ctrl-C ended


@dataclass
class StageRun:
    """One attempt at a stage; ``seconds`` is None while it goes on, and where it failed."""

    name: str
    attempt: int
    seconds: float | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)


class Record(Silent):
    """The story of one run; a run that is opened after it begins another.

    Parameters
    ----------
    settings
        Of the pipeline.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.opening: Opening | None = None
        self._forget()

    def _forget(self) -> None:
        self.night: Night | None = None
        #: Of a backfill or a restatement: its nights that are over, each with how it ended.
        self.nights: dict[date, BaseException | None] = {}
        self.last: Night | None = None
        self.stages: list[StageRun] = []
        self.error: BaseException | None = None
        self.ended: datetime | None = None
        self._began = time.monotonic()
        self.seconds = 0.0
        self._seen: tuple[Mapping[str, Any] | None, Exception | None] | None = None

    # --- what it hears --------------------------------------------------------------------------

    def run_opened(self, opening: Opening) -> None:
        """Begin a record."""
        self._forget()
        self.opening = opening

    def run_planned(self, night: Night) -> None:
        """Keep the night, which fills up."""
        self.night = night

    def night_ended(self, night: Night, error: BaseException | None) -> None:
        """Keep how a night of many ended; of one that was tried again, its last end."""
        self.nights[to_date(night.plan.as_of)] = error
        self.last = night

    def stage_started(self, stage: str) -> None:
        """Begin an attempt at a stage."""
        before = sum(run.name == stage for run in self.stages)
        self.stages.append(StageRun(stage, before + 1))

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        """End the attempt."""
        run = self.stage(stage)
        run.seconds, run.summary = time.monotonic() - run.began, summary

    def run_ended(self, error: BaseException | None) -> None:
        """End the record."""
        self.error, self.ended = error, datetime.now(UTC)
        self.seconds = time.monotonic() - self._began

    # --- what it tells --------------------------------------------------------------------------

    def stage(self, name: str) -> StageRun:
        """Return the last attempt at a stage."""
        return next(run for run in reversed(self.stages) if run.name == name)

    @property
    def run_id(self) -> str | None:
        """The run's name."""
        return None if self.opening is None else self.opening.run_id

    @property
    def kind(self) -> str:
        """What kind of run it is."""
        return NIGHT if self.opening is None else self.opening.kind

    @property
    def as_of(self) -> date | None:
        """The last business day included, once it is planned."""
        return None if self.night is None else to_date(self.night.plan.as_of)

    @property
    def exit_status(self) -> int:
        """The exit code that the command line gives this end."""
        if isinstance(self.error, HbpipeError):
            return self.error.exit_code
        if isinstance(self.error, KeyboardInterrupt):
            return _INTERRUPTED
        if isinstance(self.error, SystemExit) and isinstance(self.error.code, int):
            return self.error.code
        return 0 if self.error is None else 1

    @property
    def retries(self) -> int:
        """How often a stage was tried again."""
        return sum(run.attempt > 1 for run in self.stages)

    @property
    def rows(self) -> dict[str, int] | None:
        """The rows that the run read; None before it is planned."""
        return None if self.night is None else rows_read(self.night)

    @property
    def failed_nights(self) -> dict[date, BaseException]:
        """The nights of many that were not published, each with the error."""
        return {day: error for day, error in self.nights.items() if error is not None}

    def checks(self, status: str) -> list[Check]:
        """Return the checks of this run that ended with a status: pass, warn or fail."""
        found: Iterable[Check] = () if self.night is None else self.night.checks
        return [check for check in found if check.status == status]

    def held(self) -> dict[date, str]:
        """Return the days that the data gate holds back, each with the checks that failed."""
        night = self.night or self.last
        if night is None:
            return {}
        days = night.days or night.stock.ledger
        return {to_date(e.day): e.reason for e in days.values() if e.state == "held"}

    @property
    def released(self) -> Mapping[str, Any] | None:
        """The row of ``releases`` that this run published."""
        return None if self.night is None else self.night.released

    def seen_by_readers(self) -> Mapping[str, Any] | None:
        """Return the release that readers of the environment see now; None of none.

        That need not be the one of this run, where somebody has chosen another. A store that is
        down may be what the run failed of, so it is asked once, and not waited for long.

        Raises
        ------
        HbpipeError, OSError
            The lake cannot be read, or not in time.
        """
        if self._seen is None:
            try:
                self._seen = (within(LAKE_S, self._current_release), None)
            except (HbpipeError, OSError) as error:
                self._seen = (None, error)
        release, trouble = self._seen
        if trouble is not None:
            raise trouble
        return release

    def _current_release(self) -> Mapping[str, Any] | None:
        return current_release(open_lake(self.settings), self.settings.environment)
