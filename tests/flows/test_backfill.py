"""The backfill flow on a real Prefect server and a real lake: batches, failures, what it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import flows.backfill
import flows.tasks
from flows.backfill import backfill
from hbpipe.data.clock import to_number
from hbpipe.errors import EngineError, GateError
from hbpipe.run.rebuild import Rebuild
from tests.flows.prefect_runs import artifact, published, rows, tasks_of, the_run
from tests.nights import day, visits, write, write_config, write_days

pytestmark = pytest.mark.usefixtures("prefect_server")


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
