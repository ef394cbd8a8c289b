"""Processes on this machine that end with the test, and what to wait for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parent.parent.parent
#: What children see beside what they are given: what the image sets, nothing of the user's own.
PLAIN = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    "PYTHONPATH": str(ROOT),
    "LANG": "C.UTF-8",
}
#: Generous: a first start migrates a database, on a machine that does other things too.
TIMEOUT_S = 240.0

Value = TypeVar("Value")


class Running:
    """A process, and the file that has what it said."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name, self._process, self._log = name, process, log

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def said(self) -> str:
        return self._log.read_text(errors="replace")

    def finish(self) -> None:
        """Wait until the process has done what it does; fail with its log when it could not."""
        code = self._process.wait(TIMEOUT_S)
        assert code == 0, f"{self.name} ended with code {code}\n{self.said()[-4000:]}"

    def stop(self) -> None:
        """End the process and all that it started; leash.py sees to it in bounded time."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def running(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    *,
    user: str = "-",
) -> Iterator[Running]:
    """Run a command from the project's folder, or as another user from theirs."""
    leash = [sys.executable, str(Path(__file__).parent / "leash.py"), user]
    log = folder / f"{name}.log"
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*leash, *command],
            cwd=ROOT if user == "-" else "/",
            env={**PLAIN, "HOME": str(folder), **environment},
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    started = Running(name, process, log)
    try:
        yield started
    finally:
        started.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(
    what: str, look: Callable[[], Value | None], *watched: Running, timeout_s: float = TIMEOUT_S
) -> Value:
    """Look until there is something; fail with the logs when a process ends or time is up."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not any(process.ended for process in watched):
        found = look()
        if found is not None:
            return found
        time.sleep(0.3)
    logs = "\n".join(f"--- {one.name}\n{one.said()[-4000:]}" for one in watched)
    raise AssertionError(f"no {what}\n{logs}")


def healthy(url: str) -> Any:
    """Ask as the containers' health checks ask; True or None."""
    asked = subprocess.run(
        [sys.executable, str(ROOT / "infra" / "healthy.py"), url], capture_output=True
    )
    return True if asked.returncode == 0 else None
