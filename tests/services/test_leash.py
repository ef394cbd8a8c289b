"""The leash: a command ends with whoever started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.services import postgres

LEASH = [sys.executable, str(Path(__file__).parent / "leash.py"), "-"]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_gives_the_exit_code_of_the_command() -> None:
    with subprocess.Popen([*LEASH, "sh", "-c", "exit 7"], stdin=subprocess.PIPE) as leash:
        assert leash.wait(60) == 7


def test_the_command_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    command = [*LEASH, "sh", "-c", f"sleep 600 & echo $! > {told}; wait"]
    code = f"import subprocess; subprocess.Popen({command!r}, stdin=subprocess.PIPE).wait()"
    starter = subprocess.Popen([sys.executable, "-c", code])
    try:
        sleeper = await_pid(told)
    finally:
        starter.kill()
        starter.wait()
    deadline = time.monotonic() + 60
    while alive(sleeper) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(sleeper)


def await_pid(told: Path) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if told.is_file() and told.read_text().endswith("\n"):
            return int(told.read_text())
        time.sleep(0.05)
    raise AssertionError("the command did not start")


def test_the_command_is_asked_to_end_when_standard_input_closes() -> None:
    leash = subprocess.Popen([*LEASH, "sleep", "600"], stdin=subprocess.PIPE)
    leash.communicate(timeout=60)
    assert leash.returncode == 128 + signal.SIGTERM


def test_a_missing_postgresql_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(postgres, "_FOLDERS", ())
    monkeypatch.setenv("PATH", str(tmp_path))
    said = postgres._missing()
    assert said is not None
    assert "found no initdb" in said
    assert "apt install postgresql" in said
    assert "\n" not in said
