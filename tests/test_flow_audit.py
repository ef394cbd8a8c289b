"""The audit flow on a real Prefect server and a real lake: what it finds, and that it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.audit import audit
from hbpipe.errors import GateError
from tests.nights import lake_of, night, settings_for, write_config, write_days

pytestmark = pytest.mark.usefixtures("prefect_server")


def findings_of(pipeline: str) -> list[dict[str, Any]]:
    key = ArtifactFilter(key=ArtifactFilterKey(any_=[f"{pipeline}-findings"]))
    with get_client(sync_client=True) as client:
        (table,) = client.read_artifacts(artifact_filter=key)
    found: list[dict[str, Any]] = json.loads(table.data)
    return found


def released(folder: Path, pipeline: str) -> str:
    """Run a night on three days of events; returns the settings file."""
    write_days(folder, 3)
    night(settings_for(folder, pipeline=pipeline))
    return str(write_config(folder, pipeline=pipeline))


def test_a_lake_that_adds_up_passes(tmp_path: Path) -> None:
    audit(released(tmp_path, "sound"), sample=2)
    assert all(finding["fine"] for finding in findings_of("sound"))
    with get_client(sync_client=True) as client:
        names = [run.name for run in client.read_flow_runs()]
    assert "sound audit 2026-01-03" in names


def test_a_damaged_lake_fails_and_says_where(tmp_path: Path) -> None:
    config = released(tmp_path, "damaged")
    folder = Path(lake_of(settings_for(tmp_path)).path("posteriors"))
    damaged = next(folder.rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-8])
    with pytest.raises(GateError, match="checks failed"):
        audit(config)
    first = findings_of("damaged")[0]
    assert not first["fine"]
    assert damaged.name in first["message"]


def test_its_parameters_have_a_schema() -> None:
    sample = audit.parameters.properties["sample"]
    assert sample["minimum"] == 1
    assert sample["default"] == 3
    with pytest.raises(Exception, match="greater than or equal to 1"):
        audit.validate_parameters({"config": "any.yaml", "sample": 0})
