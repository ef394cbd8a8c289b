"""The lease that lapses: renewed while its run lives, taken over when it is not."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hbpipe.config import LakeSettings
from hbpipe.data.lake import Lake
from hbpipe.data.record import read_record
from hbpipe.errors import LakeError, LeaseError
from hbpipe.run import timed_lease
from hbpipe.run.lease import Lease
from hbpipe.run.timed_lease import TimedLease, lease_of
from tests.processes import forked, wait

#: Long enough for a busy machine to renew in time.
LASTS = 3.0


def hold(lake: Lake, seconds: float, held: Path) -> None:
    """Hold the lease and say so, until this process is killed."""
    TimedLease(lake, seconds).acquire(run_id="other")
    wait(held)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def holder(lake: Lake) -> dict[str, Any]:
    return read_record(lake.storage, "lease")[1]


def test_a_renewed_lease_is_held_and_says_by_whom(lake: Lake) -> None:
    with TimedLease(lake, LASTS).acquire(run_id="first"):
        with pytest.raises(LeaseError, match="another run holds the lease") as caught:
            TimedLease(lake, LASTS).acquire(run_id="second")
        assert holder(lake)["run_id"] == "first"
    assert caught.value.where["run_id"] == "first"
    assert caught.value.where["pid"] == os.getpid()
    assert caught.value.exit_code == 4


def test_a_released_lease_is_free_at_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with TimedLease(lake, 1e6).acquire(run_id="first"):
        pass
    assert holder(lake) == {}
    monkeypatch.setattr(timed_lease.time, "sleep", pytest.fail)
    lease = TimedLease(lake, 1e6).acquire(run_id="second")
    assert holder(lake)["run_id"] == "second"
    lease.release()
    lease.release()
    assert holder(lake) == {}


def test_a_lease_that_is_given_back_while_it_is_watched_is_taken(lake: Lake) -> None:
    first = TimedLease(lake, 1e6).acquire(run_id="first")
    second = TimedLease(lake, 1e6)
    looked = threading.Event()

    def give_back(_: float) -> None:
        looked.set()
        first.release()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timed_lease.time, "sleep", give_back)
        second.acquire(run_id="second")
    assert looked.is_set()
    assert holder(lake)["run_id"] == "second"
    second.release()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_a_holder_that_is_dead_or_paused_is_replaced(
    lake: Lake, end: signal.Signals, tmp_path: Path
) -> None:
    with forked(hold, lake, 0.5, tmp_path / "held") as other:
        other.reaches(tmp_path / "held")
        os.kill(other.pid, end)
        with TimedLease(lake, LASTS).acquire(run_id="mine"):
            assert holder(lake)["run_id"] == "mine"
            other.kill()


def test_a_holder_that_wakes_leaves_the_lease_to_its_heir(lake: Lake) -> None:
    """It neither renews nor gives back what is no longer its own."""
    sleeper = TimedLease(lake, 1e6)
    sleeper.acquire(run_id="sleeper")
    version, record = read_record(lake.storage, "lease")
    assert timed_lease.swap_record(lake.storage, "lease", version, {**record, "run_id": "heir"})
    sleeper.release()
    assert holder(lake)["run_id"] == "heir"


def test_renewal_ends_when_another_holds_the_lease(lake: Lake) -> None:
    lease = TimedLease(lake, 0.3).acquire(run_id="a")
    while not timed_lease.swap_record(
        lake.storage, "lease", read_record(lake.storage, "lease")[0], {"run_id": "b"}
    ):
        pass  # it was renewed in between
    thread = lease._renewing
    assert thread is not None
    thread.join(timeout=30)
    assert not thread.is_alive()
    lease.release()
    assert holder(lake) == {"run_id": "b"}


def test_a_store_that_does_not_answer_is_asked_again(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap, failures = timed_lease.swap_record, [1, 1]
    renewed = threading.Event()

    def flaky(*arguments: Any) -> bool:
        if failures:
            failures.pop()
            raise LakeError("503 Slow Down")
        renewed.set()
        return swap(*arguments)

    lease = TimedLease(lake, 0.3).acquire(run_id="a")
    monkeypatch.setattr(timed_lease, "swap_record", flaky)
    assert renewed.wait(timeout=30)
    failures.append(1)
    lease.release()
    assert holder(lake)["run_id"] == "a", "a release that fails is left to lapse"


def test_of_two_that_watched_a_dead_holder_one_is_told(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = timed_lease.swap_record

    def slower(*arguments: Any) -> bool:
        monkeypatch.setattr(timed_lease, "swap_record", swap)
        TimedLease(lake, 1e6).acquire(run_id="quicker")
        return swap(*arguments)

    monkeypatch.setattr(timed_lease, "swap_record", slower)
    with pytest.raises(LeaseError) as caught:
        TimedLease(lake, 1e6).acquire(run_id="slower")
    assert caught.value.where["run_id"] == "quicker"


@pytest.mark.parametrize(
    ("path", "lease", "timed"),
    [
        ("lake", "auto", False),
        ("lake", "flock", False),
        ("lake", "timed", True),
        ("s3://bucket/lake", "auto", True),
    ],
)
def test_the_settings_choose_the_lease(path: str, lease: str, timed: bool) -> None:
    settings = LakeSettings.model_validate({"path": path, "lease": lease})
    found = lease_of(Lake(path), settings)
    assert isinstance(found, TimedLease if timed else Lease)


def test_a_store_has_no_flock() -> None:
    with pytest.raises(ValidationError, match="flock is for local disks"):
        LakeSettings.model_validate({"path": "s3://bucket/lake", "lease": "flock"})
