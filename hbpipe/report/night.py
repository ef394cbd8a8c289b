"""The report of a night: what was released, from which rows, and what shrank most."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hbpipe.data.lake import Lake
from hbpipe.report.tables import cell, markdown_table
from hbpipe.run.releases import RELEASED, read

_SHOWN = 10
_WIDTH = 110


@dataclass(frozen=True)
class NightReport:
    """What a person wants to know after a run.

    ``rows`` are those that this run read: in = accepted + rejected + repeated.
    """

    lake: str
    environment: str
    release: str
    as_of: str
    run_id: str
    days: list[dict[str, Any]]
    reason: str
    rows: dict[str, int]
    pools: list[dict[str, Any]]
    most_shrunk: list[dict[str, Any]]
    tables: dict[str, str]
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as one JSON object."""
        return dict(vars(self))

    def hyperparameters(self) -> list[dict[str, Any]]:
        """List the fitted hyperparameters, one record per metric and pool."""
        return self.pools

    def text(self) -> str:
        """Write the report for a terminal."""
        out = io.StringIO()
        console = Console(file=out, width=_WIDTH, highlight=False)
        console.print(f"\nRelease {self.release} ({self.environment}), as of {self.as_of}")
        console.print(self._story(), markup=False)
        for metric in dict.fromkeys(row["metric"] for row in self.pools):
            rows = [row for row in self.pools if row["metric"] == metric]
            console.print(_rich(f"Hyperparameters of {metric}", rows[:_SHOWN], omit=("metric",)))
            if len(rows) > _SHOWN:
                console.print(f"  … and {len(rows) - _SHOWN} pools more, in hyperparameters")
        console.print(_rich("The most shrunk stores", self.most_shrunk))
        console.print(
            f"Tables: {self.lake}/ {', '.join(self.tables)}", soft_wrap=True, markup=False
        )
        console.print("Read them, here with DuckDB:", soft_wrap=True)
        console.print(f"  {self.duckdb_line()}", soft_wrap=True, markup=False)
        return out.getvalue()

    def markdown(self) -> str:
        """Write the report as Markdown."""
        parts = [f"# Release {self.release}", self._story()]
        for metric in dict.fromkeys(row["metric"] for row in self.pools):
            rows = [row for row in self.pools if row["metric"] == metric]
            parts += [f"## Hyperparameters of {metric}", markdown_table(rows[:_SHOWN])]
        parts += ["## The most shrunk stores", markdown_table(self.most_shrunk)]
        return "\n\n".join(parts) + "\n"

    def duckdb_line(self) -> str:
        """Give one shell line that reads the posteriors with DuckDB."""
        query = "FROM posteriors LIMIT 5"
        return (
            f'.venv/bin/python -c "import duckdb, hbpipe; '
            f"posteriors = hbpipe.read('{self.lake}', 'posteriors', "
            f"environment='{self.environment}'); print(duckdb.sql('{query}'))\""
        )

    def _story(self) -> str:
        lines = []
        if self.days:
            days = [day["day"] for day in self.days]
            span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
            lines.append(f"Processed {len(days)} day(s): {span}.")
        else:
            lines.append(f"Nothing to do: {self.reason}.")
        counts = ", ".join(f"{name} {count:,}" for name, count in self.rows.items())
        lines.append(f"Rows: {counts}.")
        lines += [f"Note: {note}" for note in self.notes]
        return "\n".join(lines)


def describe_release(lake: Lake, row: dict[str, Any], **run: Any) -> NightReport:
    """Build the report of a release from its tables; ``run`` says what this run did."""
    return NightReport(
        lake=lake.uri,
        environment=row["environment"],
        release=row["release"],
        as_of=row["as_of"].isoformat(),
        pools=_pools(lake, row),
        most_shrunk=_most_shrunk(lake, row),
        tables={name: lake.path(name) for name in (*RELEASED, "releases")},
        **run,
    )


def _pools(lake: Lake, row: dict[str, Any]) -> list[dict[str, Any]]:
    read_as = {"environment": row["environment"], "release": row["release"]}
    hyper = read(lake, "hyperparameters", **read_as).to_pylist()
    fits = read(lake, "fits", **read_as).to_pylist()
    records = {
        (fit["metric"], fit["pool"]): {"metric": fit["metric"], "pool": fit["pool"]} for fit in fits
    }
    for found in hyper:
        record = records[found["metric"], found["pool"]]
        record[found["parameter"]] = found["value"]
    for fit in fits:
        record = records[fit["metric"], fit["pool"]]
        record |= {"stores": fit["n_groups"], "method": fit["method"], "status": fit["status"]}
    return list(records.values())


def _most_shrunk(lake: Lake, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the stores whose estimate moved furthest from their raw value, in posterior sds."""
    table = read(lake, "posteriors", environment=row["environment"], release=row["release"])
    moved = np.abs(_floats(table, "raw") - _floats(table, "mean")) / _floats(table, "sd")
    moved[np.isnan(moved)] = -1.0
    top = np.argsort(-moved, kind="stable")[:_SHOWN]
    # A quantile of earlier settings is null in every row.
    quantiles = [
        name
        for name in table.column_names
        if name.startswith("q0.") and table[name].null_count < table.num_rows
    ]
    ends = [*quantiles[:1], *quantiles[-1:]]
    keys = table.column_names[2 : table.column_names.index("level")]
    columns = ["metric", *keys, "n", "raw", "mean", *dict.fromkeys(ends), "weight"]
    shown: list[dict[str, Any]] = (
        table.select(columns).take(pa.array(top[moved[top] >= 0])).to_pylist()
    )
    return shown


def _floats(table: pa.Table, name: str) -> Any:
    return table.column(name).to_numpy().astype(np.float64)


def _rich(title: str, rows: Sequence[dict[str, Any]], omit: Sequence[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    names = [name for name in (rows[0] if rows else {}) if name not in omit]
    for name in names:
        number = isinstance(rows[0][name], int | float)
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(escape(cell(row.get(name))) for name in names))
    return table
