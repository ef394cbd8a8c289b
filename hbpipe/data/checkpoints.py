"""Checkpoints: the state of a table at one version, so that opening it need not replay its life.

deltalake can write one after every hundredth commit by itself, but syncs nothing, and after a loss
of power a torn checkpoint makes the table unreadable, where a torn log entry is only a lost
commit. So on a local disk a checkpoint is made on a private copy of the log, forced to the disk,
read back alone, and only then moved into place. On an object store a PUT is whole or not there:
deltalake writes it in place, and it is read back.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from hbpipe.data.commit import FENCE, require_table
from hbpipe.data.durable import PRIVATE, Storage, make_folder, sync
from hbpipe.data.log import LOG, Log, checkpoint_name, commit_name, list_log
from hbpipe.data.snapshot import FileRef, take_snapshot
from hbpipe.errors import LakeError

#: Versions between checkpoints: opening a table replays fewer commits than this.
EVERY = 100
_HINT = "_last_checkpoint"


def due_checkpoints(log: Log, oldest: int) -> list[int]:
    """List the checkpoints that are missing for versions from ``oldest`` on, ascending.

    They stand at whole multiples of ``EVERY``, so that the versions of old releases open as fast
    as the newest; the first lies at or before ``oldest``, so that the log before it can go.
    """
    first = max(oldest - oldest % EVERY, EVERY)
    wanted = range(first, log.newest + 1, EVERY)
    return [one for one in wanted if one >= log.oldest and one not in log.checkpoints]


def write_checkpoint(storage: Storage, name: str, version: int) -> None:
    """Write the checkpoint of one version, durable and read back before anything counts on it.

    Raises
    ------
    LakeError
        It does not give back what the log says, or cannot be written; the table stays as it is.
    """
    expected = _state(storage, name, version)
    if storage.local:
        with _copy_of_log(storage, name, version) as copy:
            require_table(copy, name, version).create_checkpoint()
            _forget_commits(copy, name, version)
            _compare(storage, name, expected, _state(copy, name, version))
            _move_in(storage, name, copy, version)
    else:
        require_table(storage, name, version).create_checkpoint()
        _compare(storage, name, expected, _state(storage, name, version))


def trim_log(storage: Storage, name: str, log: Log, oldest: int) -> None:
    """Delete the entries that no version from ``oldest`` on is opened from, oldest first.

    Deleted in this order, what is left of a log is whole from some version on, wherever the
    process dies.
    """
    for file in entries_behind(log, oldest):
        storage.filesystem().delete_file(storage.path(name, LOG, file))


def entries_behind(log: Log, oldest: int) -> list[str]:
    """Name the files of the log that ``trim_log`` deletes, in its order."""
    base = log.base(oldest)
    if base is None:
        return []
    commits = [commit_name(one) for one in sorted(log.commits) if one < base]
    return commits + [checkpoint_name(one) for one in log.checkpoints if one < base]


@contextmanager
def _copy_of_log(storage: Storage, name: str, version: int) -> Iterator[Storage]:
    """Link the log up to a version into a private folder; it costs no space."""
    private = Path(storage.path(PRIVATE, "staging", uuid.uuid4().hex))
    source, target = Path(storage.path(name, LOG)), private / name / LOG
    log = list_log(storage, name)
    base = log.base(version)
    try:
        make_folder(target)
        for one in log.commits:
            if (base or 0) <= one <= version:
                os.link(source / commit_name(one), target / commit_name(one))
        if base is not None:
            os.link(source / checkpoint_name(base), target / checkpoint_name(base))
        yield Storage(str(private))
    except OSError as error:
        raise LakeError(
            f"a checkpoint could not be written: {error}",
            where={"lake": storage.uri, "table": name, "version": version},
            remedy="free space or repair the disk, then vacuum again: the table is as it was",
        ) from error
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _forget_commits(copy: Storage, name: str, version: int) -> None:
    """Leave the new checkpoint alone in the copy, so that reading it back proves it."""
    folder = Path(copy.path(name, LOG))
    for file in folder.iterdir():
        if file.name not in (checkpoint_name(version), _HINT):
            file.unlink()


@dataclass(frozen=True)
class _State:
    """What a checkpoint must give back; without the fence, an earlier run could commit again."""

    version: int
    schema: pa.Schema
    partition_by: tuple[str, ...]
    files: tuple[FileRef, ...]
    fence: int | None


def _state(storage: Storage, name: str, version: int) -> _State:
    table = require_table(storage, name, version)
    found = take_snapshot(storage, name, table)
    fence = table.transaction_version(FENCE)
    return _State(found.version, found.schema, found.partition_by, found.files, fence)


def _compare(storage: Storage, name: str, expected: _State, found: _State) -> None:
    """Refuse a checkpoint whose files, columns, partitions or fence are not those of the log."""
    if expected != found:
        raise LakeError(
            f"a checkpoint gives back {len(found.files)} files and fence {found.fence}, which "
            "differ from the log's",
            where={"lake": storage.uri, "table": name, "version": expected.version},
            expected=f"the {len(expected.files)} files of the log, and fence {expected.fence}",
            remedy="check the disk and the version of deltalake; keep the log until it is whole",
        )


def _move_in(storage: Storage, name: str, copy: Storage, version: int) -> None:
    """Force a checkpoint to the disk, then give it its name; the hint to it comes last."""
    source, target = Path(copy.path(name, LOG)), Path(storage.path(name, LOG))
    for file in (checkpoint_name(version), _HINT):
        sync(source / file)
        (source / file).rename(target / file)
        storage.sync_folders(target)
