"""Many writers at once, replies that are lost, writers that wake late."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake.exceptions import CommitFailedError, DeltaError

from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError
from tests.data.lake_samples import (
    COUNTS,
    FIRST,
    counts_lake,
    interfere,
    paths,
    put,
    staged,
    values,
)
from tests.processes import SERVER, forked


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return counts_lake(tmp_path)


# Races


def together(count: int, work: Callable[[int], object]) -> None:
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
        together(4, lambda _, name=f"t{attempt}": lake.create(name, COUNTS, ["day"]))
        assert lake.version(f"t{attempt}") == 0


def test_first_publishers_of_one_partition_race(lake: Lake) -> None:
    together(6, lambda index: put(lake, 10 + index, index))
    assert lake.version("statistics") == 6
    counts = Counter(values(lake))
    assert len(counts) == 1
    winner, count = counts.popitem()
    assert count == 10 + winner
    for version in range(1, 7):
        seen = set(lake.read("statistics", version=version)["n"].to_pylist())
        assert len(seen) == 1


def test_guard_lets_only_one_of_the_racers_publish(lake: Lake) -> None:
    together(6, lambda index: put(lake, 5, index, guard=lambda head: not head.files))
    assert lake.version("statistics") == 1
    assert len(set(values(lake))) == 1
    assert len(values(lake)) == 5


def test_publishers_of_different_partitions_all_land(lake: Lake) -> None:
    together(6, lambda index: put(lake, 3, index, {"day": f"2026-01-0{index + 1}"}))
    assert Counter(values(lake)) == dict.fromkeys(range(6), 3)


def test_schema_changes_race_with_publications(lake: Lake) -> None:
    def work(index: int) -> None:
        if index < 3:
            lake.ensure_schema("statistics", pa.schema([(f"q{index}", pa.float64())]))
        else:
            lake.upsert("files", paths(f"f{index}"), ["path"], run_id="r")

    together(6, work)
    assert set(lake.snapshot("statistics").schema.names) == {*COUNTS.names, "q0", "q1", "q2"}
    assert lake.read("files").num_rows == 3


def test_upserts_of_different_keys_lose_nothing(lake: Lake) -> None:
    def work(index: int) -> None:
        for turn in range(4):
            lake.upsert(
                "files", paths("shared", f"{index}-{turn}", count=index), ["path"], run_id="r"
            )

    together(4, work)
    found = lake.read("files")["path"].to_pylist()
    assert found == sorted(["shared", *(f"{i}-{turn}" for i in range(4) for turn in range(4))])


def race(lake: Lake, index: int, start: Any) -> None:
    """Publish a day and a key of one's own five times, from when everybody is ready."""
    rows = pa.table({"store": [str(i) for i in range(10 + index)], "n": [index] * (10 + index)})
    start.wait()
    for turn in range(5):
        lake.replace("statistics", rows, run_id="r", partition={"day": "2026-01-01"})
        lake.upsert("files", paths(f"{index}-{turn}", count=turn), ["path"], run_id="r")


def test_processes_race(lake: Lake) -> None:
    start = SERVER.Barrier(3)
    with ExitStack() as until_all_have_ended:
        racers = [
            until_all_have_ended.enter_context(forked(race, lake, index, start))
            for index in range(3)
        ]
        for racer in racers:
            assert racer.wait() == 0, racer.said()
    assert lake.version("statistics") == lake.version("files") == 15
    counts = Counter(values(lake))
    assert [counts[index] for index in counts] == [10 + index for index in counts]
    assert len(counts) == 1
    assert lake.read("files").num_rows == 15


# Replies lost, stores failing, writers paused


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
        lake.publish("statistics", [receipt], app_id="x", replaces=[FIRST])
    assert values(lake) == [2, 2]


def test_endless_losers_give_up(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: Any) -> None:
        raise CommitFailedError("0")

    interfere(monkeypatch, lose)
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(LakeError, match="lost to other writers"):
        put(lake, 2, 2)
    assert lake.version("statistics") == 0
