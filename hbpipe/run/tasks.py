"""What surrounds a task where it runs: its name in errors and in warnings."""

from __future__ import annotations

import functools
import logging
import os
import socket
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from hbpipe.errors import EngineError, HbpipeError

_task: ContextVar[str | None] = ContextVar("task", default=None)
#: The logger of Python's warnings, once they are captured.
WARNINGS = "py.warnings"


def current_task() -> str | None:
    """Return the label of the task that this thread works on."""
    return _task.get()


def run(label: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function where the task runs: there its name and the line that failed are known."""
    token = _task.set(label)
    try:
        return function(*args)
    except HbpipeError:
        raise
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise EngineError(
            f"{label} failed: {type(error).__name__}: {error}",
            where={"raised_at": f"{place.filename}:{place.lineno} in {place.name}"},
            remedy="hbpipe knows no such fault of the data: report it with the place above",
        ) from error
    finally:
        _task.reset(token)


def this_process() -> str:
    """Name the process that this is, among those of all machines."""
    return f"{socket.gethostname()}:{os.getpid()}"


def run_apart(driver: str, label: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function where the warnings of a worker are brought to the driver by Dask.

    A worker may also be a thread of ``driver``, the process that waits for it: it warns there.
    """
    if this_process() != driver:
        _log_warnings()
    return run(label, function, *args)


@functools.cache
def _log_warnings() -> None:
    """Turn warnings of this process into log records that name their task."""
    logging.captureWarnings(True)
    logging.getLogger(WARNINGS).addFilter(_name_task)


def _name_task(record: logging.LogRecord) -> bool:
    record.task = current_task()
    return True
