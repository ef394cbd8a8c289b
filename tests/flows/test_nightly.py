"""The nightly flow on a real Prefect server: what it runs, tries again, shows and survives."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cloudpickle
import pytest
from prefect import flow, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Scheduled

import flows.alerts
import flows.nightly
import flows.observer
import flows.tasks
from flows.nightly import nightly
from hbpipe.data.clock import to_number
from hbpipe.errors import EngineError, GateError
from hbpipe.run.audits import Check
from hbpipe.run.due import DayPlan
from hbpipe.run.ledger import DayEntry
from hbpipe.run.night import Night
from hbpipe.run.observe import Silent
from hbpipe.run.runs import read_runs
from hbpipe.run.stages import STAGES
from tests.flows.prefect_runs import artifacts, published, rows, the_run
from tests.nights import (
    day,
    first_night,
    lake_of,
    settings_for,
    visits,
    write,
    write_config,
    write_days,
)

pytestmark = pytest.mark.usefixtures("prefect_server")


@dataclass
class FakeNight:
    """A night whose stages do what a test says, in place of the real one's."""

    as_of: date | None
    observer: Any
    work: bool = True
    faults: dict[str, list[Exception]] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def plan(self) -> Any:
        as_of = to_number(self.as_of or date(2026, 3, 1))
        entry = DayEntry(as_of, "begun", "missing", "", "", "")
        days = (DayPlan(as_of, "missing", ("a.parquet", "b.parquet"), 40, entry, ()),)
        return SimpleNamespace(work=self.work, as_of=as_of, days=days if self.work else ())

    @property
    def checks(self) -> list[Check]:
        seen = [("unknown", "pass"), ("rejected_share", "fail"), ("drift", "warn")]
        return [Check("data", name, "day", status, 0, 0, "") for name, status in seen]

    def report(self) -> Any:
        return SimpleNamespace(
            release="2026-03-01.1",
            calls=list(self.calls),
            markdown=lambda: f"# {' '.join(self.calls)}",
            hyperparameters=lambda: [{"chain_id": "north", "alpha": 5.0}],
        )

    def run(self, stage: str) -> dict[str, Any]:
        self.calls.append(stage)
        self.observer.progress(stage, 1, 2)
        if self.faults.get(stage):
            raise self.faults[stage].pop(0)
        return {"rows": 3}


def aggregate(night: FakeNight) -> dict[str, Any]:
    return night.run("aggregate")


def release(night: FakeNight) -> dict[str, Any]:
    return night.run("release")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., list[FakeNight]]:
    """Replace the night by a fake; gives the list of the nights that were opened."""

    def install(pipeline: str, **behaviour: Any) -> list[FakeNight]:
        opened: list[FakeNight] = []

        @contextmanager
        def open_night(
            settings: Any, as_of: date | None, observer: Any, run_id: str, **flags: Any
        ) -> Iterator[FakeNight]:
            assert re.fullmatch(r"\d{8}T\d{6}-[0-9a-f]{8}", run_id)
            assert flags == {"full_scan": False, "accept_missing": False, "retry": None}
            opened.append(FakeNight(as_of, observer, **behaviour))
            yield opened[-1]

        clock = {"timezone": "Europe/Paris", "day_start": "02:00"}
        settings = settings_for(tmp_path, pipeline=pipeline, events=clock)
        monkeypatch.setattr(flows.nightly, "load_settings", lambda *_: settings)
        monkeypatch.setattr(flows.nightly, "open_night", open_night)
        monkeypatch.setattr(flows.observer, "observers_of", lambda *_, **__: Silent())
        monkeypatch.setattr(flows.nightly, "finish", FakeNight.report)
        monkeypatch.setattr(flows.nightly, "STAGES", (aggregate, release))
        monkeypatch.setattr(flows.tasks, "RETRY_DELAYS_S", [0, 0])
        return opened

    return install


def test_a_night_runs_its_stages_in_order_and_leaves_a_report(fake: Any) -> None:
    (opened, report) = fake("whole_night"), nightly("any.yaml", as_of=date(2026, 1, 28))

    assert opened[0].as_of == date(2026, 1, 28)
    assert report.calls == ["aggregate", "release"]
    assert the_run("whole-night 2026-01-28").state_name == "Completed"
    assert [found.data for found in artifacts("whole-night-report")] == ["# aggregate release"]
    assert rows("whole-night-hyperparameters") == [{"chain_id": "north", "alpha": 5.0}]
    planned = {"day": "2026-01-28", "reason": "missing", "files": 2, "rows": 40}
    assert planned.items() <= rows("whole-night-days")[0].items()
    assert [check["status"] for check in rows("whole-night-audits")] == ["fail", "warn", "pass"]
    assert [found.data for found in artifacts("whole-night-release")] == [100.0]


def test_nothing_to_do_runs_no_stage_and_still_reports(fake: Any) -> None:
    opened = fake("idle", work=False)
    nightly("any.yaml")
    assert opened[0].calls == []
    assert the_run("idle 2026-03-01").state_name == "Completed"
    assert len(artifacts("idle-report")) == 1
    assert artifacts("idle-days") == []


def test_a_table_of_very_many_rows_is_cut() -> None:
    @flow
    def tell() -> None:
        observer = flows.observer.PrefectObserver("many", get_run_logger())
        observer.table("pools", [{"pool": number} for number in range(501)])

    tell()
    assert len(rows("many-pools")) == 500
    assert artifacts("many-pools")[0].description == "pools: the first 500 of 501"


def test_a_lost_cluster_is_tried_again(fake: Any) -> None:
    lost = [EngineError("a worker was lost"), EngineError("a worker was lost")]
    opened = fake("flaky", faults={"aggregate": lost})
    nightly("any.yaml")
    assert opened[0].calls == ["aggregate", "aggregate", "aggregate", "release"]


def test_a_cluster_lost_for_good_ends_the_run(fake: Any) -> None:
    opened = fake("lost", faults={"aggregate": [EngineError("gone") for _ in range(9)]})
    with pytest.raises(EngineError, match="gone"):
        nightly("any.yaml")
    assert opened[0].calls == ["aggregate"] * 3


@pytest.mark.parametrize("error", [GateError("12 % rejected"), ValueError("a defect")])
def test_what_another_attempt_cannot_mend_is_not_tried_again(fake: Any, error: Exception) -> None:
    name = f"refused-{type(error).__name__.lower()}"
    opened = fake(name, faults={"aggregate": [error]})
    with pytest.raises(type(error), match=str(error)):
        nightly("any.yaml")
    assert opened[0].calls == ["aggregate"]
    assert the_run(f"{name} 2026-03-01").state_name == "Failed"
    assert artifacts(f"{name}-report") == []
    assert rows(f"{name}-audits")[0]["name"] == "rejected_share", "what failed comes first"


def test_prefects_own_troubles_do_not_end_a_night(
    fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no server")

    for name in ("create_markdown_artifact", "create_progress_artifact", "get_client"):
        monkeypatch.setattr(flows.observer, name, refuse)
    opened = fake("unwatched")
    nightly("any.yaml")
    assert opened[0].calls == ["aggregate", "release"]


@pytest.mark.parametrize("url", [None, "https://reports.example.com/hbpipe/"])
def test_a_night_links_to_its_page(tmp_path: Path, url: str | None) -> None:
    name = "page" if url is None else "served-page"
    folder = tmp_path / "reports"
    shown = {"report": {"folder": str(folder), "url": url}}
    first_night(tmp_path, 3, pipeline=name)
    nightly(str(write_config(tmp_path, pipeline=name, observe=shown)))
    (page,) = folder.iterdir()
    assert page.name == f"{name}-{day(2)}.1.html"
    (found,) = artifacts(f"{name}-page")
    base = folder.as_uri() if url is None else url.rstrip("/")
    assert f"({base}/{page.name})" in found.data
    assert found.description.startswith("Good to use")


def test_a_page_that_cannot_be_written_does_not_end_a_night(tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    first_night(tmp_path, 3, pipeline="no-page")
    shown = {"report": {"folder": str(tmp_path / "taken")}}
    nightly(str(write_config(tmp_path, pipeline="no-page", observe=shown)))
    assert artifacts("no-page-page") == []
    assert the_run(f"no-page {day(2)}").state_name == "Completed"


def test_a_scheduled_run_works_for_the_day_before_it_was_due(fake: Any) -> None:
    opened = fake("scheduled")
    # 01:30 in Paris on 10 June: the till closes at 02:00, so 9 June is not over.
    due = datetime(2026, 6, 9, 23, 30, tzinfo=UTC)
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(nightly), "every night")
        run = client.create_flow_run_from_deployment(
            deployment, parameters={"config": "any.yaml"}, state=Scheduled(scheduled_time=due)
        )
    run_flow(nightly, flow_run=run, parameters={"config": "any.yaml"})
    assert opened[0].as_of == date(2026, 6, 8)
    assert the_run("scheduled 2026-06-08").state_name == "Completed"


def test_the_servers_scheduler_schedules(fake: Any) -> None:
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(
            client.create_flow(nightly),
            "by the clock",
            parameters={"config": "any.yaml"},
            schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron="30 4 * * *"))],
        )
        due: list[FlowRun] = []
        deadline = time.monotonic() + 90
        while not due and time.monotonic() < deadline:
            time.sleep(0.5)
            due = [run for run in client.read_flow_runs() if run.deployment_id == deployment]
        client.delete_deployment(deployment)
    assert due, "the scheduler made no run"
    assert {run.state_name for run in due} == {"Scheduled"}


def test_the_flow_can_be_handed_to_the_process_that_serves_it() -> None:
    copy = cloudpickle.loads(cloudpickle.dumps(nightly))
    parameters = copy.validate_parameters({"config": "any.yaml", "as_of": "2026-01-28"})
    assert parameters["as_of"] == date(2026, 1, 28)


def test_a_flow_run_that_is_retried_runs_its_first_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_days(tmp_path, 3)
    gauges = tmp_path / "hbpipe.prom"
    observe = {"prometheus": {"textfile": str(gauges)}}
    given = {"config": str(write_config(tmp_path, pipeline="again", observe=observe))}
    due = datetime(2026, 1, 4, 5, tzinfo=UTC)
    with get_client(sync_client=True) as client:
        deployment = client.create_deployment(client.create_flow(nightly), "again")
        run = client.create_flow_run_from_deployment(
            deployment, parameters=given, state=Scheduled(scheduled_time=due)
        )
        with monkeypatch.context() as faulty:
            faulty.setattr(flows.nightly, "STAGES", (STAGES[0], refuse))
            with pytest.raises(GateError, match="no release"):
                run_flow(nightly, flow_run=run, parameters=given)
        # What comes meanwhile is for the next night.
        write(tmp_path / "events" / "late.parquet", visits(2, rows=5, seed=9))
        client.set_flow_run_state(run.id, AwaitingRetry(), force=True)
        run_flow(nightly, flow_run=client.read_flow_run(run.id), parameters=given)
        client.delete_deployment(deployment)
    assert published(tmp_path) == [f"{day(2)}.1"]
    assert "hbpipe_exit_status{" in gauges.read_text(), "whoever the settings ask for is told"
    first, second = read_runs(lake_of(settings_for(tmp_path)))
    assert [first.state, second.state] == ["held", "done"]
    assert second.run_id == f"{first.run_id}-2"
    assert json.loads(second.plan)["as_of"] == json.loads(first.plan)["as_of"]
    files = {path for days in json.loads(second.plan)["days"] for path in days["files"]}
    assert not [path for path in files if path.endswith("late.parquet")]


def refuse(_: Night) -> dict[str, Any]:
    raise GateError("no release")
