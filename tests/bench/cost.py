"""What a command costs: wall and CPU seconds, and memory, of all its processes together."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psutil

#: Between two looks at the memory of the processes.
_PERIOD_S = 0.02


@dataclass(frozen=True)
class Cost:
    """Seconds of wall and of CPU, the peak of memory in MiB, and the last line it printed.

    CPU is user and system time, children included. The peak is of the resident memory of all
    processes at one moment, so pages that they share count more than once.
    """

    wall: float
    cpu: float
    peak: float
    answer: str


def cost_of(command: Sequence[str]) -> Cost:
    """Run a command to its end.

    Raises
    ------
    RuntimeError
        When it fails; with what it said on standard error.
    """
    with tempfile.TemporaryFile("w+") as printed, tempfile.TemporaryFile("w+") as said:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=printed, stderr=said)
        peak, usage, status = _watch(process.pid)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        said.seek(0)
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {process.returncode}\n{said.read()}")
        lines = printed.read().split("\n")
    answer = next((line for line in reversed(lines) if line.strip()), "")
    return Cost(wall, usage.ru_utime + usage.ru_stime, peak, answer)


def inner_cost_of(command: Sequence[str]) -> Cost:
    """Run a command that prints, as JSON, its own wall and CPU: what it prepared is not counted."""
    whole = cost_of(command)
    return replace(whole, **json.loads(whole.answer))


def _watch(pid: int) -> tuple[float, resource.struct_rusage, int]:
    """Wait for a process; return the peak of memory in MiB, its usage and how it ended."""
    peak = 0
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return max(peak / 2**20, usage.ru_maxrss / 2**10), usage, status
        peak = max(peak, _resident(pid))
        time.sleep(_PERIOD_S)


def _resident(pid: int) -> int:
    """Add up the resident memory of a process and its descendants, in bytes."""
    total = 0
    try:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:  # one that ended meanwhile
        return total
    return total
