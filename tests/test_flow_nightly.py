"""The nightly flow on a real Prefect server: what it runs, tries again, shows and survives."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
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
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

import flows.alerts
import flows.nightly
import flows.observer
import flows.tasks
from flows.local import embedded_server
from flows.nightly import nightly
from hbpipe.data.clock import Calendar, to_date, to_number
from hbpipe.errors import EngineError, GateError
from hbpipe.run.audits import Check
from hbpipe.run.due import DayPlan
from hbpipe.run.ledger import DayEntry
from hbpipe.run.observe import Silent
from tests.nights import settings_for

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


def the_run(name: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_flow_runs() if run.name == name]
    assert len(runs) == 1, f"one run named {name}"
    return runs[0]


def artifacts(key: str) -> list[Any]:
    with get_client(sync_client=True) as client:
        return client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        )


def rows(key: str) -> list[dict[str, Any]]:
    (table,) = artifacts(key)
    found: list[dict[str, Any]] = json.loads(table.data)
    return found


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


def test_automations_are_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    webhook = tmp_path / "webhook"
    webhook.write_text("http://127.0.0.1:9/hook")
    for _ in range(2):
        assert flows.alerts.main(["--webhook", f"file:{webhook}"]) == 0
    with get_client(sync_client=True) as client:
        made = {automation.name: automation for automation in client.read_automations()}
        assert len(client.read_automations()) == len(made) == 2
    assert all("prefect.tag.hbpipe" in str(one.trigger.match_related) for one in made.values())
    assert flows.alerts.main(["--webhook", "env:NO_SUCH_VARIABLE"]) == 2
    assert "NO_SUCH_VARIABLE, which is not set" in capsys.readouterr().err


def test_the_flow_can_be_handed_to_the_process_that_serves_it() -> None:
    copy = cloudpickle.loads(cloudpickle.dumps(nightly))
    parameters = copy.validate_parameters({"config": "any.yaml", "as_of": "2026-01-28"})
    assert parameters["as_of"] == date(2026, 1, 28)


@pytest.mark.parametrize(
    ("instant", "calendar", "day"),
    [
        ("2026-01-02T00:00+00:00", Calendar(), date(2026, 1, 1)),
        ("2026-01-01T23:59+00:00", Calendar(), date(2025, 12, 31)),
        ("2026-01-02T01:59+00:00", Calendar(day_start=120), date(2025, 12, 31)),
        ("2026-01-02T02:00+00:00", Calendar(day_start=120), date(2026, 1, 1)),
        ("2026-01-01T23:00+00:00", Calendar("Europe/Paris"), date(2026, 1, 1)),
        ("2026-01-02T07:59+00:00", Calendar("America/Los_Angeles"), date(2025, 12, 31)),
        # The clocks went forward on 29 March: that day had 23 hours, and ended at 22:00 UTC.
        ("2026-03-29T21:59+00:00", Calendar("Europe/Paris"), date(2026, 3, 28)),
        ("2026-03-29T22:00+00:00", Calendar("Europe/Paris"), date(2026, 3, 29)),
    ],
)
def test_last_day_over(instant: str, calendar: Calendar, day: date) -> None:
    assert to_date(calendar.last_over(datetime.fromisoformat(instant))) == day


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
