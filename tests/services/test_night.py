"""A night in production, with real processes: scheduled, published, read back; and without Prefect.

The tests share one stack and stand in the order of a night; the last one stops the server.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from prefect.states import Scheduled

import hbpipe
from tests.services.conftest import Stack
from tests.services.processes import PLAIN, ROOT, wait_for

pytestmark = pytest.mark.services

PARIS = ZoneInfo("Europe/Paris")


@contextmanager
def prefect(stack: Stack) -> Iterator[SyncPrefectClient]:
    settings = {PREFECT_API_URL: stack.api, PREFECT_API_AUTH_STRING: stack.auth}
    with temporary_settings(settings), get_client(sync_client=True) as client:
        yield client


def run_deployment(
    stack: Stack, name: str, due: datetime, *, state: str = "Completed", **parameters: Any
) -> FlowRun:
    """Let a deployment run as if its schedule had asked for it at ``due``, and wait for the end."""
    with prefect(stack) as client:
        deployment = client.read_deployment_by_name(name)
        run = client.create_flow_run_from_deployment(
            deployment.id, parameters=parameters, state=Scheduled(scheduled_time=due)
        )

        def ended() -> FlowRun | None:
            found = client.read_flow_run(run.id)
            return found if found.state is not None and found.state.is_final() else None

        found = wait_for(f"end of {name}", ended, stack.worker, stack.server)
    assert found.state_name == state, f"{found.state}\n{stack.worker.said()[-8000:]}"
    return found


def artifacts_of(stack: Stack, run: FlowRun) -> dict[str, Any]:
    """The data of a run's artifacts, by key."""
    of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run.id]))
    with prefect(stack) as client:
        found = client.read_artifacts(artifact_filter=of_run)
    return {str(artifact.key): artifact.data for artifact in found}


@dataclass
class Listener:
    """What takes notifications: an address, and the bodies that came there."""

    address: str
    heard: list[dict[str, Any]]


@pytest.fixture
def listener() -> Iterator[Listener]:
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Listener(f"http://127.0.0.1:{server.server_port}/hook", heard)
        server.shutdown()


@pytest.fixture(scope="module")
def night(stack: Stack) -> FlowRun:
    """The run of the fifth of January: the window's last day is the fourth."""
    return run_deployment(stack, "nightly/prod", datetime(2026, 1, 5, 4, 15, tzinfo=PARIS))


def test_the_server_asks_who_is_there(stack: Stack) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{stack.api}/admin/version", timeout=60)
    with prefect(stack) as client:
        assert client.api_version()


def test_the_server_keeps_its_runs_in_postgresql_and_tells_nobody(stack: Stack) -> None:
    with prefect(stack) as client:
        settings = client._client.get("/admin/settings").json()["server"]
    assert settings["database"]["driver"] == "postgresql+asyncpg"
    assert settings["analytics_enabled"] is False


def test_the_schedule_is_kept_by_a_second_deploy(stack: Stack) -> None:
    deployment = deployment_of(stack, "nightly/prod")
    (schedule,) = deployment.schedules
    assert (schedule.slug, schedule.active) == ("every-night", True)
    assert deployment.work_pool_name == "night"
    assert deployment.global_concurrency_limit is not None
    assert deployment.global_concurrency_limit.limit == 1
    assert set(deployment.parameter_openapi_schema["properties"]) >= {"config", "env", "as_of"}


def deployment_of(stack: Stack, name: str) -> DeploymentResponse:
    with prefect(stack) as client:
        return client.read_deployment_by_name(name)


def test_the_server_schedules_the_next_nights(stack: Stack) -> None:
    deployment = deployment_of(stack, "nightly/prod")

    def scheduled() -> list[FlowRun] | None:
        with prefect(stack) as client:
            runs = client.read_flow_runs()
        found = [r for r in runs if r.deployment_id == deployment.id and r.auto_scheduled]
        return found or None

    for run in wait_for("scheduled night", scheduled, stack.server):
        assert run.parameters == {"config": "configs/base.yaml", "env": "prod"}
        assert run.next_scheduled_start_time is not None
        due = datetime.fromtimestamp(run.next_scheduled_start_time.timestamp(), UTC)
        assert due.astimezone(PARIS).strftime("%H:%M") == "04:15"


def test_a_scheduled_night_publishes_the_last_day_that_was_over(
    stack: Stack, night: FlowRun
) -> None:
    assert night.parameters == {"config": "configs/base.yaml", "env": "prod"}
    assert night.name == "chain-metrics 2026-01-04"
    (release,) = hbpipe.read(stack.lake, "releases").to_pylist()
    assert release["as_of"] == date(2026, 1, 4)
    assert hbpipe.read(stack.lake, "posteriors").num_rows > 0


def test_a_night_is_few_task_runs(stack: Stack, night: FlowRun) -> None:
    of_run = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[night.id]))
    with prefect(stack) as client:
        runs = client.read_task_runs(task_run_filter=of_run)
    assert sorted(run.name for run in runs) == ["aggregate", "audit", "fit", "release", "update"]


def test_the_workers_of_the_cluster_did_it(stack: Stack, night: FlowRun) -> None:
    with urllib.request.urlopen(f"http://{stack.scheduler}/metrics", timeout=60) as answer:
        told = answer.read().decode()
    assert 'task_prefix_name="summarise_readings"' in told


def test_its_artifacts_are_read_back(stack: Stack, night: FlowRun) -> None:
    found = artifacts_of(stack, night)
    assert found["chain-metrics-report"].startswith("# Release 2026-01-04.1")
    pools = json.loads(found["chain-metrics-hyperparameters"])
    assert {row["metric"] for row in pools} == {"conversion", "basket_value", "orders"}
    assert all("drift" in row for row in pools)
    days = json.loads(found["chain-metrics-days"])
    assert {row["reason"] for row in days} == {"missing"}
    assert days[-1]["day"] == "2026-01-04"
    assert "fail" not in {row["status"] for row in json.loads(found["chain-metrics-audits"])}
    stages = ("aggregate", "fit", "update", "audit", "release")
    assert [found[f"chain-metrics-{stage}"] for stage in stages] == [100.0] * 5


def test_the_audit_recounts_and_publishes_its_findings(stack: Stack, night: FlowRun) -> None:
    run = run_deployment(stack, "audit/prod", datetime(2026, 1, 5, 6, 30, tzinfo=PARIS))
    assert run.name == "chain-metrics audit 2026-01-04"
    findings = json.loads(artifacts_of(stack, run)["chain-metrics-findings"])
    assert findings
    assert all(finding["fine"] for finding in findings)


def test_history_is_backfilled_on_the_cluster(stack: Stack, night: FlowRun) -> None:
    due = datetime(2026, 1, 5, 9, 0, tzinfo=PARIS)
    run = run_deployment(stack, "backfill/prod", due, start="2026-01-02", end="2026-01-03")
    assert run.name == "chain-metrics 2026-01-02..2026-01-03"
    found = artifacts_of(stack, run)
    assert "2 release(s) published" in found["chain-metrics-report"]
    assert found["chain-metrics-backfill"] == 100.0
    assert as_of_days(stack) == [2, 3, 4]


def as_of_days(stack: Stack) -> list[int]:
    """The days of January of which there is a release."""
    return sorted(day.day for day in hbpipe.read(stack.lake, "releases")["as_of"].to_pylist())


def test_a_run_that_fails_is_told(
    stack: Stack, night: FlowRun, tmp_path: Path, listener: Listener
) -> None:
    secret = tmp_path / "webhook"
    secret.write_text(listener.address)
    command = [sys.executable, "-m", "flows.alerts", "--webhook", f"file:{secret}"]
    environment = {
        "PREFECT_API_URL": stack.api,
        "PREFECT_API_AUTH_STRING": stack.auth,
        "PREFECT_HOME": str(tmp_path),
    }
    subprocess.run(command, cwd=ROOT, env={**PLAIN, **environment}, check=True, timeout=240)
    due = datetime(2026, 1, 20, 4, 15, tzinfo=PARIS)
    run = run_deployment(stack, "nightly/prod", due, state="Failed")
    told = wait_for("notification", lambda: next(iter(listener.heard), None), stack.server)
    assert told["text"].startswith(f"hbpipe: {run.name} Failed")
    assert "no events of 2026-01-19 or later have arrived" in told["text"]
    with prefect(stack) as client:
        names = sorted(automation.name for automation in client.read_automations())
    assert names == ["hbpipe: end runs that fell silent", "hbpipe: tell of bad ends"]


def test_the_next_night_runs_without_the_server(stack: Stack, night: FlowRun) -> None:
    stack.server.stop()
    command = [sys.executable, "-m", "hbpipe.cli", "run", "--config", "configs/base.yaml"]
    done = subprocess.run(
        [*command, "--env", "prod", "--json"],
        cwd=ROOT,
        env={**PLAIN, **stack.environment, "HBPIPE__CLUSTER__NO_WORKERS_TIMEOUT_S": "60"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["as_of"] == "2026-01-05"
    assert [day["day"] for day in report["days"]] == ["2026-01-05"]
    assert as_of_days(stack) == [2, 3, 4, 5]
