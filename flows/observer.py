"""What Prefect shows of a night: log lines, progress, a report and a table."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date
from typing import Any, cast
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client

from hbpipe.run.observe import Observer, Silent

#: Progress reaches the server at most this often; every update is a request.
UPDATE_INTERVAL_S = 2.0

_watchers: ContextVar[tuple[Observer, ...]] = ContextVar("watchers", default=())

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def watch(*observers: Observer) -> None:
    """Let observers watch the flows of this process beside Prefect's own.

    A flow cannot take them as parameters, for Prefect stores those.
    """
    _watchers.set(observers)


def watchers() -> tuple[Observer, ...]:
    """Return the observers beside Prefect's own."""
    return _watchers.get()


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

    def planned(self, flow_run_id: UUID, as_of: date) -> None:
        """Name the run after its as-of day, which is known once the night is planned."""
        with self._best_effort("the run's name"), get_client(sync_client=True) as client:
            client.update_flow_run(flow_run_id, name=f"{self._prefix} {as_of}")

    def report(self, markdown: str, hyperparameters: list[dict[str, Any]]) -> None:
        """Keep the night's report and its table of hyperparameters as artifacts."""
        with self._best_effort("the report"):
            create_markdown_artifact(markdown, key=f"{self._prefix}-report")
        if hyperparameters:
            with self._best_effort("the hyperparameters"):
                create_table_artifact(hyperparameters, key=f"{self._prefix}-hyperparameters")

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
