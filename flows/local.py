"""A Prefect server of a run's own: started on this machine, used, and stopped with the run.

Prefect can start one by itself, but then the server keeps its history among the user's other
runs, writes into their terminal when it stops, and gives up where a slow disk needs a minute.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from hbpipe.errors import EngineError

#: A first start migrates an empty database: ten seconds when idle, more than a minute when not.
START_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 10.0


@contextmanager
def embedded_server(home: Path) -> Iterator[str]:
    """Run a Prefect server and point this process at it.

    Parameters
    ----------
    home
        Prefect's home for this server: its database, kept from run to run, and ``server.log``.

    Yields
    ------
    The address of its API, on the loopback interface.

    Raises
    ------
    EngineError
        If the server does not answer within ``START_TIMEOUT_S`` seconds.
    """
    home = home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    with _server_process(home) as (process, port):
        url = f"http://127.0.0.1:{port}/api"
        _await_health(process, url, home / "server.log")
        with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}):
            try:
                yield url
            finally:
                # What is still queued here would be lost, loudly, once the server has gone.
                APILogHandler().flush()
                EventsWorker.drain_all()


@contextmanager
def _server_process(home: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Start the server in a session of its own, so that Ctrl-C reaches the flow alone."""
    port = _free_port()
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.local", str(port)],
            cwd=Path(__file__).parent.parent,
            env=_server_environment(home),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process, port
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _server_environment(home: Path) -> dict[str, str]:
    """Keep the user's own Prefect settings away from this server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {
        **kept,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
        "DO_NOT_TRACK": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_health(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    ended = process.poll()
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise EngineError(
        f"the Prefect server ended with code {ended}"
        if ended is not None
        else f"the Prefect server did not answer within {START_TIMEOUT_S:.0f} s",
        where={"log": log, "last_lines": " | ".join(last)},
        expected="a server that answers on the loopback interface",
        remedy="read the log, or run without Prefect: hbpipe run --config ...",
    )


def _serve(port: int) -> None:
    """Be the server, until terminated or left alone by the process that started it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.argv = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    runpy.run_module("prefect", run_name="__main__")


def _end_with_parent() -> None:
    """Wait for the end of standard input, which comes even when the parent was killed."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
