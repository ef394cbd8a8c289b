"""Vacuum: what no version that is still needed names, deleted; and the log kept short.

deltalake's own vacuum goes by the age of a removal, commits two entries of its own, and knows
nothing of files that were staged and never published unless it is asked to list everything. Here
a file stays while any version that is *needed* names it: one that a retained release names, the
newest one, and each that was the newest less than the grace ago, for readers that have just opened
it. A file that no commit names is somebody's staged work until it is older than the grace.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

import pyarrow.fs as pafs

from hbpipe.data.checkpoints import due_checkpoints, entries_behind, trim_log, write_checkpoint
from hbpipe.data.commit import require_table
from hbpipe.data.durable import PRIVATE, Storage
from hbpipe.data.log import LOG, Log, list_log, read_entry
from hbpipe.data.snapshot import take_snapshot


@dataclass(frozen=True)
class TablePlan:
    """What vacuum would do to one table.

    Attributes
    ----------
    table
        Its name.
    oldest
        The oldest version that stays readable.
    files, size
        The data files to delete, relative to the table, and their bytes.
    checkpoints
        The versions at which a checkpoint is missing.
    entries
        How many files of the log lie behind a checkpoint, and go.
    """

    table: str
    oldest: int
    files: tuple[str, ...]
    size: int
    checkpoints: tuple[int, ...]
    entries: int

    @property
    def work(self) -> bool:
        """Tell whether anything would be done."""
        return bool(self.files or self.checkpoints or self.entries)


def plan_table(
    storage: Storage, name: str, named: Iterable[int], before: datetime | None
) -> TablePlan:
    """Find what nothing needs any more; writes nothing.

    Parameters
    ----------
    named
        The versions that retained releases name.
    before
        The end of the grace, aware: what is younger stays. None for no grace.
    """
    log = list_log(storage, name)
    needed = needed_versions(log, named, before)
    kept = _named_files(storage, name, log, needed)
    gone = [
        info
        for info in _data_files(storage, name)
        if _relative(storage, name, info) not in kept and (before is None or info.mtime < before)
    ]
    checkpoints = due_checkpoints(log, needed[0])
    later = Log(log.commits, tuple(sorted({*log.checkpoints, *checkpoints})))
    return TablePlan(
        table=name,
        oldest=needed[0],
        files=tuple(_relative(storage, name, info) for info in gone),
        size=sum(info.size for info in gone),
        checkpoints=tuple(checkpoints),
        entries=len(entries_behind(later, needed[0])),
    )


def vacuum_table(storage: Storage, plan: TablePlan) -> None:
    """Do what a plan says: checkpoints first, then files, then the log behind them.

    Stopped anywhere, every needed version is readable, and the next vacuum finds what is left.

    Raises
    ------
    LakeError
        A checkpoint cannot be written.
    """
    for version in plan.checkpoints:
        write_checkpoint(storage, plan.table, version)
    filesystem = storage.filesystem()
    for path in plan.files:
        filesystem.delete_file(storage.path(plan.table, path))
    if plan.entries:
        trim_log(storage, plan.table, list_log(storage, plan.table), plan.oldest)


def needed_versions(log: Log, named: Iterable[int], before: datetime | None) -> list[int]:
    """List the versions that must stay readable, ascending; the newest is always one of them.

    A version is superseded when the next is written; for the grace after that it is needed.
    """
    needed = {version for version in named if log.oldest <= version <= log.newest} | {log.newest}
    if before is not None:
        needed |= {version - 1 for version, at in log.commits.items() if at >= before}
    return sorted(version for version in needed if version >= log.oldest)


def _named_files(storage: Storage, name: str, log: Log, needed: Collection[int]) -> set[str]:
    """Return every file that a needed version names, from one pass over the log."""
    ordered = sorted(needed)
    first = take_snapshot(storage, name, require_table(storage, name, log.oldest))
    since = dict.fromkeys((file.path for file in first.files), log.oldest)
    kept: set[str] = set()
    for version in (one for one in log.commits if one > log.oldest):
        entry = read_entry(storage, name, version)
        for path in entry.removes:
            joined = since.pop(path, version)
            place = bisect_left(ordered, joined)
            if place < len(ordered) and ordered[place] < version:
                kept.add(path)
        for path in entry.adds:
            since.setdefault(path, version)
    return kept | since.keys()


def _data_files(storage: Storage, name: str) -> list[pafs.FileInfo]:
    found = storage.filesystem().get_file_info(
        pafs.FileSelector(storage.path(name), recursive=True)
    )
    log = storage.path(name, LOG) + "/"
    return [info for info in found if info.is_file and not info.path.startswith(log)]


def _relative(storage: Storage, name: str, info: pafs.FileInfo) -> str:
    return str(info.path).removeprefix(storage.path(name) + "/")


def abandoned_spools(storage: Storage, before: datetime | None) -> list[str]:
    """List what processes that died left in the lake's staging folder."""
    selector = pafs.FileSelector(
        storage.path(PRIVATE, "staging"), recursive=True, allow_not_found=True
    )
    return sorted(
        info.path
        for info in storage.filesystem().get_file_info(selector)
        if info.is_file and (before is None or info.mtime < before)
    )
