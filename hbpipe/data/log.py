"""The log of a table, as files: its commits, its checkpoints, and what each commit did.

Only what upkeep needs and deltalake does not tell: Delta protocol, "Delta Log Entries" and
"Checkpoints".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

import pyarrow.fs as pafs

from hbpipe.data.durable import Storage

#: The folder of a table in which its log lies.
LOG = "_delta_log"

_COMMIT = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.parquet")


@dataclass(frozen=True)
class Log:
    """What lies in a table's log: ``commits`` by version, with the moment each was written."""

    commits: Mapping[int, datetime]
    checkpoints: tuple[int, ...]

    @property
    def newest(self) -> int:
        """The newest version."""
        return max([*self.commits, *self.checkpoints])

    @property
    def oldest(self) -> int:
        """The oldest version that can still be opened."""
        return 0 if 0 in self.commits else min(self.checkpoints)

    def base(self, version: int) -> int | None:
        """Return the newest checkpoint that opening a version can start from, None for none."""
        return max((one for one in self.checkpoints if one <= version), default=None)


@dataclass(frozen=True)
class Entry:
    """The paths of the files that one commit added, and of those that it removed."""

    adds: tuple[str, ...]
    removes: tuple[str, ...]


def commit_name(version: int) -> str:
    """Name the file of a commit."""
    return f"{version:020d}.json"


def checkpoint_name(version: int) -> str:
    """Name the file of a checkpoint."""
    return f"{version:020d}.checkpoint.parquet"


def list_tables(storage: Storage) -> list[str]:
    """Name every table of a lake, sorted."""
    selector = pafs.FileSelector(storage.path(), allow_not_found=True)
    folders = [one for one in storage.filesystem().get_file_info(selector) if not one.is_file]
    logs = storage.filesystem().get_file_info([f"{one.path}/{LOG}" for one in folders])
    pairs = zip(folders, logs, strict=True)
    return sorted(one.base_name for one, log in pairs if log.type == pafs.FileType.Directory)


def list_log(storage: Storage, name: str) -> Log:
    """List the log of a table."""
    selector = pafs.FileSelector(storage.path(name, LOG))
    commits, checkpoints = {}, []
    for info in storage.filesystem().get_file_info(selector):
        if found := _COMMIT.fullmatch(info.base_name):
            commits[int(found[1])] = info.mtime
        elif found := _CHECKPOINT.fullmatch(info.base_name):
            checkpoints.append(int(found[1]))
    return Log(dict(sorted(commits.items())), tuple(sorted(checkpoints)))


def read_entry(storage: Storage, name: str, version: int) -> Entry:
    """Read what one commit did."""
    path = storage.path(name, LOG, commit_name(version))
    with storage.filesystem().open_input_file(path) as source:
        actions = [json.loads(line) for line in source.read().splitlines() if line.strip()]
    return Entry(tuple(_paths(actions, "add")), tuple(_paths(actions, "remove")))


def _paths(actions: list[dict[str, dict[str, str]]], kind: str) -> Iterator[str]:
    return (action[kind]["path"] for action in actions if kind in action)
