"""The maintenance flow on a real Prefect server and a real lake."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.audit import audit
from flows.maintenance import maintenance
from tests.flows.prefect_runs import artifact, released, rows, the_run

pytestmark = pytest.mark.usefixtures("prefect_server")


def test_maintenance_tells_what_it_kept_and_how_fresh_readers_are(tmp_path: Path) -> None:
    config = released(tmp_path, "kept")
    maintenance(config)
    assert the_run("kept maintenance 2026-01-03").state_name == "Completed"
    assert "release(s) kept" in artifact("kept-report")
    assert [row["environment"] for row in rows("kept-freshness")] == ["prod"]
    audit(config)
