"""A backfill and a restatement of which nights fail: what everyone who watches is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hbpipe.cli import main
from hbpipe.config import Settings
from hbpipe.observe import observers_of
from hbpipe.observe.lineage import ParentRun, lineage_id
from hbpipe.run.backfill import backfill
from hbpipe.run.rebuild_report import RebuildReport
from hbpipe.run.restate import restate
from hbpipe.run.runs import read_runs
from tests.nights import NOW, day, lake_of, settings_for, visits, write, write_config, write_days
from tests.observe.servers import web_server
from tests.observe.test_lineage import Event, events_of
from tests.observe.test_prometheus import samples

WINDOW = {"window": "2d", "uncertainty": "plug_in"}
PARENT = ParentRun("3f5e83fa-3480-44ff-99c5-ff943904e5e8", "prefect", "backfill")


def odd_day(folder: Path, number: int) -> None:
    """Half of the rows of a day have no store."""
    rows = visits(number)
    for row in rows[:20]:
        row["store_id"] = None
    write(folder / "events" / f"{day(number)}.parquet", rows)


def five_days(folder: Path, **sections: Any) -> Settings:
    """Five days, of which the third fails the data gate: two nights have it in their window."""
    write_days(folder, 5)
    odd_day(folder, 2)
    observe = {
        "prometheus": {"textfile": str(folder / "hbpipe.prom")},
        "openlineage": {"path": str(folder / "lineage")},
        "log": {"path": str(folder / "log")},
    }
    return settings_for(folder, inference=WINDOW, observe=observe, **sections)


def filled(settings: Settings, **options: Any) -> RebuildReport:
    observer = observers_of(settings, parent=PARENT)
    return backfill(settings, start=day(0), end=day(4), now=NOW, observer=observer, **options)


def test_the_notice_names_the_nights_that_failed(tmp_path: Path) -> None:
    with web_server() as hook:
        settings = five_days(tmp_path, notify={"webhook": hook.url})
        report = filled(settings)
    assert [one["as_of"] for one in report.failed] == [str(day(2)), str(day(3))]
    (request,) = hook.requests
    lines = json.loads(request.body)["text"].splitlines()
    assert lines[0] == "hbpipe: tiny (prod) backfill failed"
    assert lines[1] == f"what: GateError: 2 night(s) failed their gate: {day(2)}, {day(3)}"
    assert "--reprocess failed" in lines[3]
    assert [line[:18] for line in lines[4:6]] == [f"night: {day(k)}:" for k in (2, 3)]
    assert f"held: {day(2)} (rejected_share)" in lines[4]
    assert lines[-1] == f"readers: still release {day(4)}.1, as of {day(4)}"


def test_a_backfill_that_went_well_is_no_news(tmp_path: Path) -> None:
    with web_server() as hook:
        settings = five_days(tmp_path, notify={"webhook": hook.url})
        write_days(tmp_path, 5)
        assert filled(settings).failure() is None
    assert hook.requests == []
    assert read_runs(lake_of(settings))[-1].state == "done"


def test_a_failed_night_is_counted_and_nights_keep_their_own_gauges(tmp_path: Path) -> None:
    settings = five_days(tmp_path)
    filled(settings)
    found = samples(tmp_path / "hbpipe.prom")
    assert found["hbpipe_rebuild_exit_status", ""] == 3
    assert found["hbpipe_rebuild_nights", "published"] == 3
    assert found["hbpipe_rebuild_nights", "failed"] == 2
    assert found["hbpipe_days_held", ""] == 1
    assert found["hbpipe_stale_releases", "input"] == 0
    assert ("hbpipe_exit_status", "") not in found, "no night ran"

    write_days(tmp_path, 5)
    filled(settings)
    found = samples(tmp_path / "hbpipe.prom")
    assert found["hbpipe_rebuild_exit_status", ""] == 0
    assert (found["hbpipe_rebuild_nights", "published"], found["hbpipe_days_held", ""]) == (2, 0)
    assert found["hbpipe_rebuild_nights", "failed"] == 0


def test_each_night_is_a_run_of_its_own_below_the_backfill(tmp_path: Path) -> None:
    settings = five_days(tmp_path)
    report = filled(settings)
    events = events_of(tmp_path / "lineage")
    whole = lineage_id(report.run_id)
    mine = [event["eventType"] for event in events if event["run"]["runId"] == whole]
    assert mine == ["START", "FAIL"]
    assert events[0]["run"]["runId"] == events[-1]["run"]["runId"] == whole
    assert events[0]["job"]["name"] == "tiny.prod.backfill"
    assert events[-1]["run"]["facets"]["errorMessage"]["message"].startswith(
        "GateError: 2 night(s)"
    )

    nights: dict[str, list[Event]] = {}
    for event in events[1:-1]:
        nights.setdefault(event["run"]["runId"], []).append(event)
    endings = [[event["eventType"] for event in story] for story in nights.values()]
    assert endings == [
        ["START", end] for end in ("COMPLETE", "COMPLETE", "FAIL", "FAIL", "COMPLETE")
    ]
    for number, (_, last) in enumerate(nights.values()):
        facets = last["run"]["facets"]
        assert last["job"]["name"] == "tiny.prod"
        assert facets["nominalTime"]["nominalStartTime"].startswith(str(day(number)))
        assert facets["parent"]["run"] == {"runId": whole}
        assert facets["parent"]["root"]["run"] == {"runId": PARENT.run_id}
        assert bool(last["outputs"]) == (last["eventType"] == "COMPLETE")
    failed = list(nights.values())[2][-1]["run"]["facets"]["errorMessage"]["message"]
    assert f"held: {day(2)} (rejected_share)" in failed


def test_the_log_has_a_line_for_each_night(tmp_path: Path) -> None:
    settings = five_days(tmp_path)
    filled(settings)
    lines = events_of(tmp_path / "log")
    nights = [line for line in lines if line["event"].startswith("night_")]
    assert [(line["event"], line["as_of"]) for line in nights] == [
        ("night_published", str(day(0))),
        ("night_published", str(day(1))),
        ("night_failed", str(day(2))),
        ("night_failed", str(day(3))),
        ("night_published", str(day(4))),
    ]
    assert nights[0]["release"] == f"{day(0)}.1"
    assert nights[2]["error"]["kind"] == "GateError"
    assert (lines[-1]["event"], lines[-1]["exit_status"]) == ("run_failed", 3)


def test_the_backfill_itself_has_failed_for_people_and_for_the_lake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = five_days(tmp_path)
    config = str(write_config(tmp_path, inference=WINDOW))
    span = ("--config", config, "--start", str(day(0)), "--end", str(day(4)), "--yes")
    assert main(["backfill", *span]) == 3
    printed = capsys.readouterr()
    assert f"{day(2)}  failed: " in printed.out
    assert f"No release of {day(2)}: " in printed.err
    (run,) = read_runs(lake_of(settings))
    assert run.state == "held"
    assert run.error is not None
    assert run.error.startswith(f"2 night(s) failed their gate: {day(2)}, {day(3)}")


def test_a_restated_day_that_no_longer_passes_is_a_failure_too(tmp_path: Path) -> None:
    settings = five_days(tmp_path)
    write_days(tmp_path, 5)
    filled(settings)
    odd_day(tmp_path, 3)
    observer = observers_of(settings)
    told = {"reason": "a doubt", "now": NOW, "observer": observer}
    report = restate(settings, start=day(3), end=day(3), **told)
    assert [one["as_of"] for one in report.failed] == [str(day(3)), str(day(4))]
    found = samples(tmp_path / "hbpipe.prom")
    assert found["hbpipe_rebuild_nights", "failed"] == 2
    assert found["hbpipe_rebuild_exit_status", ""] == 3


@pytest.mark.parametrize(("policy", "code"), [("block", 3), ("leave_out", None)])
def test_a_held_day_without_a_night_is_a_failure_where_it_blocks(
    tmp_path: Path, policy: str, code: int | None
) -> None:
    settings = five_days(tmp_path, audits={"held": policy})
    report = restate(settings, start=day(2), end=day(2), reason="first look", now=NOW)
    assert report.held == [{"day": str(day(2)), "reason": "rejected_share"}]
    failure = report.failure()
    assert (None if failure is None else failure.exit_code) == code
