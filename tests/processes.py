"""Functions at work in processes of their own.

Each process is forked off a server that has imported everything: to start Python and to import
takes several times as long as what most tests do there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest  # noqa: F401  (for the server: modules of tests are imported by what it forks)

import hbpipe.commands.nights
import hbpipe.commands.rebuild
import hbpipe.commands.releases
import hbpipe.commands.upkeep  # noqa: F401  (the verbs import these late)

TIMEOUT_S = 120

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload([__name__])


class Forked:
    """A function at work in another process."""

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
        """What it has printed, errors too."""
        return self._log.read_text()

    def reaches(self, mark: Path) -> None:
        """Return when the process has left a mark; fail when it ends before."""
        while not mark.exists():
            assert not self.ended, self.said()
            time.sleep(0.02)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def wait(self, timeout_s: float = TIMEOUT_S) -> int:
        """Return the exit code, that of a killed process below zero."""
        self._process.join(timeout_s)
        assert self._process.exitcode is not None, f"it does not end\n{self.said()}"
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


@contextmanager
def forked(work: Callable[..., Any], *arguments: Any) -> Iterator[Forked]:
    """Call a function, which has a name in its module, in a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".log") as log:
        process = SERVER.Process(target=_call, args=(log.name, work, *arguments))
        process.start()
        found = Forked(process, Path(log.name))
        try:
            yield found
        finally:
            found.kill()


def die() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop(reached: Path) -> None:
    """Leave a mark and stop this process, all its threads, until ``Forked.go_on``."""
    reached.touch()
    os.kill(os.getpid(), signal.SIGSTOP)


def wait(reached: Path) -> None:
    """Leave a mark, and wait until somebody takes it away; other threads go on."""
    reached.touch()
    while reached.exists():
        time.sleep(0.02)


def _call(log: str, work: Callable[..., Any], *arguments: Any) -> None:
    said = os.open(log, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(said, stream.fileno())
    work(*arguments)
