"""Progress: bars for people, lines for logs, nothing where it is to be quiet."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from hbpipe.report.console import ConsoleObserver


def watch(quiet: bool) -> None:
    with ConsoleObserver(quiet) as console:
        console.stage_started("fit")
        console.progress("fit", 1, 2)
        console.stage_finished("fit", {"pools": 3, "file": "[a]"})
        console.message("look [here]")


def test_a_log_gets_one_line_a_stage(capsys: pytest.CaptureFixture[str]) -> None:
    watch(quiet=False)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == ["fit: pools 3, file [a]", "look [here]"]


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    watch(quiet=True)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_a_terminal_gets_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    watch(quiet=False)
    shown = capsys.readouterr().err
    assert "━" in shown
    assert "2/2" in shown
    assert "pools 3" not in shown


def test_a_terminal_is_told_how_fast_rows_are_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with ConsoleObserver() as console:
        console.run_planned(SimpleNamespace(plan=SimpleNamespace(rows=4_000_000)))
        console.stage_started("aggregate")
        console.progress("aggregate", 1, 2)
        console.stage_started("fit")
        console.progress("fit", 1, 2)
    shown = re.sub(r"\x1b\[[\d;?]*\w", "", capsys.readouterr().err)
    [aggregate] = re.findall(r"aggregate.*1/2 ([\d,]+) rows/s", shown)[-1:]
    assert int(aggregate.replace(",", "")) > 0
    assert not re.findall(r"fit[^\r\n]*rows/s", shown)
