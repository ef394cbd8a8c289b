"""A Prefect server of a run's own: it answers, keeps to itself, and ends with who started it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from flows.local import embedded_server
from hbpipe.errors import EngineError


def test_the_server_answers_on_the_loopback_and_its_telemetry_is_off(prefect_server: str) -> None:
    from prefect._internal.analytics import is_telemetry_enabled

    assert prefect_server.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(f"{prefect_server}/admin/settings", timeout=30) as answer:
        assert json.load(answer)["server"]["analytics_enabled"] is False
    assert not is_telemetry_enabled()


def test_the_server_ends_when_the_process_that_started_it_is_gone(root: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "flows.local", "0"],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server.communicate(timeout=60)  # closes its standard input, as the end of a parent does
    assert server.returncode == -signal.SIGTERM


def test_a_server_that_cannot_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").mkdir()
    with (
        pytest.raises(EngineError, match=r"the Prefect server ended with code \d+.*hbpipe run"),
        embedded_server(tmp_path),
    ):
        raise AssertionError("no server can run on this database")
