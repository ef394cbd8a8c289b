"""What Prefect shows of a run: log lines, progress, a report and tables."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.observe import observers_of
from hbpipe.observe.lineage import ParentRun
from hbpipe.report.html.write import write_nightly
from hbpipe.run.due import DayPlan
from hbpipe.run.night import Night
from hbpipe.run.observe import Observer, Observers, Silent

#: Progress reaches the server at most this often; every update is a request.
UPDATE_INTERVAL_S = 2.0
#: What a person looks through; the lake's tables have every row.
MOST_ROWS = 500

_watchers: ContextVar[tuple[Observer, ...]] = ContextVar("watchers", default=())

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def watch(*observers: Observer) -> None:
    """Let observers watch the flows of this process beside Prefect's own.

    A flow cannot take them as parameters, for Prefect stores those.
    """
    _watchers.set(observers)


def everyone(settings: Settings, prefect: PrefectObserver, run: FlowRun) -> Observer:
    """Return who watches a flow run: Prefect, this process, and whom the settings ask for."""
    parent = ParentRun(str(run.id), namespace="prefect", job=f"flow.{run.flow_id}")
    return Observers(prefect, *_watchers.get(), observers_of(settings, parent=parent))


class PrefectObserver(Silent):
    """An observer that tells Prefect, best-effort: Prefect's troubles never end a night.

    Parameters
    ----------
    pipeline
        The pipeline's name, which begins the key of every artifact.
    logger
        The flow run's logger. It is bound to the run, so any thread may report.
    """

    def __init__(self, pipeline: str, logger: Logger) -> None:
        self._prefix = pipeline.replace("_", "-")  # the only letters that keys lack
        self._logger = logger
        self._bars: dict[str, UUID] = {}
        self._updated: dict[str, float] = {}

    def night_ended(self, night: Night, error: BaseException | None) -> None:
        """Log why a night of many is not published."""
        if error is not None:
            self._logger.error("No release of %s: %s", to_date(night.plan.as_of), error)

    def stage_started(self, stage: str) -> None:
        """Log it and open the stage's progress artifact."""
        self._logger.info("%s: started", stage)
        with self._best_effort("progress"):
            bar = create_progress_artifact(0.0, f"{self._prefix}-{stage}", description=stage)
            self._bars[stage] = cast("UUID", bar)  # a coroutine only where a loop is running

    def progress(self, stage: str, done: int, total: int) -> None:
        """Move the stage's progress artifact, now and then."""
        now = time.monotonic()
        if now - self._updated.get(stage, -UPDATE_INTERVAL_S) >= UPDATE_INTERVAL_S:
            self._updated[stage] = now
            self._move(stage, 100.0 * done / max(total, 1), f"{stage}: {done} of {total}")

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        """Log the summary and complete the progress artifact."""
        counts = ", ".join(f"{name} {value}" for name, value in summary.items())
        self._logger.info("%s: finished%s", stage, f" ({counts})" if counts else "")
        self._move(stage, 100.0, f"{stage}: finished")

    def message(self, text: str) -> None:
        """Log a line."""
        self._logger.info("%s", text)

    def name_run(self, flow_run_id: UUID, days: str) -> None:
        """Name the run after its days, which are known once it is planned."""
        with self._best_effort("the run's name"), get_client(sync_client=True) as client:
            client.update_flow_run(flow_run_id, name=f"{self._prefix} {days}")

    def report(self, markdown: str) -> None:
        """Keep a report as an artifact."""
        with self._best_effort("the report"):
            create_markdown_artifact(markdown, key=f"{self._prefix}-report")

    def page(self, settings: Settings, release: str) -> None:
        """Write the report of a release where the settings ask for one, and link to it."""
        with self._best_effort("the page of the release"):
            written = write_nightly(settings, release)
            if written is None:
                return
            base, path = settings.observe.report.url, written.path
            create_link_artifact(
                f"{base.rstrip('/')}/{path.name}" if base else path.absolute().as_uri(),
                f"Report of {release}",
                key=f"{self._prefix}-page",
                description=written.sentence,
            )

    def days(self, days: Sequence[DayPlan]) -> None:
        """Keep the days of a plan: why each is due, from how many files and rows."""
        self.table("days", [{**day.to_dict(), "files": len(day.files)} for day in days])

    def table(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Keep rows as an artifact; where there are very many, the first of them."""
        if not rows:
            return
        more = len(rows) - MOST_ROWS
        with self._best_effort(f"the table {name}"):
            create_table_artifact(
                list(rows[:MOST_ROWS]),
                key=f"{self._prefix}-{name}",
                description=f"{name}: the first {MOST_ROWS} of {len(rows)}" if more > 0 else name,
            )

    def _move(self, stage: str, percent: float, description: str) -> None:
        if stage in self._bars:
            with self._best_effort("progress"):
                update_progress_artifact(self._bars[stage], percent, description)

    @contextmanager
    def _best_effort(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._logger.warning("Prefect did not take %s: %s", what, error)
