"""The logs of ``runs`` and ``lease`` stay short without upkeep, and their fences hold."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hbpipe.data import checkpoints
from hbpipe.data.lake import Lake
from hbpipe.data.log import list_log
from hbpipe.errors import LakeError, LeaseError
from hbpipe.run import machinery
from hbpipe.run.attempt import Attempt, open_run
from hbpipe.run.runs import read_runs
from hbpipe.run.timed_lease import TimedLease
from tests.nights import settings_for

OLD_S = 7200  # older than any reader


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """An empty lake whose logs are cut at ten versions."""
    monkeypatch.setattr(checkpoints, "EVERY", 5)
    monkeypatch.setattr(machinery, "MOST", 10)
    return Lake(str(tmp_path / "lake"))


def attempt(lake: Lake, run_id: str) -> Attempt:
    return Attempt(lake, run_id=run_id, kind="night", environment="prod")


def run(lake: Lake, run_id: str) -> None:
    one = attempt(lake, run_id)
    one.record()
    one.end("done")


def age(lake: Lake) -> None:
    """Let everything be older than the grace."""
    then = time.time() - OLD_S
    for path in Path(lake.uri).rglob("*"):
        os.utime(path, (then, then))


def length(lake: Lake, table: str) -> int:
    log = list_log(lake.storage, table)
    return log.newest - log.oldest


def test_a_log_of_many_runs_is_cut_by_the_next(lake: Lake, tmp_path: Path) -> None:
    for number in range(8):
        run(lake, f"run-{number}")
    age(lake)
    files = len(list(Path(lake.path("runs")).rglob("part-*")))
    runs = read_runs(lake)
    assert length(lake, "runs") == 16
    with open_run(lake, settings_for(tmp_path), run_id="next", kind="night") as one:
        assert one.entry.attempt == 9
        assert length(lake, "runs") < 5
        one.record()
    assert read_runs(lake)[:8] == runs
    assert len(list(Path(lake.path("runs")).rglob("part-*"))) < files


def test_what_a_reader_may_still_hold_is_left(lake: Lake) -> None:
    for number in range(8):
        run(lake, f"run-{number}")
    before = length(lake, "runs")
    machinery.cut_logs(lake)
    assert length(lake, "runs") == before
    assert lake.read("runs", version=1).num_rows == 1


def test_a_zombie_of_before_the_cut_is_still_refused(lake: Lake) -> None:
    zombie = attempt(lake, "zombie")
    zombie.record()
    for number in range(8):
        run(lake, f"run-{number}")
    age(lake)
    machinery.cut_logs(lake)
    assert length(lake, "runs") < 5
    versions = lake.version("runs")
    with pytest.raises(LeaseError, match="attempt 9 has taken the place of this run"):
        zombie.end("done")
    assert lake.version("runs") == versions
    assert read_runs(lake)[0].state == "abandoned"


def test_a_lease_is_held_and_renewed_while_its_log_is_cut(lake: Lake) -> None:
    for number in range(8):
        TimedLease(lake, 1e6).acquire(run_id=f"run-{number}").release()
    age(lake)
    with TimedLease(lake, 3.0).acquire(run_id="holder"):
        machinery.cut_logs(lake)
        assert length(lake, "lease") < 10
        with pytest.raises(LeaseError) as caught:
            TimedLease(lake, 3.0).acquire(run_id="another")
    assert caught.value.where["run_id"] == "holder"
    TimedLease(lake, 1e6).acquire(run_id="next").release()


def test_a_log_that_cannot_be_cut_holds_no_run_up(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(8):
        run(lake, f"run-{number}")
    age(lake)

    def full(*_: object) -> None:
        raise LakeError("no space left")

    monkeypatch.setattr(machinery, "vacuum_table", full)
    with open_run(lake, settings_for(tmp_path), run_id="next", kind="night") as one:
        one.record()
    assert "were not cut: no space left" in caplog.text
    assert read_runs(lake)[-1].state == "done"
