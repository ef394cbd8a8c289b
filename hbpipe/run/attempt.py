"""One attempt at the lake: its number, its row in ``runs``, and the fence that its number is.

An attempt is numbered when it first looks at the lake, one above all before it, and entered into
``runs`` by a compare-and-swap when it first writes: it begins only if nobody has begun since it
looked. Its number is the fence of all its commits (``data.commit``). Where a run was left running,
its place is taken at once, before anything is planned, and the fence of every table is raised: all
that the other has committed is then seen by the plan, and nothing of it can land later. (A table
that the first night has yet to make is fenced by the first commit to it. Until then the other may
commit there what it computed itself, which is whole days with the ledger's word for them.)

A run that finds nothing to do is one row; a second one that would say the same is none. A lake
that is polled every few minutes does not grow, and still shows when it was last found up to date.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from hbpipe.config import Settings
from hbpipe.data.commit import raise_fence
from hbpipe.data.lake import Lake
from hbpipe.errors import ConfigError, GateError, HbpipeError, LeaseError
from hbpipe.run.machinery import cut_logs
from hbpipe.run.releases import RELEASED
from hbpipe.run.runs import RUNS, RunEntry, entries_of, read_runs, to_table
from hbpipe.run.timed_lease import lease_of

#: What two attempts that did nothing have in common when they say the same.
_SAME = ("kind", "environment", "as_of", "state", "error")


class Attempt:
    """One run, from its first look at the lake to its last word.

    Attributes
    ----------
    entry
        What ``runs`` says, or would say, of it.
    lake
        The lake, fenced by the attempt's number.
    begun
        Whether it has a row in ``runs``.
    """

    def __init__(self, lake: Lake, *, run_id: str, kind: str, environment: str) -> None:
        before = read_runs(lake)
        if any(entry.run_id == run_id for entry in before):
            raise ConfigError(
                f"there has been a run {run_id!r}",
                where={"lake": lake.uri},
                expected="a name that no other run has; --retry runs the plan of another again",
            )
        self._left_running = any(entry.state == "running" for entry in before)
        self._last = before[-1] if before else None
        self._seen = self._last.attempt if self._last else 0
        self.entry = RunEntry(run_id, self._seen + 1, kind, environment)
        self.lake = replace(lake, fence=self.entry.attempt)
        self.begun = False

    def take_over(self) -> None:
        """Take the place of a run that was left running, if there is one; before planning.

        Raises
        ------
        LeaseError
            As ``record``.
        """
        if self._left_running:
            self.record()
            for name in (*RELEASED, "releases"):
                if self.lake.version(name) is not None:
                    raise_fence(self.lake.storage, name)

    def know(self, **known: Any) -> None:
        """Note what is to be written of the run, without writing it yet."""
        self.entry = replace(self.entry, **known)

    def record(self, **known: Any) -> None:
        """Write what is known of the run, which begins with the first call.

        Raises
        ------
        LeaseError
            Another run has begun since this one looked.
        """
        self.know(**known)
        if self.begun:
            rows: Any = to_table([self.entry])
        else:
            self.lake.create("runs", RUNS.schema)
            rows = self._entered
        self.lake.upsert("runs", rows, RUNS.key, run_id=self.entry.run_id)
        self.begun = True

    def end(self, state: str, error: str | None = None) -> None:
        """Write how the run ended; without effect when the row before it says the same."""
        last = replace(self.entry, state=state, error=error, finished_at=datetime.now(UTC))
        if self.begun or not _says_the_same(self._last, last):
            self.record(state=state, error=error, finished_at=last.finished_at)

    def _entered(self, present: pa.Table) -> pa.Table:
        """Return this run's row, and those of the runs that it finds left running."""
        entries = entries_of(present)
        newest = entries[-1].attempt if entries else 0
        if newest != self._seen:
            raise LeaseError(
                f"run {entries[-1].run_id} has begun since this one looked at the lake",
                where={"lake": self.lake.uri, "attempt": newest, "pid": entries[-1].pid},
                expected="one run on a lake at a time",
                remedy="wait for that run; `hbpipe status` shows it",
            )
        ended: dict[str, Any] = {
            "state": "abandoned",
            "finished_at": datetime.now(UTC),
            "error": f"it ended without a word, or was paused; {self.entry.run_id} took its place",
        }
        left = [replace(entry, **ended) for entry in entries if entry.state == "running"]
        return to_table([*left, self.entry])


@contextmanager
def open_run(lake: Lake, settings: Settings, *, run_id: str, kind: str) -> Iterator[Attempt]:
    """Take the lease and give an attempt: what every verb that writes does first.

    All commits go through the ``lake`` of the attempt, which carries its fence.

    Parameters
    ----------
    lake, settings
        The lake; the kind of its lease, and the environment.
    run_id, kind
        As in ``runs``.

    Raises
    ------
    LeaseError
        Another run holds the lease, or takes this one's place.
    """
    with lease_of(lake, settings.lake).acquire(run_id=run_id):
        cut_logs(lake)
        environment = settings.environment
        with attempted(lake, run_id=run_id, kind=kind, environment=environment) as attempt:
            yield attempt


@contextmanager
def attempted(lake: Lake, *, run_id: str, kind: str, environment: str) -> Iterator[Attempt]:
    """Give an attempt, and see to it that ``runs`` tells how it ended; the lease is held already.

    Raises
    ------
    LeaseError
        Another run has begun meanwhile.
    """
    attempt = Attempt(lake, run_id=run_id, kind=kind, environment=environment)
    try:
        attempt.take_over()
        yield attempt
        if attempt.entry.state == "running":
            attempt.end("done" if attempt.begun else "nothing")
    except BaseException as error:
        # Settings that are wrong may name another pipeline's lake.
        if attempt.begun or not isinstance(error, ConfigError):
            # Where not even this can be written, the first error is the one to be shown: another
            # has taken this run's place and said so in its row, or will find it left running.
            with suppress(HbpipeError, OSError):
                attempt.end("held" if isinstance(error, GateError) else "failed", _told(error))
        raise


def _told(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
        return "interrupted"
    return str(error) if isinstance(error, HbpipeError) else f"{type(error).__name__}: {error}"


def _says_the_same(last: RunEntry | None, now: RunEntry) -> bool:
    return last is not None and all(getattr(last, name) == getattr(now, name) for name in _SAME)
