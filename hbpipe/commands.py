"""What each verb of the command line does: settings in, work done, a result printed.

Every function takes the parsed arguments and returns the exit code. Results go to standard
output, as text or as one JSON object; progress goes to standard error.
"""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hbpipe.config import Settings, json_schema, load_settings, resolved_view
from hbpipe.errors import ConfigError
from hbpipe.report.console import ConsoleObserver
from hbpipe.report.export import to_json, write_table
from hbpipe.report.keys import key_table
from hbpipe.report.status import describe_status, status_text
from hbpipe.report.tables import text_table
from hbpipe.run.doctor import examine
from hbpipe.run.engine import open_engine
from hbpipe.run.night import open_lake
from hbpipe.run.nightly import run_night
from hbpipe.run.plan import Plan, make_plan
from hbpipe.run.releases import read as read_release
from hbpipe.run.verify import verify as verify_lake

WORK = 10


def _settings(arguments: Namespace) -> Settings:
    return load_settings(arguments.config, arguments.env, arguments.overrides)


def _print_json(value: Any) -> None:
    print(to_json(value))


def suggest(arguments: Namespace) -> int:
    """Print a drafted configuration."""
    from hbpipe.data.suggest import suggest as draft

    text = draft(arguments.events)
    if arguments.json:
        _print_json({"config": text})
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
        _print_json(facts)
    else:
        print(f"{summary.rows:,} events in {summary.files} files under {summary.events_path}")
    return 0


def plan(arguments: Namespace) -> int:
    """Print the plan; 10 when there is work."""
    settings = _settings(arguments)
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
        _print_json(found.to_dict())
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
    settings = _settings(arguments)
    with ConsoleObserver(arguments.quiet or arguments.json) as observer:
        report = run_night(
            settings,
            as_of=arguments.as_of,
            observer=observer,
            full_scan=arguments.full_scan,
            accept_missing=arguments.accept_missing,
        )
    if arguments.json:
        _print_json(report.to_dict())
    else:
        print(report.text())
    return 0


def status(arguments: Namespace) -> int:
    """Print the current release and the state of the days."""
    settings = _settings(arguments)
    found = describe_status(open_lake(settings), settings.environment)
    if arguments.json:
        _print_json(found)
    else:
        print(status_text(found))
    return 0


def verify(arguments: Namespace) -> int:
    """Check conservation; 3 when something does not add up."""
    settings = _settings(arguments)
    findings = verify_lake(
        settings,
        open_lake(settings),
        full=arguments.full or arguments.sample is not None,
        days=_day_range(arguments.days),
        sample=arguments.sample,
    )
    failed = [finding for finding in findings if not finding.fine]
    if arguments.json:
        _print_json({"fine": not failed, "findings": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.fine else 'FAIL'}  {finding.name}: {finding.message}")
    return 3 if failed else 0


def _day_range(text: str | None) -> tuple[date, date] | None:
    if text is None:
        return None
    start, _, end = text.partition("..")
    try:
        first, last = date.fromisoformat(start), date.fromisoformat(end or start)
    except ValueError:
        raise ConfigError(f"--days {text!r}", expected="2026-01-01..2026-01-31") from None
    if last < first:
        raise ConfigError(f"--days {text!r} ends before it begins", expected=f"{last}..{first}")
    return first, last


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
    view = resolved_view(_settings(arguments))
    if arguments.json:
        _print_json({key: {"value": value, "origin": origin} for key, value, origin in view})
    else:
        rows = [
            {"setting": key, "value": json.dumps(value), "from": origin}
            for key, value, origin in view
        ]
        print(text_table(rows))
    return 0


def doctor(arguments: Namespace) -> int:
    """Print what stands in the way of a run; 1 when something does."""
    findings = examine(_settings(arguments))
    if arguments.json:
        _print_json({"findings": [vars(finding) for finding in findings]})
    else:
        for finding in findings:
            print(f"{'ok  ' if finding.fine else 'FAIL'}  {finding.name}: {finding.message}")
    return 0 if all(finding.fine for finding in findings) else 1


def read(arguments: Namespace) -> int:
    """Print or write a table of a release."""
    table = _chosen_rows(arguments)
    if arguments.out:
        write_table(table, Path(arguments.out))
    if arguments.json:
        rows = {"out": arguments.out} if arguments.out else {"rows": table.to_pylist()}
        _print_json({"table": arguments.table, "count": table.num_rows, **rows})
    elif arguments.out:
        print(f"{table.num_rows:,} rows written to {arguments.out}")
    else:
        print(text_table(table.to_pylist()))
    return 0


def _chosen_rows(arguments: Namespace) -> pa.Table:
    settings = _settings(arguments)
    table = read_release(
        open_lake(settings),
        arguments.table,
        environment=settings.environment,
        release=arguments.release,
    )
    table = _filter(table, arguments.where)
    if arguments.columns:
        columns = arguments.columns.split(",")
        _require(table, columns)
        table = table.select(columns)
    return table if arguments.limit is None else table.slice(0, arguments.limit)


def _filter(table: pa.Table, conditions: Sequence[str]) -> pa.Table:
    for condition in conditions:
        column, found, value = condition.partition("=")
        if not found:
            raise ConfigError(f"--where {condition!r}", expected="COLUMN=VALUE")
        _require(table, [column])
        if pa.types.is_nested(table.schema.field(column).type):
            raise ConfigError(f"--where {condition!r}: {column} holds lists, not single values")
        table = table.filter(pc.equal(table[column].cast(pa.string()), value))
    return table


def _require(table: pa.Table, columns: Sequence[str]) -> None:
    from hbpipe.data.spelling import nearest

    for name in columns:
        if name not in table.column_names:
            raise ConfigError(f"no column {name!r}{nearest(name, table.column_names)}")
