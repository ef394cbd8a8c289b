"""Verbs before the first night: draft settings, simulate events, show the settings."""

from __future__ import annotations

import json
from argparse import Namespace
from datetime import date
from pathlib import Path

from hbpipe.commands.common import print_json, settings_of
from hbpipe.config import json_schema, resolved_view
from hbpipe.errors import ConfigError
from hbpipe.report.console import ConsoleObserver
from hbpipe.report.keys import key_table
from hbpipe.report.tables import text_table
from hbpipe.report.terminal import show


def suggest(arguments: Namespace) -> int:
    """Print a drafted configuration."""
    from hbpipe.data.suggest import suggest as draft

    text = draft(arguments.events)
    if arguments.json:
        print_json({"config": text})
    else:
        print(text)
    return 0


def simulate(arguments: Namespace) -> int:
    """Write simulated events and say what was written."""
    from hbpipe.run.simulate import simulate_events

    with ConsoleObserver(arguments.quiet) as console:
        console.stage_started("simulate")
        done = 0

        def on_day(_: date, __: int) -> None:
            nonlocal done
            done += 1
            console.progress("simulate", done, arguments.days)

        summary = simulate_events(
            Path(arguments.out),
            first_day=arguments.first_day,
            days=arguments.days,
            chains=arguments.chains,
            stores=arguments.stores,
            events_per_day=arguments.events_per_day,
            seed=arguments.seed,
            layout=arguments.layout,
            late=arguments.late,
            bad=arguments.bad,
            repeated=arguments.repeated,
            on_day=on_day,
        )
    facts = {
        "events": str(summary.events_path),
        "truth": str(summary.truth_path),
        "files": summary.files,
        "rows": summary.rows,
        "late": summary.late,
        "repeated": summary.repeated,
        "faults": summary.faults,
    }
    if arguments.json:
        print_json(facts)
    else:
        print(f"{summary.rows:,} events in {summary.files} files under {summary.events_path}")
    return 0


def config(arguments: Namespace) -> int:
    """Print every setting with its origin; or the JSON Schema, or the table of all keys."""
    if arguments.schema:
        print(json.dumps(json_schema(), indent=2))
        return 0
    if arguments.keys:
        print(key_table(json_schema()))
        return 0
    if arguments.config is None:
        raise ConfigError("no settings file is named", remedy="give one with --config FILE")
    view = resolved_view(settings_of(arguments))
    if arguments.json:
        print_json({key: {"value": value, "origin": origin} for key, value, origin in view})
    else:
        rows = [
            {"setting": key, "value": json.dumps(value), "from": origin}
            for key, value, origin in view
        ]
        show(text_table(rows))
    return 0
