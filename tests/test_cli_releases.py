"""The verbs that look at releases and move readers, through ``main``."""

from __future__ import annotations

import json
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hbpipe.run import history
from tests.nights import day, night, settings_for, visits, write, write_config, write_days
from tests.verbs import Verb, verbs_of

PARIS = {"timezone": "Europe/Paris"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two nights in Paris, the second with a late file."""
    folder = tmp_path_factory.mktemp("cli")
    write_days(folder, 3)
    settings = settings_for(folder, events=PARIS)
    night(settings, as_of=day(1))
    write(folder / "events" / "late.parquet", visits(0, rows=30, seed=8))
    night(settings)
    return folder


@pytest.fixture
def hbpipe(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Run a verb on a copy of the two nights; gives exit code, standard output and error."""
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    config = write_config(tmp_path, events=PARIS)
    return verbs_of(config, capsys)


def as_of(printed: str) -> set[str]:
    return {row["as_of"] for row in json.loads(printed)["rows"]}


def test_diff(hbpipe: Verb) -> None:
    code, printed, _ = hbpipe("diff", "previous", "current", "--threshold", "0.1", "--json")
    found = json.loads(printed)
    assert code == 0
    assert (found["a"]["release"], found["b"]["release"]) == (f"{day(1)}.1", f"{day(2)}.1")
    (metric,) = found["metrics"]
    assert metric["moved"] == len(metric["stores"]) > 0
    code, printed, _ = hbpipe("diff", f"{day(1)}.1", f"{day(2)}.1", "--metric", "conversion")
    assert code == 0
    assert "posteriors moved by more than 1 posterior sds" in printed
    code, _, error = hbpipe("diff", "previous", "current", "--metric", "conversions")
    assert code == 2
    assert "did you mean 'conversion'" in error


def test_rollback_and_promote(hbpipe: Verb) -> None:
    shown = hbpipe("rollback", "--reason", "wrong", "--dry-run")
    assert shown[0] == 10
    assert f"{day(2)}.1 (as of {day(2)}) → {day(1)}.1 (as of {day(1)})" in shown[1]
    assert as_of(hbpipe("read", "--json")[1]) == {str(day(2))}
    code, printed, _ = hbpipe("rollback", "--reason", "wrong", "--json")
    move = json.loads(printed)
    assert code == 0
    assert (move["from"]["as_of"], move["to"]["as_of"]) == (str(day(2)), str(day(1)))
    assert move["recorded"] is move["pinned"] is True
    assert as_of(hbpipe("read", "--json")[1]) == {str(day(1))}
    assert "pinned until the next promote" in hbpipe("status")[1]
    assert hbpipe("promote", f"{day(2)}.1", "--to", "prod", "--reason", "mended")[0] == 0
    assert as_of(hbpipe("read", "--json")[1]) == {str(day(2))}
    assert hbpipe("promote", "current", "--to", "audit", "--reason", "quarter")[0] == 0
    assert as_of(hbpipe("read", "--json", "--set", "environment=audit")[1]) == {str(day(2))}
    pointers = json.loads(hbpipe("read", "pointers", "--json")[1])["rows"]
    assert [(row["environment"], row["action"], row["reason"]) for row in pointers] == [
        ("prod", "rollback", "wrong"),
        ("prod", "promote", "mended"),
        ("audit", "promote", "quarter"),
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("promote", f"{day(2)}.9", "--to", "prod", "--reason", "x"), 1, f"mean '{day(2)}.1'"),
        (("promote", f"{day(2)}.1", "--to", "prd", "--reason", "x"), 1, "mean 'prod'"),
        (("promote", "current", "--from", "dev", "--to", "prod", "--reason", "x"), 1, "'dev'"),
        (("rollback", "nothing", "--reason", "x"), 1, "no release 'nothing' in 'prod'"),
        (("rollback", "--reason", ""), 2, "--reason"),
        (("diff", "current", "2026"), 1, "no release '2026'"),
        (("read", "--as-of", str(day(0))), 1, f"no release of {day(0)}"),
        (("read", "--published-before", "then"), 2, "2026-03-03"),
        (("read", "--release", "current", "--as-of", str(day(1))), 2, "beside it"),
    ],
)
def test_errors_say_what_was_expected(
    hbpipe: Verb, arguments: tuple[str, ...], code: int, message: str
) -> None:
    found, printed, error = hbpipe(*arguments)
    assert (found, printed) == (code, "")
    assert message in error


def test_reading_the_past(hbpipe: Verb, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first release is of 3 March, 23:30 in Paris; the second of half past midnight."""
    moments = iter(["2026-03-03T22:30:00+00:00", "2026-03-03T23:30:00+00:00"])
    times = [datetime.fromisoformat(moment) for moment in moments]
    read_releases = history.read_releases

    def dated(lake: Any) -> Any:
        rows = read_releases(lake)
        return tuple({**row, "released_at": at} for row, at in zip(rows, times, strict=True))

    monkeypatch.setattr(history, "read_releases", dated)

    def before(text: str) -> tuple[int, str]:
        code, printed, error = hbpipe("read", "--published-before", text, "--json", "--limit", "1")
        return code, as_of(printed).pop() if code == 0 else error

    assert before("2026-03-03")[0] == 1, "nothing was there before that day began"
    assert before("2026-03-04") == (0, str(day(1))), "a day begins at midnight in Paris"
    assert before("2026-03-05") == (0, str(day(2)))
    assert before("2026-03-04T00:30") == (0, str(day(1))), "a time is one of Paris"
    assert before("2026-03-04T00:31") == (0, str(day(2)))
    assert before("2026-03-03T23:31Z") == (0, str(day(2)))
    assert as_of(hbpipe("read", "--as-of", str(day(1)), "--json")[1]) == {str(day(1))}


def test_plan_names_what_a_late_file_touches(hbpipe: Verb, tmp_path: Path) -> None:
    write(tmp_path / "events" / "later.parquet", visits(1, rows=3, seed=9))
    code, printed, _ = hbpipe("plan", "--json")
    assert code == 10
    assert json.loads(printed)["affects"] == [str(day(1))]
    assert f"Older releases become stale: {day(1)}" in hbpipe("plan")[1]
    code, printed, _ = hbpipe("run", "--json")
    assert [one["release"] for one in json.loads(printed)["stale"]] == [f"{day(1)}.1"]
    assert f"stale {day(1)}.1: 2 of its days changed since" in hbpipe("status")[1]


def test_the_library_reads_as_the_command_line_does(hbpipe: Verb, tmp_path: Path) -> None:
    import hbpipe as library

    table = library.read(tmp_path / "lake", "posteriors", as_of=day(1))
    assert isinstance(table, pa.Table)
    assert set(table["as_of"].to_pylist()) == {day(1)}
