"""Verbs that plan and run nights."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from datetime import date
from pathlib import Path
from typing import Any

from hbpipe.commands.common import WORK, accepts, print_json, settings_of
from hbpipe.config import Settings
from hbpipe.errors import ConfigError, HbpipeError
from hbpipe.observe import observers_of
from hbpipe.observe.log import STDERR
from hbpipe.report.console import ConsoleObserver
from hbpipe.report.explain import explain_text
from hbpipe.report.night import NightReport
from hbpipe.report.store_story import store_text
from hbpipe.report.terminal import show
from hbpipe.run.describe import describe_plan
from hbpipe.run.documents import read_document
from hbpipe.run.engine import open_engine
from hbpipe.run.explain import explain_day
from hbpipe.run.history import read_history
from hbpipe.run.night import open_lake
from hbpipe.run.nightly import run_night
from hbpipe.run.observe import Observers
from hbpipe.run.plan import make_plan
from hbpipe.run.releases import choose
from hbpipe.run.stock import take_stock
from hbpipe.run.store_story import explain_store


def plan(arguments: Namespace) -> int:
    """Print the plan, and write it where asked; 10 when there is work."""
    settings = settings_of(arguments)
    lake = open_lake(settings)
    with open_engine(settings.cluster.model_copy(update={"kind": "serial"})) as engine:
        found = make_plan(
            settings,
            lake,
            engine,
            as_of=arguments.as_of,
            full_scan=arguments.full_scan,
            accept_missing=arguments.accept_missing,
        )
    described = describe_plan(found, lake)
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    if arguments.json:
        print_json(described)
    else:
        show(_plan_text(described))
    return WORK if found.work else 0


def _plan_text(described: dict[str, Any]) -> str:
    lines = [f"As of {described['as_of']}, window {' to '.join(described['window'])}"]
    lines += [
        f"  {day['day']}  {day['rows']:>12,} rows from {len(day['files'])} file(s)  {day['reason']}"
        for day in described["days"]
    ]
    publishes, release = described["would_publish"], described["release"]
    if publishes is None:
        lines.append(f"Nothing to do: {release['reason']}")
    else:
        lines += [f"Release: {release['reason']}", f"Costs: {_costs(described)}"]
        lines.append(
            f"Publishes: {publishes['release']} in {publishes['environment']}, "
            f"with {', '.join(publishes['metrics'])}"
        )
    if described["affects"]:
        lines.append(f"Older releases become stale: {', '.join(described['affects'])}")
    return "\n".join([*lines, *(f"Note: {note}" for note in described["notes"])])


def _costs(described: dict[str, Any]) -> str:
    seconds, size = described["expected_seconds"], described["bytes"]
    shown = f"{size / 2**10:,.0f} KiB" if size < 2**20 else f"{size / 2**20:,.0f} MiB"
    costs = f"{described['rows']:,} rows, {shown}"
    return costs if seconds is None else f"{costs}, about {seconds:,.0f} s by the runs before"


def run(arguments: Namespace) -> int:
    """Run one night and print its report."""
    settings = settings_of(arguments)
    # Lines for people would stand between those for machines.
    logged = settings.observe.log.path == STDERR
    with ConsoleObserver(arguments.quiet or arguments.json or logged) as console:
        observer = Observers(console, observers_of(settings))
        what = _what_to_run(arguments)
        report = run_night(settings, observer=observer, accept=accepts(arguments), **what)
        _leave_page(settings, report, console)
    if arguments.json:
        print_json(report.to_dict())
    else:
        show(report.text())
    return 0


def _leave_page(settings: Settings, report: NightReport, console: ConsoleObserver) -> None:
    """Write the night's page where one is asked for; the release is out, whether or not it is."""
    if settings.observe.report.folder is None:
        return
    from hbpipe.report.html.write import write_nightly  # other nights start sooner

    try:
        written = write_nightly(settings, report.release)
    except (HbpipeError, OSError) as error:
        told = f"hbpipe: the release is published, its report is not written: {error}"
        print(told, file=sys.stderr)
        return
    if written is not None:
        console.message(f"Report: {written.path}")


def _what_to_run(arguments: Namespace) -> dict[str, Any]:
    """Take the plan that was made before, or else what to plan."""
    asked = {
        "as_of": arguments.as_of,
        "full_scan": arguments.full_scan,
        "accept_missing": arguments.accept_missing,
    }
    if arguments.document is None and arguments.retry is None:
        return asked
    given = [name for name, value in asked.items() if value]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise ConfigError(
            f"{options} beside a plan that was made before",
            expected="--plan or --retry alone: the plan says what is run",
        )
    if arguments.retry is not None:
        return {"retry": arguments.retry}
    return {"document": read_document(Path(arguments.document))}


def explain(arguments: Namespace) -> int:
    """Print what is known of one business day, or of one store."""
    if (arguments.what is None) == (arguments.store is None):
        raise ConfigError("explain explains one thing", expected="a day, or the id of a store")
    day = None if arguments.store is not None else _as_day(arguments.what)
    if day is None:
        return _explain_store(arguments, arguments.store or arguments.what)
    if arguments.release is not None:
        raise ConfigError("--release beside a day", expected="--release with a store's id")
    settings = settings_of(arguments)
    lake = open_lake(settings)
    with open_engine(settings.cluster.model_copy(update={"kind": "serial"})) as engine:
        found = explain_day(take_stock(settings, lake, engine), lake, day)
    if arguments.json:
        print_json(found.to_dict())
    else:
        show(explain_text(found))
    return 0


def _as_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _explain_store(arguments: Namespace, store: str) -> int:
    settings = settings_of(arguments)
    lake = open_lake(settings)
    history = read_history(lake)
    release = choose(history, settings.environment, release=arguments.release)
    before = history.preceding(settings.environment, release)
    found = explain_store(lake, release, before, settings.events.levels, store)
    if arguments.json:
        print_json({"stores": [story.to_dict() for story in found]})
    else:
        show("\n\n".join(map(store_text, found)))
    return 0
