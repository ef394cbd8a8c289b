"""Verbs that look at what was released."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from hbpipe.commands.common import print_json, settings_of
from hbpipe.data.spelling import nearest
from hbpipe.errors import ConfigError
from hbpipe.report.export import write_table
from hbpipe.report.status import describe_status, status_text
from hbpipe.report.tables import text_table
from hbpipe.run.night import open_lake
from hbpipe.run.releases import read as read_release


def status(arguments: Namespace) -> int:
    """Print the current release and the state of the days."""
    settings = settings_of(arguments)
    found = describe_status(open_lake(settings), settings.environment)
    if arguments.json:
        print_json(found)
    else:
        print(status_text(found))
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
        print(text_table(table.to_pylist()))
    return 0


def _chosen_rows(arguments: Namespace) -> pa.Table:
    settings = settings_of(arguments)
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
    for name in columns:
        if name not in table.column_names:
            raise ConfigError(f"no column {name!r}{nearest(name, table.column_names)}")
