"""The nightly flow: one night of a pipeline, watched by Prefect.

The night itself is ``hbpipe.run``, which also runs without Prefect (``hbpipe run``). This flow
turns parameters into settings, makes every stage a Prefect task, and hands the night an observer.
Correctness never rests on Prefect's states: the lake's own commits decide what is done.
"""

# Annotations are not postponed here: Prefect reads a flow's parameters from them, also in the
# process that serves it, where names that only annotations use do not exist.

import argparse
import logging
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL, PREFECT_HOME

from flows.local import embedded_server
from flows.observer import PrefectObserver, watch, watchers
from hbpipe.config import Settings, load_settings
from hbpipe.data.clock import Calendar, to_date, to_number
from hbpipe.errors import EngineError, HbpipeError
from hbpipe.report.console import ConsoleObserver
from hbpipe.report.night import NightReport
from hbpipe.run.night import Night, open_night
from hbpipe.run.nightly import finish, run_stage
from hbpipe.run.observe import Observers
from hbpipe.run.stages import STAGES
from hbpipe.run.stock import event_format

#: Waits before a stage that lost its cluster is tried again.
RETRY_DELAYS_S: list[float] = [10, 60]


@flow(name="nightly", flow_run_name="nightly", persist_result=False)
def nightly(
    config: str,
    env: str | None = None,
    as_of: date | None = None,
    overrides: Sequence[str] = (),
    full_scan: bool = False,
    accept_missing: bool = False,
) -> NightReport:
    """Bring the window of one as-of day up to date and publish one release.

    Parameters
    ----------
    config
        The settings file.
    env
        The overlay ``env/NAME.yaml`` beside it.
    as_of
        The last business day included. By default the last day that was over when the run was
        scheduled to start; without a schedule, the latest complete day of events.
    overrides
        ``section.key=value`` strings. Secrets belong into references, for Prefect stores these.
    full_scan
        Look for late input beyond ``events.horizon``.
    accept_missing
        Take out the rows of files that have vanished.

    Raises
    ------
    HbpipeError
        As ``hbpipe run`` does. A failed gate fails the run and leaves the old release.
    """
    settings = load_settings(config, env, overrides)
    prefect = PrefectObserver(settings.pipeline, get_run_logger())
    observer = Observers(prefect, *watchers())
    with open_night(
        settings,
        as_of=as_of or scheduled_day(settings),
        observer=observer,
        full_scan=full_scan,
        accept_missing=accept_missing,
    ) as night:
        prefect.planned(_this_run().id, to_date(night.plan.as_of))
        if night.plan.work:
            for stage in STAGES:
                run_as_task(stage, night)
        report = finish(night)
    prefect.report(report.markdown(), report.hyperparameters())
    return report


def run_as_task(stage: Callable[[Night], dict[str, Any]], night: Night) -> None:
    """Run one stage as a Prefect task.

    The task has no parameters and keeps no result, so Prefect hashes and stores nothing. Only a
    lost worker or cluster is tried again: another attempt cannot mend events or a failed gate.
    """

    @task(
        name=stage.__name__,
        task_run_name=stage.__name__,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=RETRY_DELAYS_S,
        retry_condition_fn=_is_infrastructure,
    )
    def run() -> None:
        run_stage(stage, night)

    run()


def _is_infrastructure(_task: Any, _run: Any, state: State[Any]) -> bool:
    return isinstance(state.data, EngineError)


def _this_run() -> FlowRun:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("only within a flow run")
    return context.flow_run


def scheduled_day(settings: Settings) -> date | None:
    """Return the last business day over when this run was due, or None without a deployment.

    A run that starts late, or is tried again the day after, still works for the day it was meant.
    """
    run = _this_run()
    if run.deployment_id is None or run.expected_start_time is None:
        return None
    due = datetime.fromtimestamp(run.expected_start_time.timestamp(), UTC)
    return last_day_over(due, event_format(settings).calendar)


def last_day_over(instant: datetime, calendar: Calendar) -> date:
    """Return the last business day that is over at an instant."""
    day = instant.astimezone(ZoneInfo(calendar.timezone)).date()
    while calendar.end_of(to_number(day)) > instant:
        day -= timedelta(days=1)
    return day


# --- on this machine ----------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one night here and print its report; returns the exit code of ``hbpipe run``."""
    options = _parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server is stopped too
    try:
        settings = load_settings(options.config, options.env, options.overrides)
        with _console() as console, _server(settings, console):
            watch(console)
            report = nightly(
                options.config,
                options.env,
                options.as_of,
                options.overrides,
                options.full_scan,
                options.accept_missing,
            )
    except HbpipeError as error:
        print(f"hbpipe: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("hbpipe: interrupted; the next run takes up what is missing", file=sys.stderr)
        return 130
    print(report.text())
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m flows.nightly",
        description="Run one night as a Prefect flow on this machine. Without PREFECT_API_URL "
        "or a Prefect profile, a server of its own is started and stopped with the run.",
    )
    parser.add_argument("--config", required=True, help="the settings file")
    parser.add_argument("--env", help="overlay env/NAME.yaml beside the settings file")
    parser.add_argument("--full-scan", action="store_true", help="look beyond events.horizon")
    parser.add_argument(
        "--accept-missing", action="store_true", help="take out the rows of vanished files"
    )
    parser.add_argument(
        "--as-of", type=date.fromisoformat, metavar="DAY", help="last business day included"
    )
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="SECTION.KEY=VALUE"
    )
    return parser.parse_args(arguments)


@contextmanager
def _server(settings: Settings, console: ConsoleObserver) -> Iterator[None]:
    """Use the Prefect server that is configured, or start one."""
    if PREFECT_API_URL.value():
        yield
        return
    with _home(settings) as home:
        console.message(f"Starting a Prefect server; its history and log are in {home}")
        with embedded_server(Path(home)):
            yield


def _home(settings: Settings) -> Any:
    """Prefect's home: as configured, or with the lake, or for one run where that is remote."""
    if PREFECT_HOME.value() != Path("~/.prefect").expanduser():
        return nullcontext(PREFECT_HOME.value())
    if "://" in settings.lake.path:
        return tempfile.TemporaryDirectory(prefix="hbpipe-prefect-")
    return nullcontext(Path(settings.lake.path) / ".prefect")


@contextmanager
def _console() -> Iterator[ConsoleObserver]:
    """Show progress bars instead of the runs' log lines, which Prefect's server keeps."""
    logging.getLogger("prefect").propagate = False
    with ConsoleObserver() as console:
        yield console


if __name__ == "__main__":
    sys.exit(main())
