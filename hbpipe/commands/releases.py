"""Verbs that look at what was released, and that move readers from one release to another."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from hbpipe.commands.common import WORK, moment_of, print_json, require_columns, settings_of
from hbpipe.errors import ConfigError
from hbpipe.report.diff import describe_diff, diff_text
from hbpipe.report.export import write_table
from hbpipe.report.html.write import report_path, write_report
from hbpipe.report.status import describe_status, status_text
from hbpipe.report.tables import text_table
from hbpipe.report.terminal import show
from hbpipe.run import promotion
from hbpipe.run.diff import diff as compare
from hbpipe.run.freshness import freshness as look
from hbpipe.run.freshness import freshness_rows
from hbpipe.run.history import read_history
from hbpipe.run.night import open_lake
from hbpipe.run.promotion import Move
from hbpipe.run.releases import choose
from hbpipe.run.releases import read as read_release
from hbpipe.run.stock import calendar_of
from hbpipe.typed import parse_duration

#: The exit code of ``freshness`` when readers see something that is too old.
LATE = 5


def status(arguments: Namespace) -> int:
    """Print the current release and the state of the days."""
    settings = settings_of(arguments)
    found = describe_status(open_lake(settings), settings)
    if arguments.json:
        print_json(found)
    else:
        show(status_text(found))
    return 0


def read(arguments: Namespace) -> int:
    """Print or write a table of a release."""
    table = _chosen_rows(arguments)
    if arguments.out:
        write_table(table, Path(arguments.out))
    if arguments.json:
        rows = {"out": arguments.out} if arguments.out else {"rows": table.to_pylist()}
        print_json({"table": arguments.table, "count": table.num_rows, **rows})
    elif arguments.out:
        print(f"{table.num_rows:,} rows written to {arguments.out}")
    else:
        show(text_table(table.to_pylist()))
    return 0


def _chosen_rows(arguments: Namespace) -> pa.Table:
    settings = settings_of(arguments)
    table = read_release(
        open_lake(settings),
        arguments.table,
        environment=settings.environment,
        release=arguments.release,
        as_of=arguments.as_of,
        published_before=moment_of(arguments.published_before, calendar_of(settings)),
    )
    table = _filter(table, arguments.where)
    if arguments.columns:
        columns = arguments.columns.split(",")
        require_columns(table.column_names, columns)
        table = table.select(columns)
    return table if arguments.limit is None else table.slice(0, arguments.limit)


def _filter(table: pa.Table, conditions: Sequence[str]) -> pa.Table:
    for condition in conditions:
        column, found, value = condition.partition("=")
        if not found:
            raise ConfigError(f"--where {condition!r}", expected="COLUMN=VALUE")
        require_columns(table.column_names, [column])
        if pa.types.is_nested(table.schema.field(column).type):
            raise ConfigError(f"--where {condition!r}: {column} holds lists, not single values")
        table = table.filter(pc.equal(table[column].cast(pa.string()), value))
    return table


def diff(arguments: Namespace) -> int:
    """Print what moved between two releases."""
    settings = settings_of(arguments)
    lake = open_lake(settings)
    history = read_history(lake)
    a, b = (history.anywhere(settings.environment, name) for name in (arguments.a, arguments.b))
    moved = compare(
        lake,
        a,
        b,
        metric=arguments.metric,
        threshold=arguments.threshold,
        limit=arguments.limit,
    )
    found = describe_diff(a, b, list(moved), arguments.threshold)
    if arguments.json:
        print_json(found)
    else:
        show(diff_text(found))
    return 0


def report(arguments: Namespace) -> int:
    """Write a release as one HTML file."""
    settings = settings_of(arguments)
    lake = open_lake(settings)
    row = choose(read_history(lake), settings.environment, release=arguments.release)
    path = Path(arguments.out) if arguments.out else report_path(settings, row)
    written = write_report(settings, lake, row, path, metrics=arguments.metrics)
    if arguments.json:
        print_json({"release": row["release"], "as_of": row["as_of"], **written.to_dict()})
    else:
        size = f"{written.bytes / 2**20:.1f} MiB"
        print(f"Release {row['release']}: {written.sentence}\nReport: {path} ({size})")
    return 0


def promote(arguments: Namespace) -> int:
    """Make a release of one environment another's, and print what changes."""
    settings = settings_of(arguments)
    source = arguments.source
    if source is None and arguments.release in ("current", "previous"):
        source = settings.environment
    move = promotion.promote(
        open_lake(settings),
        arguments.release,
        to=arguments.to,
        source=source,
        reason=arguments.reason,
        create=arguments.create,
        dry_run=arguments.dry_run,
    )
    return _print_move(move, arguments)


def rollback(arguments: Namespace) -> int:
    """Pin readers to an older release, and print what changes."""
    settings = settings_of(arguments)
    move = promotion.rollback(
        open_lake(settings),
        settings.environment,
        arguments.release,
        reason=arguments.reason,
        dry_run=arguments.dry_run,
    )
    return _print_move(move, arguments)


def _print_move(move: Move, arguments: Namespace) -> int:
    """Print a move; 10 when a dry run has found one to make."""
    if arguments.json:
        print_json(move.to_dict())
    else:
        show(move.text())
    return WORK if arguments.dry_run and move.changes else 0


def freshness(arguments: Namespace) -> int:
    """Print how old what readers see is; 5 when it is late in the environment of the settings."""
    settings = settings_of(arguments)
    try:
        limit = None if arguments.max_age is None else parse_duration(arguments.max_age)
    except ValueError as error:
        raise ConfigError(f"--max-age: {error}") from None
    found = look(open_lake(settings), settings, max_age=limit)
    own = found[0]
    if arguments.json:
        print_json({"late": own.late, "environments": [one.to_dict() for one in found]})
    else:
        over = f"the latest business day that should be there is {own.expected}"
        show(f"{text_table(freshness_rows(found))}\n{over}")
    return LATE if own.late else 0
