"""One commit to one table: optimistic, and against exactly the version that was looked at.

deltalake's own retries rebase a commit on versions nobody has checked: on 1.6.6 two first
publishers of one partition both land. Here ``max_commit_retries=0`` makes a commit a
compare-and-swap: it creates version N + 1 or fails, so what was decided at version N still holds
when it lands. A lost race reads the new version and decides again.

A commit of a run carries the run's number, and is refused where a higher one has committed: a run
that was paused, and whose place another has taken, finds this out at its next commit, whatever the
lease says (a *fencing token*: Kleppmann, Designing Data-Intensive Applications, 2017, chapter 8).
"""

from __future__ import annotations

import itertools
import random
import re
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from hbpipe.data.durable import Storage
from hbpipe.errors import LakeError, LeaseError

#: The transaction that carries the number of the run.
FENCE = "hbpipe/fence"
#: The key of our own metadata within a commit's information.
METADATA = "hbpipe"

_ATTEMPTS = 60
_JITTER = random.SystemRandom()
_LONGEST_PAUSE = 0.5
_CUT_OFF = (
    "if the last entry of its _delta_log was cut off by a loss of power, it was never reported: "
    "move that entry away and run again; else restore the log from a backup"
)
_DECORATION = re.compile(r"\x1b\[\d+m|↳")
_FRAME = re.compile(r"\s*\d+: ")
#: Clean-up would delete versions that releases name. An automatic checkpoint is not synced, and
#: a torn one makes the table unreadable, where a torn log entry is only a lost commit.
NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def open_table(storage: Storage, name: str, version: int | None = None) -> DeltaTable | None:
    """Open a table's log, or return None when there is no such table.

    Raises
    ------
    LakeError
        The version does not exist, or the log cannot be read.
    """
    try:
        return DeltaTable(storage.url(name), version=version, storage_options=dict(storage.options))
    except TableNotFoundError:
        return None
    except (DeltaError, OSError) as error:
        raise _unreadable(storage, name, version, error) from error


def require_table(storage: Storage, name: str, version: int | None = None) -> DeltaTable:
    """Open a table's log.

    Raises
    ------
    LakeError
        There is no such table or version.
    """
    table = open_table(storage, name, version)
    if table is None and version is not None and open_table(storage, name) is not None:
        raise LakeError(
            f"version {version} is no longer kept",
            where={"lake": storage.uri, "table": name},
            expected="the newest version, or one that a kept release names",
            remedy="see `hbpipe read releases`; what vacuum has deleted is in backups alone",
        )
    if table is None:
        raise LakeError(
            "there is no such table",
            where={"lake": storage.uri, "table": name},
            remedy="check the lake's path, or run the pipeline once to create its tables",
        )
    return table


def compare_and_swap(
    storage: Storage,
    name: str,
    decide: Callable[[DeltaTable], Callable[[CommitProperties], Any] | None],
    *,
    metadata: Mapping[str, Any] | None = None,
    app_id: str | None = None,
    opened: DeltaTable | None = None,
) -> int:
    """Decide on the newest version and commit against exactly that, until one attempt lands.

    Parameters
    ----------
    storage, name
        The table.
    decide
        Looks at the newest version; returns what writes the commit, or None to write nothing.
    metadata
        Recorded with the commit: run id, fingerprints, counts. JSON values.
    app_id
        The transaction's name; its number rises by one with every commit.
    opened
        The table as it was opened a moment ago, for the first attempt.

    Returns
    -------
    int
        The version that holds the change, durable on a local disk.

    Raises
    ------
    LakeError
        The store failed and the commit did not land, or every attempt lost its race.
    LeaseError
        A later run has committed to this table.
    """
    commit_id = uuid.uuid4().hex
    for attempt in range(_ATTEMPTS):
        table, opened = opened or require_table(storage, name), None
        base = table.version()
        # Another process may have created this entry and not yet synced it: what we build on
        # must not be lost before what we build.
        sync_version(storage, name, base)
        _check_fence(storage, name, table)
        write = decide(table)
        if write is None:
            return base
        try:
            write(_properties(table, commit_id, metadata, app_id, storage.fence))
        except (DeltaError, OSError) as error:
            # A lost reply, or the store's own retry, can report our success as a failure.
            landed = _find_commit(storage, name, commit_id, base)
            if landed is None and not isinstance(error, CommitFailedError):
                raise _failed(storage, name, error) from error
        else:
            landed = base + 1
        if landed is not None:
            sync_version(storage, name, landed)
            return landed
        # Full jitter, so that losers do not meet again (Brooker, AWS, 2015).
        time.sleep(_JITTER.uniform(0.0, min(_LONGEST_PAUSE, 0.01 * 2**attempt)))
    raise LakeError(
        f"{_ATTEMPTS} attempts to commit lost to other writers",
        where={"lake": storage.uri, "table": name},
        remedy="let the other runs finish, then run again: nothing was published",
    )


def raise_fence(storage: Storage, name: str) -> None:
    """Let a table refuse every earlier run from now on.

    Raises
    ------
    LakeError, LeaseError
        As ``compare_and_swap``.
    """

    def decide(table: DeltaTable) -> Callable[[CommitProperties], None] | None:
        if table.transaction_version(FENCE) == storage.fence:
            return None
        return lambda properties: commit_nothing(table, properties)

    compare_and_swap(storage, name, decide)


def outdate(storage: Storage, name: str) -> int:
    """Commit a version like the one before: whoever has decided on that must look again.

    Returns and raises as ``compare_and_swap``.
    """
    return compare_and_swap(
        storage, name, lambda table: lambda properties: commit_nothing(table, properties)
    )


def commit_nothing(table: DeltaTable, properties: CommitProperties) -> None:
    """Commit no change of rows, only what the properties carry."""
    table.create_write_transaction(
        [],
        mode="append",
        schema=table.schema(),
        partition_by=table.metadata().partition_columns,
        commit_properties=properties,
        post_commithook_properties=NO_HOOKS,
    )


def create_once(storage: Storage, name: str, **options: Any) -> bool:
    """Create a table; False when somebody else just has. ``options`` as ``DeltaTable.create``."""
    try:
        DeltaTable.create(
            storage.url(name),
            mode="error",
            storage_options=dict(storage.options),
            commit_properties=CommitProperties(max_commit_retries=0),
            post_commithook_properties=NO_HOOKS,
            **options,
        )
    except (DeltaError, OSError) as error:
        if open_table(storage, name) is None:
            raise _failed(storage, name, error) from error
        return False
    sync_version(storage, name, 0)
    return True


def add_columns(table: DeltaTable, fields: Any, properties: CommitProperties) -> None:
    """Commit new columns."""
    table.alter.add_columns(
        fields, commit_properties=properties, post_commithook_properties=NO_HOOKS
    )


def sync_version(storage: Storage, name: str, version: int) -> None:
    """Make a version on a local disk durable: its log entry and the folders that lead to it.

    Raises
    ------
    LakeError
        The disk refused; the version exists, but may not outlive a loss of power.
    """
    if not storage.local:
        return
    try:
        storage.sync_file(Path(storage.path(name, "_delta_log", f"{version:020d}.json")))
    except OSError as error:
        raise LakeError(
            f"a commit could not be forced to the disk: {error}",
            where={"lake": storage.uri, "table": name, "version": version},
            remedy="check the disk, then run again: the run publishes the same rows anew",
        ) from error


def _unreadable(storage: Storage, name: str, version: int | None, error: Exception) -> LakeError:
    where = {"lake": storage.uri, "table": name}
    if version is not None:
        newest = require_table(storage, name).version()
        if not 0 <= version <= newest:
            return LakeError(
                f"there is no version {version}", where=where, expected=f"0 to {newest}"
            )
        where["version"] = str(version)
    return LakeError(
        f"the table's log cannot be read: {_reason(error)}",
        where=where,
        expected="a whole log",
        remedy=_CUT_OFF if storage.local else "check the address, the credentials and the network",
    )


def _check_fence(storage: Storage, name: str, table: DeltaTable) -> None:
    if storage.fence is None:
        return
    seen = table.transaction_version(FENCE)
    if seen is not None and seen > storage.fence:
        raise LeaseError(
            f"attempt {seen} has taken the place of this run, which is attempt {storage.fence}",
            where={"lake": storage.uri, "table": name},
            expected="no later run to write while this one does",
            remedy="leave the lake to that run; `hbpipe status` shows it. This run was paused, or "
            "cut off from the lake, for longer than its lease lasts",
        )


def _properties(
    table: DeltaTable,
    commit_id: str,
    metadata: Mapping[str, Any] | None,
    app_id: str | None,
    fence: int | None,
) -> CommitProperties:
    transactions = []
    if app_id is not None:
        last = table.transaction_version(app_id)
        transactions.append(Transaction(app_id, 0 if last is None else last + 1))
    if fence is not None:
        transactions.append(Transaction(FENCE, fence))
    return CommitProperties(
        custom_metadata={METADATA: {**(metadata or {}), "commit_id": commit_id}},
        max_commit_retries=0,
        app_transactions=transactions or None,
    )


def _find_commit(storage: Storage, name: str, commit_id: str, base: int) -> int | None:
    table = require_table(storage, name)
    behind = table.version() - base
    for entry in table.history(behind) if behind > 0 else []:
        if entry.get(METADATA, {}).get("commit_id") == commit_id:
            return int(entry["version"])
    return None


def _failed(storage: Storage, name: str, error: Exception) -> LakeError:
    return LakeError(
        f"a commit failed: {_reason(error)}",
        where={"lake": storage.uri, "table": name},
        remedy="repair the disk or the store, then run again: nothing was published",
    )


def _reason(error: Exception) -> str:
    """Return deltalake's chain of causes on one line, without colours and stack frames."""
    lines = _DECORATION.sub("", str(error)).splitlines()
    causes = itertools.takewhile(lambda line: not _FRAME.match(line), lines)
    return ": ".join(line.strip() for line in causes)
