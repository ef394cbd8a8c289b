"""What people see on a terminal, and what a file or a pipe gets of it."""

from __future__ import annotations

import re

import pytest

from hbpipe.report.tables import markdown_table, text_table
from hbpipe.report.terminal import show

TEXT = "Checks\nname       status\nrow_count  fail\nrow_share  ok\n\nNothing else."


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    show(TEXT)
    return capsys.readouterr().out


def test_a_pipe_gets_the_text_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert shown(capsys) == f"{TEXT}\n"


def test_a_terminal_gets_colour(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    found = shown(capsys)
    assert "\x1b[1mChecks\x1b[0m" in found
    assert "\x1b[31mfail\x1b[0m" in found
    assert "\x1b[32mok\x1b[0m" in found
    assert re.sub(r"\x1b\[[\d;]*m", "", found) == f"{TEXT}\n"


def test_who_wants_no_colour_gets_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    assert shown(capsys) == f"{TEXT}\n"


def test_an_id_cannot_move_the_cursor() -> None:
    rows = [{"store_id": "\x1b[2Jgone\r\nnext\u202e", "n": 1}]
    for table in (text_table(rows), markdown_table(rows)):
        assert "\\x1b[2Jgone\\r\\nnext\\u202e" in table
        assert "\x1b" not in table
