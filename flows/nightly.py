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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, PREFECT_HOME

from flows.due import run_id_of, scheduled_day, this_run
from flows.local import embedded_server
from flows.observer import PrefectObserver, everyone, watch
from flows.parameters import Config, Env, Overrides, Told
from flows.tasks import run_as_task
from hbpipe.config import Settings, load_settings
from hbpipe.data.clock import to_date
from hbpipe.errors import HbpipeError
from hbpipe.report.console import ConsoleObserver
from hbpipe.report.night import NightReport
from hbpipe.run.audits import by_severity
from hbpipe.run.night import open_lake, open_night
from hbpipe.run.nightly import finish, run_stage
from hbpipe.run.runs import find_run
from hbpipe.run.stages import STAGES


@flow(name="nightly", flow_run_name="nightly", persist_result=False)
def nightly(
    config: Config,
    env: Env = None,
    as_of: Annotated[
        date | None,
        Told(
            "the last business day included; by default the last that was over when the run was "
            "due, or without a schedule the latest complete day of events"
        ),
    ] = None,
    overrides: Overrides = (),
    full_scan: Annotated[bool, Told("look for late input beyond events.horizon")] = False,
    accept_missing: Annotated[bool, Told("take out the rows of files that have vanished")] = False,
) -> NightReport:
    """Bring the window of one as-of day up to date and publish one release.

    Raises
    ------
    HbpipeError
        As ``hbpipe run`` does. A failed gate fails the run and leaves the old release.
    """
    settings = load_settings(config, env, overrides)
    prefect, run = PrefectObserver(settings.pipeline, get_run_logger()), this_run()
    with open_night(
        settings,
        as_of=as_of or scheduled_day(settings),
        observer=everyone(settings, prefect, run),
        full_scan=full_scan,
        accept_missing=accept_missing,
        run_id=run_id_of(run, run.run_count),
        retry=_planned_before(settings, run),
    ) as night:
        prefect.name_run(run.id, str(to_date(night.plan.as_of)))
        prefect.days(night.plan.days)
        try:
            if night.plan.work:
                for stage in STAGES:
                    run_as_task(stage.__name__, partial(run_stage, stage, night))
        finally:
            # Of a failed gate too: they say what failed.
            prefect.table("audits", [vars(check) for check in by_severity(night.checks)])
        report = finish(night)
    prefect.report(report.markdown())
    prefect.table("hyperparameters", report.hyperparameters())
    prefect.page(settings, report.release)
    return report


def _planned_before(settings: Settings, run: FlowRun) -> str | None:
    """Return the run whose plan this one has to run: that of the flow run's first attempt."""
    if run.run_count < 2:
        return None
    lake = open_lake(settings)
    for number in range(1, run.run_count):
        earlier = find_run(lake, run_id_of(run, number))
        if earlier is not None and earlier.plan is not None:
            return earlier.run_id
    return None


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
