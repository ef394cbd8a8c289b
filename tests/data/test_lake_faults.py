"""Kills at every step, disks that fail, and what a loss of power leaves behind."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from hbpipe.data import durable
from hbpipe.data.durable import Storage
from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError
from tests.data.lake_samples import (
    counts_lake,
    interfere,
    paths,
    put,
    staged,
    values,
)
from tests.processes import forked


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return counts_lake(tmp_path)


# Kills


#: Imports once, then forks a child for each line "step lake", which is killed before that step.
KILLED = textwrap.dedent(
    """
    import os, signal, sys
    import pyarrow as pa
    from deltalake import DeltaTable
    from hbpipe.data.lake import Lake

    rows = pa.table({"store": ["a", "b", "c"], "n": [2, 2, 2]})

    def arm(owner, name, state):
        original = getattr(owner, name)
        def step(*arguments, **options):
            if state["left"] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            state["left"] -= 1
            result = original(*arguments, **options)
            if state["left"] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            state["left"] -= 1
            return result
        setattr(owner, name, step)

    def publish(left, lake):
        state = {"left": left}
        for name in ("open", "fsync", "mkdir", "rename", "unlink", "close"):
            arm(os, name, state)
        arm(DeltaTable, "create_write_transaction", state)
        day = {"day": "2026-01-01"}
        lake.replace("statistics", rows, run_id="run-2", partition=day)
        lake.upsert("files", pa.table({"path": ["b"], "rows": [2]}), ["path"], run_id="run-2")
        os._exit(0)

    for line in sys.stdin:
        step, uri = line.split()
        child = os.fork()
        if child == 0:
            publish(int(step), Lake(uri))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    """
)


def test_killed_at_every_step(lake: Lake, tmp_path: Path) -> None:
    put(lake, 2, 1)
    lake.upsert("files", paths("a"), ["path"], run_id="r")
    landed: Counter[tuple[tuple[int, ...], int]] = Counter()
    with subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as helper:
        assert helper.stdin is not None
        assert helper.stdout is not None
        status, step = -9, 0
        while status == -9:
            copy = Lake(str(tmp_path / f"copy-{step}"))
            shutil.copytree(lake.uri, copy.uri)
            helper.stdin.write(f"{step} {copy.uri}\n")
            helper.stdin.flush()
            status = int(helper.stdout.readline())
            landed[tuple(values(copy)), copy.read("files").num_rows] += 1
            finish(copy)
            step += 1
        helper.stdin.close()
    assert status == 0
    assert set(landed) == {((1, 1), 1), ((2, 2, 2), 1), ((2, 2, 2), 2)}
    assert step > 100


def finish(lake: Lake) -> None:
    """Run again after a kill: the same rows as if nothing had happened."""
    put(lake, 3, 2)
    lake.upsert("files", paths("b", count=2), ["path"], run_id="r")
    assert values(lake) == [2, 2, 2]
    assert lake.read("files").to_pylist() == [{"path": "a", "rows": 1}, {"path": "b", "rows": 2}]


# Disks


def publish_on_a_full_disk(lake: Lake, limit: int) -> None:
    """Publish a day of which no file may be longer than ``limit`` bytes."""
    numbers = random.Random(0)
    n = [numbers.getrandbits(60) for _ in range(20_000)]
    rows = pa.table({"store": [str(i) for i in n], "n": n})
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        lake.replace("statistics", rows, run_id="r", partition={"day": "2026-01-01"})
    except LakeError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        print(error)


@pytest.mark.parametrize("limit", [0, 4, 1000, 100_000, 250_000])
def test_full_disk_publishes_nothing(lake: Lake, limit: int) -> None:
    put(lake, 2, 1)
    with forked(publish_on_a_full_disk, lake, limit) as other:
        assert other.wait() == 0, other.said()
        said = other.said()
    assert "a part could not be written" in said
    assert "File too large" in said
    assert "free space" in said
    assert values(lake) == [1, 1]
    assert list(Path(lake.private_path("staging")).iterdir()) == []
    put(lake, 3, 2)
    assert values(lake) == [2, 2, 2]


def test_failed_sync_is_an_error_wherever_it_strikes(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, [0]

    def failing(descriptor: int) -> None:
        calls[0] -= 1
        if calls[0] < 0:
            raise OSError(errno.EIO, "Input/output error")
        sync(descriptor)

    put(lake, 2, 0)
    monkeypatch.setattr(os, "fsync", failing)
    step = failures = 0
    while failures == step:
        monkeypatch.setattr(durable, "_FORCED", set())  # as in a new process
        calls[0], before = step, values(lake)
        try:
            put(lake, 3, step + 1)
        except LakeError as error:
            failures += "Input/output error" in str(error)
        assert values(lake) in (before, [step + 1] * 3)
        step += 1
    assert step > 9
    assert values(lake) == [step] * 3


def test_everything_is_synced_before_it_is_relied_on(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model of a loss of power: what is not synced before a point may be missing after it."""
    synced: list[str] = []
    at_commit: list[set[str]] = []
    sync = os.fsync

    def recording(descriptor: int) -> None:
        sync(descriptor)
        synced.append(str(os.fstat(descriptor).st_ino))

    def commit_once(commit: Callable[[], None], _: int) -> None:
        at_commit.append(set(synced))
        synced.clear()
        commit()

    monkeypatch.setattr(os, "fsync", recording)
    monkeypatch.setattr(durable, "_FORCED", set())  # as in a new process
    interfere(monkeypatch, commit_once)
    put(lake, 3, 1)
    (file,) = lake.files("statistics")
    table, log = Path(lake.path("statistics")), Path(lake.path("statistics", "_delta_log"))
    data = table / file.path
    needed = [data, data.parent, table, log / f"{0:020d}.json", log]
    assert {str(path.stat().st_ino) for path in needed} <= at_commit[0]
    reported = [log / f"{1:020d}.json", log]
    assert {str(path.stat().st_ino) for path in reported} <= set(synced)
    # What has been forced to the disk is there; the next part, its name and its entry are new.
    synced.clear()
    put(lake, 2, 2)
    (file,) = lake.files("statistics")
    assert {str(path.stat().st_ino) for path in (table / file.path, data.parent)} == at_commit[1]
    reported = [log / f"{2:020d}.json", log]
    assert {str(path.stat().st_ino) for path in reported} == set(synced)


def test_a_folder_made_anew_is_forced_to_the_disk_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(durable, "sync", synced.append)
    monkeypatch.setattr(durable, "_FORCED", set())
    storage, folder = Storage(str(tmp_path)), tmp_path / "table"
    folder.mkdir()
    storage.sync_folders(folder)
    assert synced == [folder, tmp_path]
    storage.sync_folders(folder)
    assert synced == [folder, tmp_path, folder]
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()
    storage.sync_folders(folder)
    assert synced[3:] == [folder, tmp_path]


def test_a_sync_that_failed_is_not_taken_for_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is what fails: the file's own sync before it is not relied on either."""
    monkeypatch.setattr(durable, "_FORCED", set())
    sync, broken = durable.sync, [tmp_path]
    synced: list[Path] = []

    def failing(path: Path) -> None:
        if path in broken:
            raise OSError(errno.EIO, "Input/output error")
        synced.append(path)
        sync(path)

    monkeypatch.setattr(durable, "sync", failing)
    storage, entry = Storage(str(tmp_path)), tmp_path / "entry"
    entry.touch()
    with pytest.raises(OSError, match="Input/output"):
        storage.sync_file(entry)
    broken.clear()
    for _ in range(2):
        storage.sync_file(entry)
    assert synced == [entry, entry, tmp_path]


# Rot


def test_cut_off_log_entry_is_named_and_can_be_moved_away(lake: Lake) -> None:
    put(lake, 2, 1)
    entry = Path(lake.path("statistics", "_delta_log", f"{2:020d}.json"))
    entry.write_text('{"commitInfo":{"timest')
    with pytest.raises(LakeError, match=r"log cannot be read.*table statistics.*never reported"):
        lake.read("statistics")
    entry.unlink()
    put(lake, 3, 2)
    assert values(lake) == [2, 2, 2]


def test_empty_log_entry_is_a_commit_that_changed_nothing(lake: Lake) -> None:
    """What ext4 leaves of a log entry after a loss of power: a name without content."""
    put(lake, 2, 1)
    Path(lake.path("statistics", "_delta_log", f"{2:020d}.json")).touch()
    assert values(lake) == [1, 1]
    assert put(lake, 3, 2) == 3
    assert values(lake) == [2, 2, 2]


def test_leavings_of_killed_writers_are_ignored(lake: Lake) -> None:
    put(lake, 2, 1)
    log = Path(lake.path("statistics", "_delta_log"))
    (log / f"{2:020d}.json#1").write_text('{"add":')
    staged(lake)
    assert values(lake) == [1, 1]
    assert put(lake, 3, 2) == 2
    assert values(lake) == [2, 2, 2]
