"""The log: one JSON object for each event of a run, on a file or standard error."""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TextIO

from hbpipe.data.clock import to_date
from hbpipe.errors import HbpipeError
from hbpipe.observe.lines import append_line
from hbpipe.observe.record import Record
from hbpipe.run.audits import Check, by_severity
from hbpipe.run.night import Night
from hbpipe.run.observe import Opening, Silent
from hbpipe.run.tasks import WARNINGS, current_task

#: A stage in progress writes a line at most this often, in seconds.
PROGRESS_INTERVAL_S = 30.0
STDERR = "stderr"
#: The loggers whose warnings are written down while a run goes on.
_HEARD = (WARNINGS, "hbpipe")
#: Checks that a person should know of, and how loudly.
_LEVELS = {"fail": "error", "warn": "warning"}


class JsonLog(Silent):
    """Writes every event as one line.

    Parameters
    ----------
    path
        The file, appended to; or ``stderr``.
    record
        The run.
    """

    def __init__(self, path: str, record: Record) -> None:
        self._path = path
        self._record = record
        self._handler = _Warnings(self)
        self._progressed: dict[str, float] = {}
        self._shown: Callable[..., Any] = warnings.showwarning

    def write(self, event: str, level: str = "info", **fields: Any) -> None:
        """Write one event; fields without a value are left out."""
        record = self._record
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "event": event,
            "run_id": record.run_id,
            "pipeline": record.settings.pipeline,
            "environment": record.settings.environment,
            "kind": record.kind,
            "as_of": record.as_of,
            "run_attempt": None if record.night is None else record.night.attempt,
            **fields,
        }
        known = {name: value for name, value in line.items() if value is not None}
        text = json.dumps(known, default=str, ensure_ascii=False)
        if self._path == STDERR:
            print(text, file=sys.stderr, flush=True)
        else:
            append_line(self._path, text)

    def run_opened(self, opening: Opening) -> None:
        """Write that a run begins, and listen to warnings until it ends."""
        self._shown = warnings.showwarning
        warnings.showwarning = _log_warning
        for name in _HEARD:
            logging.getLogger(name).addHandler(self._handler)
        self._progressed.clear()
        self.write("run_started")

    def run_planned(self, night: Night) -> None:
        """Write what is to be done, and a line for each day of it."""
        plan = night.plan
        self.write(
            "run_planned",
            days=len(plan.days),
            rows=sum(day.rows for day in plan.days),
            release_due=plan.release_due,
            reason=plan.release_reason,
        )
        for day in plan.to_dict()["days"]:
            # Of the reason its kind: names of files may have ids in them, and the plan has them.
            kind = day["reason"].partition(":")[0]
            files = len(day["files"])
            self.write("day_due", day=day["day"], reason=kind, rows=day["rows"], files=files)
        for note in plan.notes:
            self.write("note", "warning", message=note)

    def night_ended(self, night: Night, error: BaseException | None) -> None:
        """Write how a night of many ended, and what its checks found."""
        as_of, released = to_date(night.plan.as_of), night.released
        for check in by_severity(night.checks):
            if check.gate == "release" and check.status in _LEVELS:
                self._write_check(check, as_of=as_of)
        self.write(
            "night_published" if error is None else "night_failed",
            "info" if error is None else "error",
            as_of=as_of,
            release=None if released is None else released["release"],
            error=None if error is None else error_fields(error),
        )

    def stage_started(self, stage: str) -> None:
        """Write that a stage begins, and at which attempt."""
        attempt = self._record.stage(stage).attempt
        level = "info" if attempt == 1 else "warning"
        self.write("stage_started", level, stage=stage, attempt=attempt)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Write how far a stage is, now and then."""
        now = time.monotonic()
        if now - self._progressed.setdefault(stage, now) >= PROGRESS_INTERVAL_S:
            self._progressed[stage] = now
            attempt = self._record.stage(stage).attempt
            self.write("progress", stage=stage, attempt=attempt, done=done, total=total)

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        """Write what a stage did and how long it took."""
        run = self._record.stage(stage)
        seconds = None if run.seconds is None else round(run.seconds, 3)
        self.write(
            "stage_finished", stage=stage, attempt=run.attempt, seconds=seconds, numbers=summary
        )

    def message(self, text: str) -> None:
        """Write what a person should know."""
        self.write("message", message=text)

    def run_ended(self, error: BaseException | None) -> None:
        """Write what checks found, which days are held, and how the run ended."""
        record = self._record
        for check in (*record.checks("fail"), *record.checks("warn")):
            self._write_check(check)
        for day, reason in record.held().items():
            self.write("day_held", "warning", day=day, reason=reason)
        released = record.released
        self.write(
            "run_finished" if error is None else "run_failed",
            "info" if error is None else "error",
            exit_status=record.exit_status,
            seconds=round(record.seconds, 3),
            rows=record.rows,
            retries=record.retries,
            release=None if released is None else released["release"],
            stage=_failed_stage(record),
            error=None if error is None else error_fields(error),
        )
        for name in _HEARD:
            logging.getLogger(name).removeHandler(self._handler)
        warnings.showwarning = self._shown

    def _write_check(self, check: Check, **fields: Any) -> None:
        self.write(
            "check",
            _LEVELS[check.status],
            gate=check.gate,
            check=check.name,
            subject=check.subject,
            value=check.value,
            threshold=check.threshold,
            message=check.message,
            **fields,
        )


def _failed_stage(record: Record) -> str | None:
    """Return the stage that the run failed in; None of a run that did not, or not in a stage."""
    last = record.stages[-1] if record.stages else None
    return last.name if last and last.seconds is None and record.error else None


def error_fields(error: BaseException) -> dict[str, Any]:
    """Split an error into what a person looks for."""
    if not isinstance(error, HbpipeError):
        return {"kind": type(error).__name__, "found": str(error)}
    return {
        "kind": type(error).__name__,
        "found": error.found,
        "where": {name: str(value) for name, value in error.where.items()},
        "expected": error.expected,
        "remedy": error.remedy,
    }


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Log what Python would show on standard error."""
    text = warnings.formatwarning(message, category, filename, lineno, line)
    logging.getLogger(WARNINGS).warning("%s", text)


class _Warnings(logging.Handler):
    """Writes what Python and hbpipe warn of, with the task that they warn from."""

    def __init__(self, log: JsonLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one warning; where the log cannot be written, on standard error."""
        text = record.getMessage().strip()
        chunk = getattr(record, "task", None) or current_task()
        try:
            self._log.write(
                "warning", record.levelname.lower(), message=text, logger=record.name, chunk=chunk
            )
        except OSError:
            print(f"hbpipe: {text}", file=sys.stderr)
