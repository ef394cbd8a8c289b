"""Run a command that ends with whoever started it, however that one ends.

    python leash.py USER COMMAND...

The starter holds the other end of standard input. When it closes, also because the starter was
killed, the command's whole group is asked to end, and killed when it does not. USER is whom to run
the command as, or ``-``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

STOP_TIMEOUT_S = 20.0


def main(user: str, *command: str) -> int:
    """Run the command; returns its exit code, as a shell does of one that a signal ended."""
    rights = {} if user == "-" else {"user": user, "group": user, "extra_groups": []}
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **rights)
    # The group hears of the end through standard input alone.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end, args=(process,), daemon=True).start()
    code = process.wait()
    _signal(process.pid, signal.SIGKILL)  # what the command left behind
    return code if code >= 0 else 128 - code


def _end(process: subprocess.Popen[bytes]) -> None:
    while os.read(0, 1):
        pass
    _signal(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        _signal(process.pid, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
