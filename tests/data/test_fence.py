"""Fences: a later run's commits shut out those of every run before it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from hbpipe.data.commit import FENCE, raise_fence
from hbpipe.data.lake import Lake
from hbpipe.data.record import create_record, read_record, swap_record
from hbpipe.errors import LeaseError
from tests.data.lake_samples import counts_lake, interfere, paths, put, values


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return counts_lake(tmp_path)


def fenced(lake: Lake, attempt: int) -> Lake:
    return replace(lake, fence=attempt)


def fence_of(lake: Lake, name: str) -> int | None:
    return DeltaTable(lake.path(name)).transaction_version(FENCE)


def test_every_commit_of_a_run_carries_its_number(lake: Lake) -> None:
    put(lake, 1, 1)
    assert fence_of(lake, "statistics") is None
    put(fenced(lake, 7), 1, 1)
    fenced(lake, 7).upsert("files", paths("a"), ["path"], run_id="r")
    assert [fence_of(lake, name) for name in ("statistics", "files")] == [7, 7]
    fenced(lake, 8).ensure_schema("files", pa.schema([("more", pa.int64())]))
    assert fence_of(lake, "files") == 8
    own = DeltaTable(lake.path("statistics")).transaction_version("statistics/2026-01-01")
    assert own == 1, "the interval's own number is there too"


def test_an_earlier_run_is_refused_and_told_by_whom(lake: Lake) -> None:
    put(fenced(lake, 3), 2, 3)
    for write in (
        lambda: put(fenced(lake, 2), 5, 2),
        lambda: fenced(lake, 2).ensure_schema("statistics", pa.schema([("q", pa.float64())])),
    ):
        with pytest.raises(LeaseError, match="attempt 3 has taken the place") as caught:
            write()
        assert caught.value.exit_code == 4
        assert caught.value.where["table"] == "statistics"
    assert values(lake) == [3, 3]
    assert lake.version("statistics") == 1


def test_the_same_run_and_later_ones_go_on(lake: Lake) -> None:
    for attempt in (3, 3, 9):
        put(fenced(lake, attempt), 2, attempt)
    assert values(lake) == [9, 9]
    put(lake, 1, 0)
    assert fence_of(lake, "statistics") == 9, "a commit of no run leaves the fence where it is"


def test_a_run_that_is_overtaken_between_its_look_and_its_commit_is_refused(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtake(commit: Callable[[], None], number: int) -> None:
        if number == 0:
            put(fenced(lake, 6), 4, 6)
        commit()

    interfere(monkeypatch, overtake)
    with pytest.raises(LeaseError, match="attempt 6"):
        put(fenced(lake, 5), 2, 5)
    assert values(lake) == [6, 6, 6, 6]


def test_a_fence_is_raised_without_a_change_of_rows(lake: Lake) -> None:
    put(fenced(lake, 1), 3, 1)
    raise_fence(fenced(lake, 2).storage, "statistics")
    assert values(lake) == [1, 1, 1]
    assert lake.version("statistics") == 2
    with pytest.raises(LeaseError):
        put(fenced(lake, 1), 3, 1)
    raise_fence(fenced(lake, 2).storage, "statistics")
    assert lake.version("statistics") == 2, "once is enough"
    with pytest.raises(LeaseError):
        raise_fence(fenced(lake, 1).storage, "statistics")


def test_a_fence_outlives_a_checkpoint_of_the_log(lake: Lake) -> None:
    put(fenced(lake, 4), 1, 1)
    DeltaTable(lake.path("statistics")).create_checkpoint()
    with pytest.raises(LeaseError, match="attempt 4"):
        put(fenced(lake, 3), 1, 1)


def test_a_record_is_replaced_only_by_who_has_seen_it(lake: Lake) -> None:
    create_record(lake.storage, "lease")
    assert read_record(lake.storage, "lease") == (0, {})
    assert swap_record(lake.storage, "lease", 0, {"run_id": "a"})
    assert not swap_record(lake.storage, "lease", 0, {"run_id": "b"})
    create_record(lake.storage, "lease")
    assert read_record(lake.storage, "lease") == (1, {"run_id": "a"})


def test_a_record_that_is_replaced_while_it_is_written_is_lost(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_record(lake.storage, "lease")

    def overtake(commit: Callable[[], None], number: int) -> None:
        if number == 0:
            assert swap_record(lake.storage, "lease", 0, {"run_id": "quicker"})
        commit()

    interfere(monkeypatch, overtake)
    assert not swap_record(lake.storage, "lease", 0, {"run_id": "slower"})
    assert read_record(lake.storage, "lease") == (1, {"run_id": "quicker"})
