"""The lake under fire: races, kills at every step, failing disks, lost replies, rotten bytes."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError, DeltaError

from hbpipe.data.lake import Lake, Receipt
from hbpipe.errors import LakeError

SCHEMA = pa.schema([("day", pa.date32()), ("store", pa.string()), ("n", pa.int64())])
LEDGER = pa.schema([("path", pa.string()), ("rows", pa.int64())])
DAY = {"day": "2026-01-01"}


def rows(count: int, value: int) -> pa.Table:
    return pa.table({"store": [f"s{i}" for i in range(count)], "n": [value] * count})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    made = Lake(str(tmp_path / "lake"))
    made.create("statistics", SCHEMA, ["day"])
    made.create("files", LEDGER)
    return made


def put(lake: Lake, count: int, value: int, day: dict[str, str] = DAY, **options: Any) -> int:
    return lake.replace(
        "statistics", rows(count, value), run_id=f"run-{value}", partition=day, **options
    )


def values(lake: Lake) -> list[int]:
    return lake.read("statistics")["n"].to_pylist()


# Races


def together(count: int, work: Callable[[int], None]) -> None:
    """Run ``work(0..count-1)`` in threads that start at once; raise the first error."""
    barrier = threading.Barrier(count)
    errors: list[BaseException] = []

    def run(index: int) -> None:
        try:
            barrier.wait()
            work(index)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_creators_race(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    for attempt in range(10):
        together(4, lambda _, name=f"t{attempt}": lake.create(name, SCHEMA, ["day"]))
        assert lake.version(f"t{attempt}") == 0


def test_first_publishers_of_one_partition_race(lake: Lake) -> None:
    together(6, lambda index: put(lake, 10 + index, index) and None)
    assert lake.version("statistics") == 6
    counts = Counter(values(lake))
    assert len(counts) == 1
    winner, count = counts.popitem()
    assert count == 10 + winner
    for version in range(1, 7):
        seen = set(lake.read("statistics", version=version)["n"].to_pylist())
        assert len(seen) == 1


def test_guard_lets_only_one_of_the_racers_publish(lake: Lake) -> None:
    together(6, lambda index: put(lake, 5, index, guard=lambda head: not head.files) and None)
    assert lake.version("statistics") == 1
    assert len(set(values(lake))) == 1
    assert len(values(lake)) == 5


def test_publishers_of_different_partitions_all_land(lake: Lake) -> None:
    together(6, lambda index: put(lake, 3, index, {"day": f"2026-01-0{index + 1}"}) and None)
    assert Counter(values(lake)) == dict.fromkeys(range(6), 3)


def test_schema_changes_race_with_publications(lake: Lake) -> None:
    def work(index: int) -> None:
        if index < 3:
            lake.ensure_schema("statistics", pa.schema([(f"q{index}", pa.float64())]))
        else:
            lake.upsert("files", ledger(f"f{index}"), ["path"], run_id="r")

    together(6, work)
    assert set(lake.snapshot("statistics").schema.names) == {*SCHEMA.names, "q0", "q1", "q2"}
    assert lake.read("files").num_rows == 3


def ledger(*paths: str, count: int = 1) -> pa.Table:
    return pa.table({"path": list(paths), "rows": [count] * len(paths)})


def test_upserts_of_different_keys_lose_nothing(lake: Lake) -> None:
    def work(index: int) -> None:
        for turn in range(4):
            lake.upsert(
                "files", ledger("shared", f"{index}-{turn}", count=index), ["path"], run_id="r"
            )

    together(4, work)
    paths = lake.read("files")["path"].to_pylist()
    assert paths == sorted(["shared", *(f"{i}-{turn}" for i in range(4) for turn in range(4))])


RACER = textwrap.dedent(
    """
    import sys
    import pyarrow as pa
    from hbpipe.data.lake import Lake
    lake, index = Lake(sys.argv[1]), int(sys.argv[2])
    rows = pa.table({"store": [str(i) for i in range(10 + index)], "n": [index] * (10 + index)})
    print("ready", flush=True)
    sys.stdin.readline()
    for turn in range(5):
        lake.replace("statistics", rows, run_id="r", partition={"day": "2026-01-01"})
        key = pa.table({"path": [f"{index}-{turn}"], "rows": [turn]})
        lake.upsert("files", key, ["path"], run_id="r")
    """
)


def test_processes_race(lake: Lake) -> None:
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", RACER, lake.uri, str(index)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for index in range(3)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        racer.communicate()
        assert racer.returncode == 0
    assert lake.version("statistics") == lake.version("files") == 15
    counts = Counter(values(lake))
    assert [counts[index] for index in counts] == [10 + index for index in counts]
    assert len(counts) == 1
    assert lake.read("files").num_rows == 15


# Staged files that are not what their receipts say


def staged(lake: Lake) -> tuple[Receipt, Path]:
    receipt = lake.write_part("statistics", rows(50, 1), run_id="r", partition=DAY)
    return receipt, Path(lake.path("statistics", receipt.path))


def other_footer(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda path: path.unlink(), "has vanished"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "size is"),
        (lambda path: path.write_bytes(b""), "size is 0"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "no readable Parquet footer"),
        (other_footer, "footer"),
    ],
)
def test_damaged_staged_file_is_refused(
    lake: Lake, damage: Callable[[Path], Any], found: str
) -> None:
    put(lake, 2, 7)
    receipt, path = staged(lake)
    damage(path)
    with pytest.raises(LakeError, match=found) as caught:
        lake.publish("statistics", [receipt], app_id="x", replaces=[DAY])
    assert caught.value.where["file"] == receipt.path
    assert values(lake) == [7, 7]


def test_part_of_another_schema_is_refused(lake: Lake) -> None:
    other = pa.schema([("store", pa.string()), ("n", pa.string())])
    part = lake.write_part(
        "statistics",
        pa.table({"store": ["a"], "n": ["1"]}),
        run_id="r",
        partition=DAY,
        schema=other,
    )
    with pytest.raises(LakeError, match="column 'n' is string, not int64"):
        lake.publish("statistics", [part], app_id="x", replaces=[DAY])
    assert lake.version("statistics") == 0


# Replies lost, stores failing, writers paused


def interfere(
    monkeypatch: pytest.MonkeyPatch, around: Callable[[Callable[[], None], int], None]
) -> None:
    """Call ``around(commit, number)`` in place of every commit of a publication."""
    commit = DeltaTable.create_write_transaction
    calls: list[int] = []

    def interfered(self: DeltaTable, *arguments: Any, **options: Any) -> None:
        calls.append(len(calls))
        around(lambda: commit(self, *arguments, **options), calls[-1])

    monkeypatch.setattr(DeltaTable, "create_write_transaction", interfered)


@pytest.mark.parametrize("reply", [DeltaError, CommitFailedError, OSError])
def test_lost_reply_is_recognised_by_the_commit_id(
    lake: Lake, monkeypatch: pytest.MonkeyPatch, reply: type[Exception]
) -> None:
    def lose(commit: Callable[[], None], _: int) -> None:
        commit()
        raise reply("connection reset")

    interfere(monkeypatch, lose)
    assert put(lake, 3, 1) == lake.version("statistics") == 1
    assert values(lake) == [1, 1, 1]


def test_reply_lost_and_others_have_committed_since(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(commit: Callable[[], None], number: int) -> None:
        commit()
        if number == 0:
            put(lake, 2, 2, {"day": "2026-01-02"})
            raise DeltaError("timeout")

    interfere(monkeypatch, lose)
    assert put(lake, 3, 1) == 1
    assert lake.version("statistics") == 2
    assert values(lake) == [1, 1, 1, 2, 2]


def test_failing_store_publishes_nothing(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    put(lake, 3, 1)

    def fail(*_: Any) -> None:
        raise DeltaError("Generic S3 error\n  \x1b[31m↳\x1b[0m 503 Slow Down\n   0: <unknown>\n")

    interfere(monkeypatch, fail)
    with pytest.raises(LakeError, match=r"failed: Generic S3 error: 503 Slow Down \(") as caught:
        put(lake, 2, 2)
    assert caught.value.remedy
    assert lake.version("statistics") == 1
    assert values(lake) == [1, 1, 1]


def test_paused_writer_decides_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[int] = []

    def pause(commit: Callable[[], None], number: int) -> None:
        if number == 0:
            put(lake, 5, 2)
        commit()

    interfere(monkeypatch, pause)
    version = put(lake, 3, 1, guard=lambda head: not heads.append(head.version))
    assert heads == [0, 1]
    assert version == 2
    assert values(lake) == [1, 1, 1]


def test_paused_writer_whose_files_were_reclaimed(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt, path = staged(lake)

    def pause(commit: Callable[[], None], number: int) -> None:
        if number == 0:
            put(lake, 2, 2)
            path.unlink()
        commit()

    interfere(monkeypatch, pause)
    with pytest.raises(LakeError, match="has vanished"):
        lake.publish("statistics", [receipt], app_id="x", replaces=[DAY])
    assert values(lake) == [2, 2]


def test_endless_losers_give_up(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: Any) -> None:
        raise CommitFailedError("0")

    interfere(monkeypatch, lose)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(LakeError, match="lost to other writers"):
        put(lake, 2, 2)
    assert lake.version("statistics") == 0


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
    lake.upsert("files", ledger("a"), ["path"], run_id="r")
    landed = Counter[tuple[tuple[int, ...], int]]()
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
    assert step > 50


def finish(lake: Lake) -> None:
    """Run again after a kill: the same rows as if nothing had happened."""
    put(lake, 3, 2)
    lake.upsert("files", ledger("b", count=2), ["path"], run_id="r")
    assert values(lake) == [2, 2, 2]
    assert lake.read("files").to_pylist() == [{"path": "a", "rows": 1}, {"path": "b", "rows": 2}]


# Disks

FULL = textwrap.dedent(
    """
    import random, resource, sys
    import pyarrow as pa
    from hbpipe.data.lake import Lake
    from hbpipe.errors import LakeError
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    numbers = random.Random(0)
    n = [numbers.getrandbits(60) for _ in range(20_000)]
    rows = pa.table({"store": [str(i) for i in n], "n": n})
    try:
        Lake(sys.argv[1]).replace("statistics", rows, run_id="r", partition={"day": "2026-01-01"})
    except LakeError as error:
        print(error)
    """
)


@pytest.mark.parametrize("limit", [0, 4, 1000, 100_000, 250_000])
def test_full_disk_publishes_nothing(lake: Lake, limit: int) -> None:
    put(lake, 2, 1)
    done = subprocess.run(
        [sys.executable, "-c", FULL, lake.uri, str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "a part could not be written" in done.stdout
    assert "File too large" in done.stdout
    assert "free space" in done.stdout
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
        calls[0], before = step, values(lake)
        try:
            put(lake, 3, step + 1)
        except LakeError as error:
            failures += "Input/output error" in str(error)
        assert values(lake) in (before, [step + 1] * 3)
        step += 1
    assert step > 10
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
    interfere(monkeypatch, commit_once)
    put(lake, 3, 1)
    (file,) = lake.files("statistics")
    table, log = Path(lake.path("statistics")), Path(lake.path("statistics", "_delta_log"))
    data = table / file.path
    needed = [data, data.parent, table, log / f"{0:020d}.json", log]
    assert {str(path.stat().st_ino) for path in needed} <= at_commit[0]
    reported = [log / f"{1:020d}.json", log, table]
    assert {str(path.stat().st_ino) for path in reported} <= set(synced)


# Rot


def test_bit_flips_never_change_what_is_read(lake: Lake) -> None:
    put(lake, 200, 1)
    snapshot = lake.snapshot("statistics")
    whole = snapshot.read()
    path = Path(lake.path("statistics", snapshot.files[0].path))
    content = path.read_bytes()
    chance = random.Random(20260101)
    refused: list[LakeError] = []
    for _ in range(400):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            read = snapshot.read()
        except LakeError as error:
            refused.append(error)
        else:
            # The bits that may flip unnoticed decide nothing, such as those of a page header's
            # own statistics.
            assert read.equals(whole)
        (fault,) = snapshot.verify()
        assert fault.where["file"] == snapshot.files[0].path
    assert len(refused) > 300
    assert {error.where["file"] for error in refused} == {snapshot.files[0].path}
    path.write_bytes(content)
    assert snapshot.verify() == []
    path.unlink()
    assert "cannot be read" in str(snapshot.verify()[0])


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
