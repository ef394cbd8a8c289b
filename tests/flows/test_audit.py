"""The audit flow on a real Prefect server and a real lake: what it finds, shows, and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.audit import audit
from hbpipe.errors import GateError
from tests.flows.prefect_runs import released, rows, the_run
from tests.nights import lake_of, settings_for

pytestmark = pytest.mark.usefixtures("prefect_server")


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


def test_full_bayes_is_asked_for_and_shown(tmp_path: Path) -> None:
    """These nights are plug-in, and their intervals too narrow."""
    with pytest.raises(GateError, match=r"1 of .* checks failed: full_bayes"):
        audit(released(tmp_path, "bayes"), sample=1, full_bayes=True)
    shown = rows("bayes-full-bayes")
    assert (shown[0]["status"], shown[0]["gate"]) == ("fail", "full_bayes")
    assert "comparisons with full Bayes disagree" in rows("bayes-findings")[0]["message"]


def test_its_parameters_have_a_schema() -> None:
    sample = audit.parameters.properties["sample"]
    assert sample["minimum"] == 1
    assert sample["default"] == 3
    with pytest.raises(Exception, match="greater than or equal to 1"):
        audit.validate_parameters({"config": "any.yaml", "sample": 0})
