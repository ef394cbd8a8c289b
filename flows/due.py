"""The day that a scheduled run works for: the last that was over when the run was due."""

from __future__ import annotations

from datetime import UTC, date, datetime

from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext

from hbpipe.config import Settings
from hbpipe.data.clock import to_date
from hbpipe.run.stock import calendar_of


def this_run() -> FlowRun:
    """Return the flow run that this thread is in."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("only within a flow run")
    return context.flow_run


def run_id_of(run: FlowRun, number: int) -> str:
    """Name the run of hbpipe that is attempt ``number``, from 1, of a flow run.

    So an attempt finds what the ones before it had planned.
    """
    begun = run.expected_start_time or run.created
    moment = "" if begun is None else f"{begun:%Y%m%dT%H%M%S}-"
    return f"{moment}{run.id.hex[-8:]}" + (f"-{number}" if number > 1 else "")


def scheduled_day(settings: Settings) -> date | None:
    """Return the last business day over when this run was due, or None without a deployment.

    A run that starts late, or is tried again the day after, still works for the day it was meant. A
    day whose late files were still awaited then is the next run's.
    """
    run = this_run()
    if run.deployment_id is None or run.expected_start_time is None:
        return None
    due = datetime.fromtimestamp(run.expected_start_time.timestamp(), UTC)
    return to_date(calendar_of(settings).last_over(due - settings.events.complete_after))
