"""The other flows on a real Prefect server and a real lake: what they do, show, and refuse."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.flow_engine import run_flow
from prefect.states import AwaitingRetry, Scheduled

import flows.backfill
import flows.nightly
import flows.tasks
from flows.audit import audit
from flows.backfill import backfill
from flows.maintenance import maintenance
from flows.nightly import nightly
from hbpipe.data.clock import to_number
from hbpipe.errors import EngineError, GateError
from hbpipe.run.night import Night
from hbpipe.run.rebuild import Rebuild
from hbpipe.run.runs import read_runs
from hbpipe.run.stages import STAGES
from tests.nights import day, lake_of, night, settings_for, visits, write, write_config, write_days

pytestmark = pytest.mark.usefixtures("prefect_server")


def rows(key: str) -> list[dict[str, Any]]:
    """The rows of the table artifact of a key."""
    found: list[dict[str, Any]] = json.loads(artifact(key))
    return found


def artifact(key: str) -> Any:
    """The data of the artifact of a key."""
    of_key = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    with get_client(sync_client=True) as client:
        (found,) = client.read_artifacts(artifact_filter=of_key)
    return found.data


def the_run(name: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        (run,) = [run for run in client.read_flow_runs() if run.name == name]
    return run


def tasks_of(run: FlowRun) -> list[str]:
    of_run = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run.id]))
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(task_run_filter=of_run)
    return [one.name for one in sorted(found, key=lambda one: one.created)]


def released(folder: Path, pipeline: str, max_age: str = "99999d") -> str:
    """Run a night on three days of events; returns the settings file."""
    write_days(folder, 3)
    night(settings_for(folder, pipeline=pipeline))
    return str(write_config(folder, pipeline=pipeline, audits={"max_age": max_age}))


def test_a_lake_that_adds_up_passes(tmp_path: Path) -> None:
    audit(released(tmp_path, "sound"), sample=2)
    assert all(finding["fine"] for finding in rows("sound-findings"))
    assert the_run("sound audit 2026-01-03").state_name == "Completed"


def test_a_damaged_lake_fails_and_says_where(tmp_path: Path) -> None:
    config = released(tmp_path, "damaged")
    folder = Path(lake_of(settings_for(tmp_path)).path("posteriors"))
    damaged = next(folder.rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-8])
    with pytest.raises(GateError, match="checks failed"):
        audit(config)
    first = rows("damaged-findings")[0]
    assert not first["fine"]
    assert damaged.name in first["message"]


def test_a_release_that_is_too_old_fails(tmp_path: Path) -> None:
    with pytest.raises(GateError, match=r"1 of .* checks failed: freshness"):
        audit(released(tmp_path, "old", max_age="36h"))
    assert "readers see 2026-01-03; " in rows("old-findings")[0]["message"]


def test_its_parameters_have_a_schema() -> None:
    sample = audit.parameters.properties["sample"]
    assert sample["minimum"] == 1
    assert sample["default"] == 3
    with pytest.raises(Exception, match="greater than or equal to 1"):
        audit.validate_parameters({"config": "any.yaml", "sample": 0})


# --- backfill -----------------------------------------------------------------------------------


def published(folder: Path) -> list[str]:
    found = lake_of(settings_for(folder)).read("releases").sort_by("as_of")
    return found["release"].to_pylist()


def test_a_range_is_published_by_a_task_for_each_batch(tmp_path: Path) -> None:
    write_days(tmp_path, 4)
    config = str(write_config(tmp_path, pipeline="range"))
    backfill(config, day(0), day(3), max_active=3)
    assert published(tmp_path) == [f"{day(k)}.1" for k in range(4)]
    run = the_run("range 2026-01-01..2026-01-04")
    assert run.state_name == "Completed"
    assert tasks_of(run) == [
        "statistics of 2026-01-01..2026-01-03",
        "statistics of 2026-01-04",
        "releases of 2026-01-01..2026-01-03",
        "releases of 2026-01-04",
    ]
    assert [row["day"] for row in rows("range-days")] == [str(day(k)) for k in range(4)]
    assert [row["as_of"] for row in rows("range-nights")] == [str(day(k)) for k in range(4)]
    assert artifact("range-backfill") == 100.0
    assert "4 release(s) published" in artifact("range-report")


def test_a_long_range_is_few_task_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.backfill, "MOST_TASKS", 3)
    write_days(tmp_path, 4)
    backfill(str(write_config(tmp_path, pipeline="long")), day(0), day(3), max_active=1)
    assert published(tmp_path) == [f"{day(k)}.1" for k in range(4)]
    assert tasks_of(the_run("long 2026-01-01..2026-01-04")) == [
        "statistics of 2026-01-01 and 2 more",
        "statistics of 2026-01-04 and 2 more",
        "releases of 2026-01-03 and 1 more",
    ]


def test_a_batch_that_lost_its_cluster_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.tasks, "RETRY_DELAYS_S", [0, 0])
    publish = Rebuild._publish_one
    lost = [EngineError("a worker was lost")]

    def losing(self: Rebuild, due: Any) -> None:
        if due.as_of == to_number(day(1)) and lost:
            raise lost.pop()
        publish(self, due)

    monkeypatch.setattr(Rebuild, "_publish_one", losing)
    write_days(tmp_path, 3)
    backfill(str(write_config(tmp_path, pipeline="flaky-range")), day(0), day(2))
    assert published(tmp_path) == [f"{day(k)}.1" for k in range(3)], "each once"


def test_a_night_that_fails_its_gate_fails_the_run_and_no_other_night(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    faulty = [{**row, "store_id": None} for row in visits(1)]
    write(tmp_path / "events" / f"{day(1)}.parquet", [*visits(1, rows=5), *faulty])
    config = str(write_config(tmp_path, pipeline="odd", inference={"window": "1d"}))
    with pytest.raises(GateError, match=r"1 night\(s\) failed .*2026-01-02"):
        backfill(config, day(0), day(2))
    assert published(tmp_path) == [f"{day(0)}.1", f"{day(2)}.1"]
    assert the_run("odd 2026-01-01..2026-01-03").state_name == "Failed"


def test_the_parameters_of_a_backfill_have_a_schema() -> None:
    found = backfill.parameters.properties
    assert found["reprocess"]["enum"] == ["missing", "failed", "all"]
    assert found["start"]["format"] == "date"
    assert set(backfill.parameters.required) == {"config", "start", "end"}
    with pytest.raises(Exception, match="Input should be 'missing', 'failed' or 'all'"):
        backfill.validate_parameters(
            {"config": "a", "start": "2026-01-01", "end": "2026-01-01", "reprocess": "none"}
        )


# --- nightly, tried again -----------------------------------------------------------------------


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


# --- maintenance --------------------------------------------------------------------------------


def test_maintenance_tells_what_it_kept_and_how_fresh_readers_are(tmp_path: Path) -> None:
    config = released(tmp_path, "kept")
    maintenance(config)
    assert the_run("kept maintenance 2026-01-03").state_name == "Completed"
    assert "release(s) kept" in artifact("kept-report")
    assert [row["environment"] for row in rows("kept-freshness")] == ["prod"]
    audit(config)
