"""The lease where no lock ends with its process: a record in the lake, renewed while the run lives.

A holder that has died, or was cut off from the lake, renews no more. That is judged by watching the
record for as long as it is said to last, never by comparing the clocks of two machines. The record
is the table ``lease``, each renewal a commit of it; no release names it, so its log may be trimmed.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

from hbpipe.config import LakeSettings
from hbpipe.data.lake import Lake
from hbpipe.data.record import create_record, read_record, swap_record
from hbpipe.errors import LakeError
from hbpipe.run.lease import AnyLease, Lease, holder_of, lease_is_held

_TABLE = "lease"
#: Renewals and looks within the time that a lease lasts.
_RENEWALS, _LOOKS = 3, 12


def lease_of(lake: Lake, settings: LakeSettings) -> AnyLease:
    """Return the kind of lease that the settings ask for."""
    return TimedLease(lake, settings.lease_s) if settings.timed else Lease(lake)


class TimedLease(AnyLease):
    """A lease for a while, renewed by a thread until released.

    Like ``Lease`` it saves work and guards nothing: a holder that was paused for too long loses
    its place, and the fence of its commits (``attempt``) keeps it from doing harm.

    Parameters
    ----------
    lake
        The lake.
    seconds
        How long the lease lasts without renewal; others wait so long before they take the place
        of a holder.
    """

    def __init__(self, lake: Lake, seconds: float) -> None:
        self._storage, self._uri, self._seconds = lake.storage, lake.uri, seconds
        self._record: dict[str, Any] = {}
        self._version: int | None = None
        self._ended = threading.Event()
        self._renewing: threading.Thread | None = None

    def acquire(self, *, run_id: str) -> TimedLease:
        """Take the lease, after watching one that may still be held; or say who has it.

        Raises
        ------
        LeaseError
            Another run holds it: it has renewed it meanwhile, or was quicker.
        LakeError
            The store failed.
        """
        create_record(self._storage, _TABLE)
        self._record = {**holder_of(run_id), "seconds": self._seconds}
        version = self._watch()
        if not swap_record(self._storage, _TABLE, version, self._record):
            raise lease_is_held(self._uri, _shown(read_record(self._storage, _TABLE)[1]))
        self._version = version + 1
        self._ended.clear()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._renewing.start()
        return self

    def release(self) -> None:
        """Give the lease back; without effect when it is not held, or another has taken it."""
        if self._renewing is not None:
            self._ended.set()
            self._renewing.join()
            self._renewing = None
        if self._version is not None:
            # A run that has published is not undone by a store that fails now: the lease lapses.
            with suppress(LakeError):
                swap_record(self._storage, _TABLE, self._version, {})
            self._version = None

    def _watch(self) -> int:
        """Return the version of a lease that is free, or that nobody has renewed."""
        version, holder = read_record(self._storage, _TABLE)
        if not holder:
            return version
        lapses = time.monotonic() + holder["seconds"]
        while time.monotonic() < lapses:
            time.sleep(holder["seconds"] / _LOOKS)
            seen, holder_now = read_record(self._storage, _TABLE)
            if not holder_now:
                return seen
            if seen != version:
                raise lease_is_held(self._uri, _shown(holder_now))
        return version

    def _renew(self) -> None:
        """Renew until the lease is given back, or lost."""
        while self._version is not None and not self._ended.wait(self._seconds / _RENEWALS):
            # A store that does not answer is asked again; if that lasts, the lease lapses.
            with suppress(LakeError):
                kept = swap_record(self._storage, _TABLE, self._version, self._record)
                self._version = self._version + 1 if kept else None


def _shown(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "seconds"}
