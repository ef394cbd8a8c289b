"""What a publication changes: files that join a table, files that leave it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deltalake import CommitProperties, DeltaTable
from deltalake.transaction import AddAction, RemoveAction

from hbpipe.data.commit import NO_HOOKS, compare_and_swap
from hbpipe.data.durable import Storage
from hbpipe.data.parts import Receipt, verify_part
from hbpipe.data.snapshot import FileRef, Snapshot, take_snapshot
from hbpipe.errors import LakeError

#: Looks at the version about to be replaced; False when there is nothing left to publish.
Guard = Callable[[Snapshot], bool]


@dataclass(frozen=True)
class Change:
    """What one commit does: files that join the table, and files that leave it."""

    adds: Sequence[Receipt]
    removes: Sequence[FileRef]


def publish_change(
    storage: Storage,
    name: str,
    change: Callable[[Snapshot], Change | None],
    *,
    metadata: Mapping[str, Any] | None = None,
    app_id: str | None = None,
) -> int:
    """Commit files that join and leave a table; ``change`` is asked again on every attempt.

    Returns and raises as ``compare_and_swap``, and ``LakeError`` for a file that its receipt
    does not fit.
    """

    def decide(table: DeltaTable) -> Callable[[CommitProperties], None] | None:
        snapshot = take_snapshot(storage, name, table)
        wanted = change(snapshot)
        if wanted is None or not (wanted.adds or wanted.removes):
            return None
        # On every attempt: a paused driver may wake to find its staged files reclaimed.
        for receipt in wanted.adds:
            _check_partition(snapshot, receipt)
            verify_part(storage, receipt, snapshot.data_schema)
        actions = _actions(wanted)

        def write(properties: CommitProperties) -> None:
            table.create_write_transaction(
                actions,
                mode="append",
                schema=table.schema(),
                partition_by=list(snapshot.partition_by),
                commit_properties=properties,
                post_commithook_properties=NO_HOOKS,
            )

        return write

    return compare_and_swap(storage, name, decide, metadata=metadata, app_id=app_id)


def replacement(
    receipts: Iterable[Receipt], replaces: Iterable[Mapping[str, str]], guard: Guard | None
) -> Callable[[Snapshot], Change | None]:
    """Return the change that makes ``receipts`` the only files of the partitions ``replaces``."""
    adds = tuple(receipts)
    partitions = [dict(partition) for partition in replaces]

    def change(snapshot: Snapshot) -> Change | None:
        present = snapshot.in_partitions(partitions).files
        ours = {receipt.path for receipt in adds}
        if ours and ours == {file.path for file in present}:
            return None
        if guard is not None and not guard(snapshot):
            return None
        _refuse_mixture(snapshot, ours)
        return Change(adds, present)

    return change


def _actions(change: Change) -> list[AddAction | RemoveAction]:
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [
        AddAction(
            path=part.path,
            size=part.size,
            partition_values=dict(part.partition),
            modification_time=now,
            data_change=True,
            stats=_statistics_json(part),
        )
        for part in change.adds
    ]
    actions += [
        RemoveAction(file.path, True, now, size=file.size, partition_values=dict(file.partition))
        for file in change.removes
    ]
    return actions


def _statistics_json(part: Receipt) -> str:
    """Delta protocol, "Per-file Statistics"."""
    return json.dumps(
        {
            "numRecords": part.rows,
            "minValues": {name: low for name, (low, _) in part.statistics.items()},
            "maxValues": {name: high for name, (_, high) in part.statistics.items()},
            "nullCount": dict(part.null_counts),
        },
        default=str,
    )


def _check_partition(snapshot: Snapshot, receipt: Receipt) -> None:
    if tuple(receipt.partition) != snapshot.partition_by:
        raise LakeError(
            f"a part of partition {dict(receipt.partition)} is not partitioned as the table",
            where={"lake": snapshot.storage.uri, "table": snapshot.name, "file": receipt.path},
            expected=f"values of {list(snapshot.partition_by)}",
            remedy="write the part with the table's partition columns",
        )


def _refuse_mixture(snapshot: Snapshot, ours: set[str]) -> None:
    """Refuse receipts of which some are published already, next to files of another run."""
    stale = ours & {file.path for file in snapshot.files}
    if stale:
        raise LakeError(
            "a receipt was published before, together with other files",
            where={"lake": snapshot.storage.uri, "table": snapshot.name, "file": min(stale)},
            expected="receipts of one run, published once",
            remedy="compute the partition again",
        )
