"""The report of a night: what was released, from which rows, and what shrank most."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from hbpipe.data.lake import Lake
from hbpipe.report.tables import markdown_table, text_table
from hbpipe.run.releases import RELEASED, read_of

_SHOWN = 10
#: What the tables of a metric leave out: its own name, and what a first night has not.
_UNTOLD = ("metric", "drift")
_OF_A_TERM = re.compile(r"(\w+)\[([^,\]]+)\]")


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
    published: bool
    rows: dict[str, int]
    pools: list[dict[str, Any]]
    most_shrunk: list[dict[str, Any]]
    tables: dict[str, str]
    notes: list[str] = field(default_factory=list)
    #: Releases of other as-of days that this run has made stale.
    stale: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Give everything as one JSON object."""
        return dict(vars(self))

    def hyperparameters(self) -> list[dict[str, Any]]:
        """List the fitted hyperparameters, one record per metric and pool."""
        return self.pools

    def text(self) -> str:
        """Write the report for a terminal."""
        parts = [
            f"Release {self.release} ({self.environment}), as of {self.as_of}\n{self._story()}"
        ]
        for metric, pools in self._by_metric().items():
            rows, more = whole_pools(pools)
            parts.append(f"Hyperparameters of {metric}\n{text_table(rows)}")
            if more:
                noun = "pool" if more == 1 else "pools"
                parts.append(f"… and {more} {noun} more, in the table hyperparameters")
        parts += [
            f"The most shrunk stores\n{text_table(self.most_shrunk)}",
            f"Tables in {_shown_path(self.lake)}: {', '.join(self.tables)}",
            f"Read them, here with DuckDB:\n{self.duckdb_line()}",
        ]
        return "\n" + "\n\n".join(parts)

    def markdown(self) -> str:
        """Write the report as Markdown."""
        parts = [f"# Release {self.release}", self._story()]
        for metric, pools in self._by_metric().items():
            rows, _ = whole_pools(pools)
            parts += [f"## Hyperparameters of {metric}", markdown_table(rows)]
        parts += ["## The most shrunk stores", markdown_table(self.most_shrunk)]
        return "\n\n".join(parts) + "\n"

    def duckdb_line(self) -> str:
        """Give one shell line that reads the posteriors with DuckDB."""
        query = "FROM posteriors LIMIT 5"
        return (
            f'.venv/bin/python -c "import duckdb, hbpipe; '
            f"posteriors = hbpipe.read('{_shown_path(self.lake)}', 'posteriors', "
            f"environment='{self.environment}'); print(duckdb.sql('{query}'))\""
        )

    def _by_metric(self) -> dict[str, list[list[dict[str, Any]]]]:
        """Return the rows of each pool by metric, without the metric's name in each."""
        found: dict[str, list[list[dict[str, Any]]]] = {}
        for row in self.pools:
            rest = {name: value for name, value in row.items() if name not in _UNTOLD}
            found.setdefault(row["metric"], []).append(rows_by_term(rest))
        return found

    def _story(self) -> str:
        lines = []
        if self.days:
            days = [day["day"] for day in self.days]
            span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
            lines.append(f"Processed {len(days)} day(s): {span}.")
        elif self.published:
            lines.append(f"No day to process; published because {self.reason}.")
        else:
            lines.append(f"Nothing to do: {self.reason}.")
        counts = ", ".join(f"{name} {count:,}" for name, count in self.rows.items())
        lines.append(f"Rows: {counts}.")
        lines += [f"Note: {note}" for note in self.notes]
        return "\n".join(lines)


def rows_by_term(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Split the record of a pool whose units have several terms: a row for each, ``mu``, ``tau``.

    What belongs to two terms, such as a correlation, is left to the table of hyperparameters.
    """
    terms: dict[str, dict[str, Any]] = {}
    shared = {}
    for name, value in record.items():
        found = _OF_A_TERM.fullmatch(name)
        if found:
            terms.setdefault(found[2], {})[found[1]] = value
        elif "[" not in name:
            shared[name] = value
    pool = {"pool": shared.pop("pool")} if terms else {}
    return [{**pool, "term": term, **own, **shared} for term, own in terms.items()] or [record]


def whole_pools(pools: list[list[dict[str, Any]]]) -> tuple[list[dict[str, Any]], int]:
    """Rows of the first pools that a report has room for, and how many pools it leaves out.

    A pool with several terms has several rows, which stay together.
    """
    rows: list[dict[str, Any]] = []
    for number, terms in enumerate(pools):
        if rows and len(rows) + len(terms) > _SHOWN:
            return rows, len(pools) - number
        rows += terms
    return rows, 0


def describe_release(lake: Lake, row: dict[str, Any], **run: Any) -> NightReport:
    """Build the report of a release from its tables; ``run`` says what this run did, and where."""
    return NightReport(
        lake=lake.uri,
        release=row["release"],
        as_of=row["as_of"].isoformat(),
        pools=_pools(lake, row),
        most_shrunk=_most_shrunk(lake, row),
        tables={name: lake.path(name) for name in (*RELEASED, "releases")},
        **run,
    )


def _pools(lake: Lake, row: dict[str, Any]) -> list[dict[str, Any]]:
    hyper = read_of(lake, row, "hyperparameters")
    names = hyper.column_names
    levels = names[names.index("metric") + 1 : names.index("pool")]
    fits = {_pool_key(fit, levels): fit for fit in read_of(lake, row, "fits").to_pylist()}
    records = {key: {"metric": fit["metric"], "pool": fit["pool"]} for key, fit in fits.items()}
    for found in hyper.to_pylist():
        # Nested groups have priors of their own, and no fits.
        record = records.get(_pool_key(found, levels), {})
        record[found["parameter"]] = found["value"]
    for key, fit in fits.items():
        records[key] |= {"stores": fit["n_groups"]}
        records[key] |= {name: fit[name] for name in ("method", "status", "drift")}
    return list(records.values())


def _pool_key(row: dict[str, Any], levels: list[str]) -> tuple[Any, ...]:
    return (row["metric"], row["pool"], *(row.get(name) for name in levels))


def _most_shrunk(lake: Lake, row: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the stores whose estimate moved furthest from their raw value, in posterior sds."""
    names = lake.snapshot("posteriors", dict(row["versions"])["posteriors"]).schema.names
    keys = names[2 : names.index("level")]
    quantiles = [name for name in names if name.startswith("q0.")]
    columns = ["metric", *keys, "level", "term", "n", "raw", "mean", "sd", *quantiles, "weight"]
    table = read_of(lake, row, "posteriors", columns=columns)
    of_units = pc.equal(table["level"], keys[-1]).to_numpy()
    moved = np.abs(_floats(table, "raw") - _floats(table, "mean")) / _floats(table, "sd")
    moved[np.isnan(moved) | ~of_units] = -1.0
    # A quantile of earlier settings is null in every row.
    known = [name for name in quantiles if table[name].null_count < table.num_rows]
    ends = dict.fromkeys([*known[:1], *known[-1:]])
    term = [] if set(table["term"].unique().to_pylist()) <= {"theta"} else ["term"]
    shown: list[dict[str, Any]] = (
        table.select(["metric", *keys, *term, "n", "raw", "mean", *ends, "weight"])
        .take(pa.array(_largest(moved, _SHOWN)))
        .to_pylist()
    )
    return shown


def _largest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Places of the largest values that are not negative, the largest and of equals the first."""
    least = np.partition(values, -count)[-count] if len(values) > count else 0.0
    place = np.flatnonzero(values >= max(least, 0.0))
    return place[np.argsort(-values[place], kind="stable")][:count]


def _floats(table: pa.Table, name: str) -> Any:
    return table.column(name).to_numpy().astype(np.float64)


def _shown_path(path: str) -> str:
    """Return a path below the working folder as the user would type it."""
    here = f"{Path.cwd()}/"
    return path.removeprefix(here)
