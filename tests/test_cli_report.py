"""The verb ``report``, and the page that a night leaves, through ``main``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.nights import BOTH, day, first_night, night, settings_for, visits, write, write_config
from tests.verbs import Verb, verbs_of

SECTIONS: Any = {"metrics": BOTH, "inference": {"uncertainty": "auto"}}
NAME = f"tiny-{day(2)}.1.html"


@pytest.fixture
def hbpipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Verb:
    """Run a verb in the folder of one night of two metrics."""
    first_night(tmp_path, 3, **SECTIONS)
    monkeypatch.chdir(tmp_path)
    return verbs_of(write_config(tmp_path, **SECTIONS), capsys)


def test_the_current_release_is_written_where_the_user_is(hbpipe: Verb, tmp_path: Path) -> None:
    code, printed, _ = hbpipe("report")
    assert code == 0
    assert f"Release {day(2)}.1: Good to use" in printed
    assert f"Report: {NAME} (" in printed
    assert (tmp_path / NAME).read_text(encoding="utf-8").startswith("<!doctype html>")


def test_another_release_another_file_and_json(hbpipe: Verb, tmp_path: Path) -> None:
    write(tmp_path / "events" / "late.parquet", visits(0, rows=30, seed=8))
    night(settings_for(tmp_path, **SECTIONS))
    code, printed, _ = hbpipe("report", "previous", "--out", "deep/er/a.html", "--json")
    found = json.loads(printed)
    assert code == 0
    assert found["release"] == f"{day(2)}.1"
    assert (found["path"], found["level"]) == ("deep/er/a.html", "look")
    assert found["bytes"] == (tmp_path / "deep/er/a.html").stat().st_size


def test_what_is_not_there_is_said_and_nothing_is_written(hbpipe: Verb, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    code, _, error = hbpipe("report", "--metric", "baskets")
    assert code == 2
    assert "did you mean 'basket'" in error
    code, _, error = hbpipe("report", "2025-01-01.1")
    assert code == 1
    assert set(tmp_path.iterdir()) == before


def test_a_night_leaves_its_page_where_one_is_asked_for(hbpipe: Verb, tmp_path: Path) -> None:
    code, _, error = hbpipe("run", "--set", "observe.report.folder=pages")
    assert code == 0
    assert f"Report: pages/{NAME}" in error
    assert [path.name for path in (tmp_path / "pages").iterdir()] == [NAME]
    code, printed, _ = hbpipe(
        "report", "--set", "observe.report.folder=pages", "--metric", "basket"
    )
    assert f"Report: pages/{NAME}" in printed


def test_a_page_that_cannot_be_written_takes_nothing_back(hbpipe: Verb, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    code, printed, error = hbpipe("run", "--set", "observe.report.folder=taken")
    assert code == 0
    assert f"Release {day(2)}.1" in printed
    assert "the release is published, its report is not written" in error


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("folder=s3://bucket/reports", "folder is on this machine's disk"),
        ("url=https://reports.example.com", "give folder too"),
    ],
)
def test_a_folder_is_a_folder(hbpipe: Verb, setting: str, said: str) -> None:
    code, _, error = hbpipe("report", "--set", f"observe.report.{setting}")
    assert code == 2
    assert said in error
