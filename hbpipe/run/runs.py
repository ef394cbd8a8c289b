"""The table ``runs``: what every run set out to do, and how it ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa

from hbpipe.data.lake import Lake
from hbpipe.data.schemas import Table
from hbpipe.errors import LakeError

_TEXT, _INT, _TIME = pa.string(), pa.int64(), pa.timestamp("us", tz="UTC")

#: One row per run.
RUNS = Table(
    pa.schema(
        {
            "run_id": _TEXT,
            "attempt": _INT,
            "kind": _TEXT,  # night, backfill, restate, ...
            "environment": _TEXT,
            "as_of": pa.date32(),
            "state": _TEXT,  # running, done, nothing, failed, held, abandoned
            "started_at": _TIME,
            "finished_at": _TIME,
            "host": _TEXT,
            "pid": _INT,
            "plan": _TEXT,  # a document, as JSON
            "seconds": pa.map_(_TEXT, pa.float64()),  # by stage
            "rows": _INT,
            "bytes": _INT,
            "error": _TEXT,
        }
    ),
    (),
    ("run_id",),
)


@dataclass(frozen=True)
class RunEntry:
    """What is known of one run.

    Attributes
    ----------
    run_id, attempt
        Its name; its number, higher than that of every run before it.
    kind, environment, as_of
        What it does, for whom, and the last business day of its window; None before it is chosen.
    state
        ``running``; ``done``; ``nothing`` was due; ``failed``; ``held`` by a gate; ``abandoned``:
        its process ended without a word, or another took its place. What it had published by then
        holds.
    started_at, finished_at, host, pid
        When, and by which process.
    plan
        The plan's document, as JSON; None before there is one.
    seconds
        By stage.
    rows, bytes
        What the plan reads.
    error
        What went wrong, in words.
    """

    run_id: str
    attempt: int
    kind: str
    environment: str
    as_of: date | None = None
    state: str = "running"
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime | None = None
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    plan: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    rows: int = 0
    bytes: int = 0
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Describe the run for ``status``, without its plan."""
        described = asdict(self) | {"seconds": dict(self.seconds)}
        for name in ("as_of", "started_at", "finished_at"):
            if described[name] is not None:
                described[name] = described[name].isoformat()
        del described["plan"]
        return described


def read_runs(lake: Lake) -> list[RunEntry]:
    """List the runs, the first attempt first; none before the first run."""
    found = lake.find("runs")
    return [] if found is None else entries_of(found.read())


def find_run(lake: Lake, run_id: str) -> RunEntry | None:
    """Return a run by its name, or None."""
    return next((entry for entry in read_runs(lake) if entry.run_id == run_id), None)


def require_run(lake: Lake, run_id: str) -> RunEntry:
    """Return a run by its name.

    Raises
    ------
    LakeError
        There is no such run.
    """
    entry = find_run(lake, run_id)
    if entry is None:
        raise LakeError(
            f"there is no run {run_id!r}",
            where={"lake": lake.uri, "table": "runs"},
            remedy="choose one that `hbpipe status` shows",
        )
    return entry


def entries_of(table: pa.Table) -> list[RunEntry]:
    """Return the rows of ``runs``, the first attempt first."""
    found = [RunEntry(**{**row, "seconds": dict(row["seconds"])}) for row in table.to_pylist()]
    return sorted(found, key=lambda entry: entry.attempt)


def to_table(entries: Iterable[RunEntry]) -> pa.Table:
    """Return rows of ``runs``."""
    rows = [{**vars(entry), "seconds": list(entry.seconds.items())} for entry in entries]
    return pa.Table.from_pylist(rows, schema=RUNS.schema)
