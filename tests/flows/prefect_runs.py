"""What Prefect's server has of runs: their states, their task runs, what they showed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun

from tests.nights import first_night, lake_of, settings_for, write_config


def artifacts(key: str) -> list[Artifact]:
    """The artifacts of a key, one for each run that showed it."""
    of_key = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=of_key)


def artifact(key: str) -> Any:
    """The data of the only artifact of a key."""
    (found,) = artifacts(key)
    return found.data


def rows(key: str) -> list[dict[str, Any]]:
    """The rows of the table artifact of a key."""
    found: list[dict[str, Any]] = json.loads(artifact(key))
    return found


def the_run(name: str) -> FlowRun:
    """The only flow run of a name."""
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_flow_runs() if run.name == name]
    assert len(runs) == 1, f"one run named {name}"
    return runs[0]


def tasks_of(run: FlowRun) -> list[str]:
    """The names of a run's task runs, in order."""
    of_run = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[run.id]))
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(task_run_filter=of_run)
    return [one.name for one in sorted(found, key=lambda one: one.created)]


def released(folder: Path, pipeline: str, max_age: str = "99999d") -> str:
    """Run a night on three days of events; returns the settings file."""
    first_night(folder, 3, pipeline=pipeline)
    return str(write_config(folder, pipeline=pipeline, audits={"max_age": max_age}))


def published(folder: Path) -> list[str]:
    """The releases of a lake, in the order of their days."""
    found = lake_of(settings_for(folder)).read("releases").sort_by("as_of")
    return found["release"].to_pylist()
