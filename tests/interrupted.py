"""The command line in processes of its own, interrupted where a test says.

Each process is forked off a server that has imported everything: to start Python and to import
takes several times as long as a tiny night.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import hbpipe.commands.nights
import hbpipe.commands.rebuild
import hbpipe.commands.releases
import hbpipe.commands.upkeep  # noqa: F401  (the verbs import these late)
from hbpipe.cli import main

COMMIT = "hbpipe.data.publish:compare_and_swap"
TIMEOUT_S = 120

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload([__name__])


@dataclass(frozen=True)
class Moment:
    """The ``number``-th call, from 1, of any of these functions: just before it, or just after."""

    number: int
    places: tuple[str, ...] = (COMMIT,)
    after: bool = False


def die() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop(reached: Path) -> None:
    """Leave a mark and stop this process, all its threads, until ``Command.go_on``."""
    reached.touch()
    os.kill(os.getpid(), signal.SIGSTOP)


def wait(reached: Path) -> None:
    """Leave a mark, and wait until somebody takes it away; other threads go on."""
    reached.touch()
    while reached.exists():
        time.sleep(0.02)


class Command:
    """``hbpipe`` with some arguments, at work in another process."""

    def __init__(self, process: BaseProcess, log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.exitcode is not None

    def said(self) -> str:
        return self._log.read_text()

    def reaches(self, mark: Path) -> None:
        """Return when the process has left a mark; fail when it ends before."""
        while not mark.exists():
            assert not self.ended, self.said()
            time.sleep(0.02)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int:
        """Return the exit code, that of a killed process below zero."""
        self._process.join(TIMEOUT_S)
        assert self._process.exitcode is not None, f"it does not end\n{self.said()}"
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


@contextmanager
def command(
    *arguments: str, at: Moment | None = None, do: Callable[[], None] = die
) -> Iterator[Command]:
    """Run ``hbpipe`` in a process of its own; at a moment it does something else first."""
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = _SERVER.Process(target=_run, args=(log.name, arguments, at, do))
        process.start()
        found = Command(process, Path(log.name))
        try:
            yield found
        finally:
            found.kill()


def killed(at: Moment, *arguments: str) -> None:
    """Run ``hbpipe`` until it is killed at a moment, which must come."""
    with command(*arguments, at=at) as found:
        assert found.wait() == -signal.SIGKILL, found.said()


def _run(log: str, arguments: tuple[str, ...], at: Moment | None, do: Callable[[], None]) -> None:
    said = os.open(log, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(said, stream.fileno())
    os.fsync = lambda _: None  # as in conftest.py
    if at is not None:
        _arm(at, do)
    sys.exit(main(list(arguments)))


def _arm(at: Moment, do: Callable[[], None]) -> None:
    left = at.number

    def armed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            now = left == 0
            if now and not at.after:
                do()
            result = function(*arguments, **options)
            if now and at.after:
                do()
            return result

        return call

    for place in at.places:
        module, _, name = place.partition(":")
        owner = importlib.import_module(module)
        setattr(owner, name, armed(getattr(owner, name)))
