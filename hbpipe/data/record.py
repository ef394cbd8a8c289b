"""One small record in the lake, replaced only by who has seen its newest version.

It is what the newest commit of a table without rows carries. A commit is a compare-and-swap
wherever the lake works, so nothing else is asked of the disk or store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from hbpipe.data.commit import METADATA, commit_nothing, compare_and_swap, require_table
from hbpipe.data.definition import create_table
from hbpipe.data.durable import Storage

_NO_ROWS = pa.schema([("record", pa.string())])  # a table has a column


def create_record(storage: Storage, name: str) -> None:
    """Create an empty record unless there is one."""
    create_table(storage, name, _NO_ROWS, ())


def read_record(storage: Storage, name: str) -> tuple[int, dict[str, Any]]:
    """Return the record's version and what it says; nothing when it is new.

    Raises
    ------
    LakeError
        There is no such record.
    """
    (newest,) = require_table(storage, name).history(1)
    said = dict(newest.get(METADATA, {}))
    said.pop("commit_id", None)
    return int(newest["version"]), said


def swap_record(storage: Storage, name: str, version: int, record: Mapping[str, Any]) -> bool:
    """Replace a record that still has this version; False when somebody else has replaced it.

    Raises
    ------
    LakeError
        The store failed.
    """
    lost = False

    def decide(table: DeltaTable) -> Callable[[CommitProperties], None] | None:
        nonlocal lost
        lost = table.version() != version
        return None if lost else lambda properties: commit_nothing(table, properties)

    compare_and_swap(storage, name, decide, metadata=record)
    return not lost
