"""The log: what each line says, and what none ever says."""

from __future__ import annotations

import json
import logging
import warnings
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hbpipe.cli import main
from hbpipe.observe import log
from hbpipe.observe.log import JsonLog
from hbpipe.observe.record import Record
from hbpipe.run.observe import Opening
from tests.nights import day, settings_for, write_config, write_days
from tests.observe.nights_watched import held_night, late_night, refused_night, watched_night


def logged(folder: Path) -> dict[str, Any]:
    return {"log": {"path": str(folder / "run.log")}}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_night_writes_a_line_for_each_event(tmp_path: Path) -> None:
    report = watched_night(tmp_path, observe=logged(tmp_path))
    lines = lines_of(tmp_path / "run.log")
    stages = ["aggregate", "fit", "update", "audit", "release"]
    assert [line["event"] for line in lines] == [
        "run_started",
        "run_planned",
        "day_due",
        "day_due",
        *["stage_started", "stage_finished"] * 5,
        "run_finished",
    ]
    assert {line["run_id"] for line in lines} == {report.run_id}
    named = {(line["pipeline"], line["environment"], line["kind"]) for line in lines}
    assert named == {("tiny", "prod", "night")}
    assert {line["as_of"] for line in lines[1:]} == {str(day(1))}
    assert all(datetime.fromisoformat(line["time"]).utcoffset() == timedelta() for line in lines)
    assert [line["day"] for line in lines[2:4]] == [str(day(0)), str(day(1))]
    assert [line["stage"] for line in lines[4:-1:2]] == stages
    assert all(line["attempt"] == 1 for line in lines[4:-1])
    assert lines[5]["numbers"]["accepted"] == 80
    assert lines[5]["seconds"] >= 0
    assert lines[-1]["rows"] == report.rows
    assert (lines[-1]["exit_status"], lines[-1]["release"]) == (0, report.release)


def test_a_held_day_says_which_check_and_what_to_do(tmp_path: Path) -> None:
    watched_night(tmp_path)
    error = held_night(tmp_path, observe=logged(tmp_path))
    lines = lines_of(tmp_path / "run.log")
    (check,) = [line for line in lines if line["event"] == "check"]
    assert (check["level"], check["check"], check["subject"]) == (
        "error",
        "rejected_share",
        str(day(2)),
    )
    assert (check["value"], check["threshold"]) == (0.5, 0.05)
    (held,) = [line for line in lines if line["event"] == "day_held"]
    assert (held["day"], held["reason"]) == (str(day(2)), "rejected_share")
    last = lines[-1]
    assert (last["event"], last["exit_status"], last["stage"]) == ("run_failed", 3, "aggregate")
    assert last["error"]["kind"] == "GateError"
    assert last["error"]["remedy"] == error.remedy


def test_runs_that_never_get_a_plan(tmp_path: Path) -> None:
    watched_night(tmp_path)
    late_night(tmp_path, observe=logged(tmp_path))
    refused_night(tmp_path, observe=logged(tmp_path))
    ends = [line for line in lines_of(tmp_path / "run.log") if line["event"] == "run_failed"]
    assert [(line["exit_status"], line["error"]["kind"]) for line in ends] == [
        (5, "LateError"),
        (4, "LeaseError"),
    ]
    assert ends[1]["error"]["where"]["run_id"] == "another"
    assert all("as_of" not in line for line in ends)


def test_no_line_of_a_night_names_a_store(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    watched_night(tmp_path, observe=logged(tmp_path))
    held_night(tmp_path, observe=logged(tmp_path))
    text = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert not [f"s{k}" for k in range(6) if f'"s{k}"' in text or f" s{k}" in text]


def a_log(path: str, folder: Path) -> JsonLog:
    record = Record(settings_for(folder))
    record.run_opened(Opening("one", "tiny", "prod", datetime.now()))
    return JsonLog(path, record)


def test_warnings_are_lines_while_a_run_goes_on(tmp_path: Path) -> None:
    one = a_log(str(tmp_path / "log"), tmp_path)
    one.run_opened(Opening("one", "tiny", "prod", datetime.now()))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning(RuntimeWarning("overflow"), RuntimeWarning, "a.py", 3)
    logging.getLogger("hbpipe.anything").warning("look at %s", "this")
    one.run_ended(None)
    logging.getLogger("hbpipe.anything").addHandler(logging.NullHandler())
    logging.getLogger("hbpipe.anything").warning("too late")
    told = [line for line in lines_of(tmp_path / "log") if line["event"] == "warning"]
    assert ["RuntimeWarning: overflow" in line["message"] for line in told] == [True, False]
    assert told[1]["message"] == "look at this"
    assert {line["level"] for line in told} == {"warning"}


def test_a_warning_of_a_task_names_its_chunk(tmp_path: Path) -> None:
    from hbpipe.run.tasks import run

    one = a_log(str(tmp_path / "log"), tmp_path)
    one.run_opened(Opening("one", "tiny", "prod", datetime.now()))
    warn = logging.getLogger("hbpipe.data").warning
    run("aggregation of a.parquet, row groups (0,)", warn, "odd")
    one.run_ended(None)
    (told,) = [line for line in lines_of(tmp_path / "log") if line["event"] == "warning"]
    assert told["chunk"] == "aggregation of a.parquet, row groups (0,)"


def test_progress_is_told_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = a_log(str(tmp_path / "log"), tmp_path)
    one._record.stage_started("update")
    one.progress("update", 1, 9)
    assert not (tmp_path / "log").exists()
    monkeypatch.setattr(log, "PROGRESS_INTERVAL_S", 0.0)
    one.progress("update", 5, 9)
    (line,) = lines_of(tmp_path / "log")
    assert (line["stage"], line["attempt"], line["done"], line["total"]) == ("update", 1, 5, 9)


def test_a_rotated_log_goes_on_in_a_new_file(tmp_path: Path) -> None:
    one = a_log(str(tmp_path / "log"), tmp_path)
    one.message("before")
    (tmp_path / "log").rename(tmp_path / "log.1")
    one.message("after")
    assert [line["message"] for line in lines_of(tmp_path / "log.1")] == ["before"]
    assert [line["message"] for line in lines_of(tmp_path / "log")] == ["after"]


def test_on_standard_error_the_lines_stand_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_days(tmp_path, 1)
    config = write_config(tmp_path, observe={"log": {"path": "stderr"}})
    assert main(["run", "--config", str(config)]) == 0
    printed = capsys.readouterr()
    events = [json.loads(line)["event"] for line in printed.err.splitlines()]
    assert events[0] == "run_started"
    assert events[-1] == "run_finished"
    assert "Release" in printed.out


def test_a_log_that_cannot_be_written_is_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nowhere" / "run.log"
    report = watched_night(tmp_path, observe={"log": {"path": str(path)}})
    assert report.published
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "observe.log: FileNotFoundError" in told[0]
    assert "the run is not affected" in told[0]
