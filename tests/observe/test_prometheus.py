"""Gauges: what a run leaves in the textfile and at the Pushgateway, and what it leaves alone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from hbpipe.errors import LakeError
from hbpipe.observe import record
from hbpipe.observe.gauges import GAUGES, Gauges
from hbpipe.report.night import NightReport
from tests.observe.nights_watched import (
    ended,
    held_night,
    late_night,
    refused_night,
    warned_night,
    watched_night,
)
from tests.observe.servers import web_server

Samples = dict[tuple[str, str], float]


def parsed(text: str) -> Samples:
    """Samples by gauge and own label."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation
        for sample in family.samples:
            own = {k: v for k, v in sample.labels.items() if k not in ("pipeline", "environment")}
            found[sample.name, "".join(own.values())] = sample.value
    return found


OF_NIGHTS = {name for name in GAUGES if not name.startswith("hbpipe_rebuild_")}


def samples(path: Path) -> Samples:
    return parsed(path.read_text(encoding="utf-8"))


def test_a_night_leaves_every_gauge(tmp_path: Path) -> None:
    path = tmp_path / "hbpipe.prom"
    report: NightReport = watched_night(tmp_path, observe={"prometheus": {"textfile": str(path)}})
    found = samples(path)
    assert {name for name, _ in found} == OF_NIGHTS
    assert found["hbpipe_exit_status", ""] == 0
    assert found["hbpipe_days_processed", ""] == 2
    assert {kind: found["hbpipe_rows", kind] for kind in report.rows} == report.rows
    assert found["hbpipe_audit_failures", "rejected_share"] == 0
    assert {key for name, key in found if name == "hbpipe_stage_duration_seconds"} == {
        "aggregate",
        "fit",
        "update",
        "audit",
        "release",
    }
    end = datetime(2026, 1, 3, tzinfo=UTC)
    assert found["hbpipe_latest_published_day_seconds", ""] == end.timestamp()
    assert list(tmp_path.glob("hbpipe.prom*")) == [path], "nothing is left beside it"


def test_runs_that_fail_keep_what_they_do_not_know(tmp_path: Path) -> None:
    path = tmp_path / "hbpipe.prom"
    observe = {"prometheus": {"textfile": str(path)}}
    watched_night(tmp_path, observe=observe)
    first = samples(path)
    kept = [
        ("hbpipe_last_success_timestamp_seconds", ""),
        ("hbpipe_latest_published_day_seconds", ""),
    ]

    held_night(tmp_path, observe=observe)
    held = samples(path)
    assert {key: held[key] for key in kept} == {key: first[key] for key in kept}
    assert held["hbpipe_exit_status", ""] == 3
    assert held["hbpipe_days_held", ""] == 1
    assert held["hbpipe_audit_failures", "rejected_share"] == 1
    assert held["hbpipe_last_run_timestamp_seconds", ""] > first[kept[0]]
    assert ("hbpipe_audit_failures", "fits_converged") not in held, "it was not looked at"

    late_night(tmp_path, observe=observe)
    late = samples(path)
    assert late["hbpipe_exit_status", ""] == 5
    refused_night(tmp_path, observe=observe)
    refused = samples(path)
    assert refused["hbpipe_exit_status", ""] == 4
    for name, key in held:
        if name not in {
            "hbpipe_exit_status",
            "hbpipe_last_run_timestamp_seconds",
            "hbpipe_duration_seconds",
            "hbpipe_stage_retries",
        }:
            assert late[name, key] == refused[name, key] == held[name, key]


def test_a_pushgateway_gets_the_same(tmp_path: Path) -> None:
    with web_server() as gateway:
        warned_night(tmp_path, observe={"prometheus": {"push": gateway.url}})
    (request,) = gateway.requests
    assert request.method == "POST", "what is not pushed stays"
    assert request.path == "/metrics/job/hbpipe/environment/prod/pipeline/tiny"
    found = parsed(request.body)
    assert found["hbpipe_exit_status", ""] == 0
    assert found["hbpipe_audit_warnings", "window_filled"] == 1
    assert found["hbpipe_audit_failures", "window_filled"] == 0


def test_a_pushgateway_that_refuses_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with web_server() as gateway:
        gateway.status = 400
        watched_night(tmp_path, observe={"prometheus": {"push": gateway.url}})
    (told,) = caplog.records
    assert told.getMessage() == (
        "observe.prometheus.push: the server answered 400; the run is not affected"
    )


def test_a_lake_that_cannot_be_read_afterwards_costs_one_gauge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hbpipe.prom"

    def gone(*_: object) -> None:
        raise LakeError("the store is gone")

    monkeypatch.setattr(record, "current_release", gone)
    watched_night(tmp_path, observe={"prometheus": {"textfile": str(path)}})
    missing = OF_NIGHTS - {name for name, _ in samples(path)}
    assert missing == {"hbpipe_latest_published_day_seconds"}
    assert "stays as it was: the store is gone" in caplog.text


def test_a_backfill_leaves_the_gauges_of_nights_alone(tmp_path: Path) -> None:
    path = tmp_path / "hbpipe.prom"
    with web_server() as gateway:
        observe = {"prometheus": {"textfile": str(path), "push": gateway.url}}
        ended(tmp_path, None, kind="backfill", observe=observe)
    assert not OF_NIGHTS & {name for name, _ in samples(path)}
    assert samples(path)["hbpipe_rebuild_exit_status", ""] == 0
    assert len(gateway.requests) == 1


def test_upkeep_leaves_every_gauge_alone(tmp_path: Path) -> None:
    path = tmp_path / "hbpipe.prom"
    with web_server() as gateway:
        observe = {"prometheus": {"textfile": str(path), "push": gateway.url}}
        ended(tmp_path, None, kind="vacuum", observe=observe)
    assert gateway.requests == []
    assert not path.exists()


def test_what_another_pipeline_left_stays() -> None:
    theirs = Gauges("other", "prod", {"hbpipe_rows": {"in": 5}, "hbpipe_exit_status": {"": 3}})
    ours = Gauges(
        "tiny",
        "prod",
        {"hbpipe_rows": {"in": 1}},
        _written(Gauges("tiny", "prod", {"hbpipe_rows": {"in": 9, "odd": 9}}, theirs.collect())),
    )
    text = generate_latest(ours.registry()).decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'hbpipe_exit_status{environment="prod",pipeline="other"} 3.0',
        'hbpipe_rows{environment="prod",kind="in",pipeline="other"} 5.0',
        'hbpipe_rows{environment="prod",kind="in",pipeline="tiny"} 1.0',
    ]


def _written(gauges: Gauges) -> list[Metric]:
    return list(text_string_to_metric_families(generate_latest(gauges.registry()).decode()))


def test_a_broken_file_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "hbpipe.prom"
    path.write_text("hbpipe_rows{ 3")
    watched_night(tmp_path, observe={"prometheus": {"textfile": str(path)}})
    assert samples(path)["hbpipe_exit_status", ""] == 0
    assert "holds no gauges" in caplog.text


def test_the_readme_lists_every_gauge(root: Path) -> None:
    text = (root / "hbpipe/observe/README.md").read_text(encoding="utf-8")
    for name, (label, _) in GAUGES.items():
        assert f"| `{name}{{{label}}}` |" in text if label else f"| `{name}` |" in text
