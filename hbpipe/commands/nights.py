"""Verbs that plan and run nights."""

from __future__ import annotations

from argparse import Namespace

from hbpipe.commands.common import WORK, accepts, print_json, settings_of
from hbpipe.report.console import ConsoleObserver
from hbpipe.run.engine import open_engine
from hbpipe.run.night import open_lake
from hbpipe.run.nightly import run_night
from hbpipe.run.plan import Plan, make_plan


def plan(arguments: Namespace) -> int:
    """Print the plan; 10 when there is work."""
    settings = settings_of(arguments)
    with open_engine(settings.cluster.model_copy(update={"kind": "serial"})) as engine:
        found = make_plan(
            settings,
            open_lake(settings),
            engine,
            as_of=arguments.as_of,
            full_scan=arguments.full_scan,
            accept_missing=arguments.accept_missing,
        )
    if arguments.json:
        print_json(found.to_dict())
    else:
        print(_plan_text(found))
    return WORK if found.work else 0


def _plan_text(found: Plan) -> str:
    described = found.to_dict()
    lines = [f"As of {described['as_of']}, window {' to '.join(described['window'])}"]
    lines += [
        f"  {day['day']}  {day['rows']:>12,} rows from {len(day['files'])} file(s)  {day['reason']}"
        for day in described["days"]
    ]
    verb = "Release" if found.release_due else "Nothing to do"
    lines += [f"{verb}: {found.release_reason}", *(f"Note: {note}" for note in found.notes)]
    return "\n".join(lines)


def run(arguments: Namespace) -> int:
    """Run one night and print its report."""
    settings = settings_of(arguments)
    with ConsoleObserver(arguments.quiet or arguments.json) as observer:
        report = run_night(
            settings,
            as_of=arguments.as_of,
            observer=observer,
            full_scan=arguments.full_scan,
            accept_missing=arguments.accept_missing,
            accept=accepts(arguments),
        )
    if arguments.json:
        print_json(report.to_dict())
    else:
        print(report.text())
    return 0
