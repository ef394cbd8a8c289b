"""The lease: one run at a time, and a dead holder never blocks."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError, LeaseError
from hbpipe.run.lease import Lease
from tests.processes import forked, wait


def hold(lake: Lake, held: Path) -> None:
    """Hold the lease and say so, until this process is killed."""
    Lease(lake).acquire(run_id="other")
    wait(held)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def test_second_run_is_told_who_holds_the_lease(lake: Lake) -> None:
    with Lease(lake).acquire(run_id="first"), pytest.raises(LeaseError) as caught:
        Lease(lake).acquire(run_id="second")
    error = caught.value
    assert error.exit_code == 4
    assert error.where["run_id"] == "first"
    assert error.where["pid"] == os.getpid()
    assert {"host", "started", "lake"} <= set(error.where)
    assert "stop its process" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_released_lease_can_be_taken_again(lake: Lake) -> None:
    with Lease(lake).acquire(run_id="first"):
        pass
    with Lease(lake).acquire(run_id="second") as lease:
        lease.release()
        lease.release()
    Lease(lake).acquire(run_id="third").release()


def test_lease_ends_with_an_error(lake: Lake) -> None:
    with pytest.raises(ZeroDivisionError), Lease(lake).acquire(run_id="first"):
        raise ZeroDivisionError
    Lease(lake).acquire(run_id="second").release()


def test_leases_of_two_lakes_are_independent(tmp_path: Path) -> None:
    with (
        Lease(Lake(str(tmp_path / "a"))).acquire(run_id="a"),
        Lease(Lake(str(tmp_path / "b"))).acquire(run_id="b"),
    ):
        pass


def test_killed_holder_does_not_block(lake: Lake, tmp_path: Path) -> None:
    with forked(hold, lake, tmp_path / "held") as other:
        other.reaches(tmp_path / "held")
        with pytest.raises(LeaseError) as caught:
            Lease(lake).acquire(run_id="mine")
        assert caught.value.where["pid"] == other.pid
        other.kill()
    Lease(lake).acquire(run_id="mine").release()


def test_holder_that_has_not_yet_written_its_name(lake: Lake) -> None:
    with Lease(lake).acquire(run_id="first"):
        Path(lake.private_path("lease")).write_text("")
        with pytest.raises(LeaseError, match="another run holds the lease"):
            Lease(lake).acquire(run_id="second")


def test_a_lease_that_cannot_be_taken_says_where_and_what_to_do(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = Path(lake.uri).parent / "file"
    file.touch()
    with pytest.raises(LakeError, match="no file is in the way"):
        Lease(Lake(str(file))).acquire(run_id="mine")
    Path(lake.private_path("lease")).mkdir(parents=True)
    with pytest.raises(LakeError, match=r"cannot take the lease: .* what to do: correct lake.path"):
        Lease(lake).acquire(run_id="mine")
    Path(lake.private_path("lease")).rmdir()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(LakeError, match="No space left on device"):
            Lease(lake).acquire(run_id="mine")
    Lease(lake).acquire(run_id="mine").release()
