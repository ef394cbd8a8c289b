"""Pointers: what people decided that the readers of an environment see.

A night moves readers by its row in ``releases`` alone. A pointer is for what no night can know:
that a release of another environment shall be seen here (promote), or that the newest one shall
not (rollback). Pointers are rows that are only ever appended; the last of an environment holds.
"""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from hbpipe.data.lake import Lake
from hbpipe.data.schemas import Table

#: One row per decision. ``published`` is the number of the newest release at that moment: what has
#: a greater one was published after the decision, whatever any clock says.
POINTERS = Table(
    pa.schema(
        [
            ("number", pa.int64()),
            ("environment", pa.string()),
            ("release", pa.string()),
            ("action", pa.string()),  # promote, rollback
            ("pinned", pa.bool_()),
            ("at", pa.timestamp("us", tz="UTC")),
            ("by", pa.string()),
            ("reason", pa.string()),
            ("replaces", pa.string()),  # the release that readers saw before
            ("published", pa.int64()),
        ]
    ),
    partition_by=(),
    key=("number",),
)


@dataclass(frozen=True)
class Pointer:
    """One decision about what the readers of an environment see; the columns of ``pointers``."""

    number: int
    environment: str
    release: str
    action: str
    pinned: bool
    at: datetime
    by: str
    reason: str
    replaces: str | None
    published: int

    def told(self) -> str:
        """Say who decided, when and why."""
        return f"{self.by} on {self.at:%Y-%m-%d %H:%M} UTC: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """Give the decision as JSON-like values."""
        return {**vars(self), "at": self.at.isoformat()}


def pointer_table(lake: Lake, version: int | None) -> pa.Table:
    """Read a version of ``pointers``; of None, where nobody has decided anything yet, no rows."""
    if version is None:
        return POINTERS.schema.empty_table()
    return lake.read("pointers", version=version)


def to_pointers(table: pa.Table) -> tuple[Pointer, ...]:
    """Turn rows of ``pointers`` into pointers, oldest first."""
    rows = table.select(POINTERS.schema.names).to_pylist()
    return tuple(sorted((Pointer(**row) for row in rows), key=lambda pointer: pointer.number))


def append_pointer(
    lake: Lake, decide: Callable[[tuple[Pointer, ...]], Pointer | None]
) -> Pointer | None:
    """Append the pointer that ``decide`` makes of those present; asked again after a lost race.

    Returns
    -------
    Pointer or None
        The one that landed; None where ``decide`` found nothing to point at.
    """
    lake.create("pointers", POINTERS.schema)
    landed: list[Pointer | None] = [None]

    def rows(present: pa.Table) -> pa.Table:
        landed[0] = decide(to_pointers(present))
        new = [] if landed[0] is None else [vars(landed[0])]
        return pa.Table.from_pylist(new, schema=POINTERS.schema)

    lake.upsert("pointers", rows, POINTERS.key, run_id=f"pointer-{uuid.uuid4().hex[:8]}")
    return landed[0]


def whoami() -> str:
    """Return ``user@host`` of this process; the number of a user whom the system cannot name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without an entry in passwd
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
