"""The backfill flow: the nights of a range of days, watched by Prefect.

The work is that of ``hbpipe backfill``. A task is a batch of days; or a few batches, where a range
is so long that Prefect would have too many task runs.
"""

# Annotations are not postponed here, as in nightly.py.

from collections import deque
from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Annotated, Literal

from prefect import flow, get_run_logger
from pydantic import Field

from flows.due import this_run
from flows.observer import PrefectObserver, everyone
from flows.parameters import Config, Env, Overrides, Told
from flows.tasks import run_as_task
from hbpipe.config import load_settings
from hbpipe.run.backfill import Range, decide
from hbpipe.run.observe import Observer
from hbpipe.run.rebuild import Step, open_rebuild, report_of
from hbpipe.run.rebuild_report import RebuildReport

#: Of one flow run; with many hundreds Prefect's server slows down.
MOST_TASKS = 150


@flow(name="backfill", flow_run_name="backfill", persist_result=False)
def backfill(
    config: Config,
    start: Annotated[date, Told("the first as-of day")],
    end: Annotated[date, Told("the last as-of day")],
    env: Env = None,
    reprocess: Annotated[
        Literal["missing", "failed", "all"],
        Told(
            "missing: what has no release, or a stale one; failed: also what failed a gate; "
            "all: everything"
        ),
    ] = "missing",
    max_active: Annotated[
        int, Field(ge=1), Told("the size of a batch: so many days are worked on at once")
    ] = 30,
    newest_first: Annotated[
        bool, Told("measure the latest days first; releases come in the order of their days")
    ] = False,
    overrides: Overrides = (),
) -> RebuildReport:
    """Publish the nights of a range of as-of days, as far as they are missing.

    Raises
    ------
    GateError
        When a night failed its gate; all others are published.
    HbpipeError
        As ``hbpipe backfill``.
    """
    settings = load_settings(config, env, overrides)
    prefect, run = PrefectObserver(settings.pipeline, get_run_logger()), this_run()
    prefect.name_run(run.id, f"{start}..{end}")
    chosen = partial(
        decide, within=Range(start, end), reprocess=reprocess, newest_first=newest_first
    )
    observer = everyone(settings, prefect, run)
    with open_rebuild(
        settings, chosen, batch=max_active, kind="backfill", observer=observer
    ) as rebuild:
        prefect.days(rebuild.plan.days)
        prefect.table("nights", [night.to_dict() for night in rebuild.plan.nights])
        run_steps(list(rebuild.steps()), observer)
        report = report_of(rebuild)
    prefect.report(report.text())
    failure = report.failure()
    if failure is not None:
        raise failure
    return report


def run_steps(steps: Sequence[Step], observer: Observer) -> None:
    """Run the steps in their order, each as a task; where there are many, several in one."""
    size = max(1, -(-len(steps) // MOST_TASKS))
    groups = [deque(steps[first : first + size]) for first in range(0, len(steps), size)]
    observer.stage_started("backfill")
    for done, group in enumerate(groups, start=1):
        more = f" and {len(group) - 1} more" if len(group) > 1 else ""
        run_as_task(f"{group[0].label}{more}", partial(_run, group))
        observer.progress("backfill", done, len(groups))
    observer.stage_finished("backfill", {"batches": len(steps)})


def _run(left: deque[Step]) -> None:
    """Run steps until none is left; tried again, go on with the one that failed."""
    while left:
        left[0].run()
        left.popleft()
