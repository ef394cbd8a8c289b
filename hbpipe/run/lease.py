"""One run at a time on a lake, so that two do not compute the same night."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import socket
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

from hbpipe.data.durable import make_folder
from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError, LeaseError


class AnyLease(AbstractContextManager["AnyLease"]):
    """The right to run on a lake; leaving its context gives it back."""

    @abstractmethod
    def acquire(self, *, run_id: str) -> AnyLease:
        """Take the lease, or say who has it; ``run_id`` is shown to whoever else tries.

        Raises
        ------
        LeaseError
            Another run holds it; names its process, host, run and start.
        LakeError
            The disk or store failed.
        """

    @abstractmethod
    def release(self) -> None:
        """Give the lease back; without effect when it is not held."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class Lease(AnyLease):
    """The lease of a lake on a local disk, held until released or its process ends.

    It is an ``flock`` of ``_hbpipe/lease``, which the kernel drops with the process: a dead holder
    never blocks the next run. The file's content only names the holder. Elsewhere a
    ``timed_lease.TimedLease`` does the same.

    The lease saves work; it guards nothing. Every commit is a compare-and-swap that carries the
    number of its run, so runs that overlap are still right (``attempt``).

    Examples
    --------
    >>> with Lease(lake).acquire(run_id="2026-01-28T02-00"):  # doctest: +SKIP
    ...     run()
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._descriptor: int | None = None

    def acquire(self, *, run_id: str) -> Lease:
        """Take the lease, or say at once who has it."""
        path = Path(self._lake.private_path("lease"))
        make_folder(path.parent)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise _unusable(self._lake.uri, path, error) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _name_holder(descriptor, run_id)
        except BlockingIOError as error:
            os.close(descriptor)
            raise _held(self._lake.uri, path) from error
        except OSError as error:
            os.close(descriptor)
            raise _unusable(self._lake.uri, path, error) from error
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def release(self) -> None:
        """Give the lease back; without effect when it is not held."""
        if self._descriptor is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        # The file stays: unlinking would let two runs lock two files of one name.
        try:
            os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)


def _name_holder(descriptor: int, run_id: str) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder_of(run_id)).encode(), 0)


def holder_of(run_id: str) -> dict[str, Any]:
    """Describe this process as the holder of a lease."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "run_id": run_id,
        "started": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }


def _unusable(uri: str, path: Path, error: OSError) -> LakeError:
    return LakeError(
        f"cannot take the lease: {error.strerror or error}",
        where={"lake": uri, "file": path},
        expected="a file that this user may write and lock",
        remedy="correct lake.path, or the rights and the free space of the disk",
    )


def _held(uri: str, path: Path) -> LeaseError:
    # The holder may be between taking the lock and writing its name.
    try:
        holder: dict[str, Any] = json.loads(path.read_text())
    except ValueError:
        holder = {}
    return lease_is_held(uri, holder)


def lease_is_held(uri: str, holder: Mapping[str, Any]) -> LeaseError:
    """Return the error that says who holds the lease."""
    return LeaseError(
        "another run holds the lease",
        where={"lake": uri, **holder},
        expected="one run on a lake at a time",
        remedy="wait for that run, or stop its process; the lease ends with it",
    )
