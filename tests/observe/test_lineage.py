"""OpenLineage events: what they say of a night, in the words of the specification."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hbpipe.errors import LakeError
from hbpipe.observe import datasets, observers_of
from hbpipe.observe.facets import dataset_name
from hbpipe.observe.lineage import ParentRun, lineage_id
from hbpipe.report.night import NightReport
from hbpipe.run.backfill import backfill
from hbpipe.run.night import open_night
from tests.nights import NOW, day, lake_of, night, settings_for, write_days
from tests.observe.nights_watched import ended, held_night, refused_night, watched_night
from tests.observe.servers import web_server

Event = dict[str, Any]


def events_of(path: Path) -> list[Event]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NightReport, list[Event]]:
    folder = tmp_path_factory.mktemp("published")
    path = folder / "lineage"
    report = watched_night(folder, observe={"openlineage": {"path": str(path)}})
    return folder, report, events_of(path)


def every_ending(folder: Path) -> list[Event]:
    """Events of runs that end in every way: published in a flow, held, never planned, of many."""
    path = folder / "lineage"
    observe = {"openlineage": {"path": str(path)}}
    write_days(folder, 2)
    settings = settings_for(folder, observe=observe)
    parent = ParentRun("3f5e83fa-3480-44ff-99c5-ff943904e5e8", "prefect", "nightly")
    night(settings, observer=observers_of(settings, parent=parent))
    held_night(folder, observe=observe)
    refused_night(folder, observe=observe)
    observer = observers_of(settings, parent=parent)
    backfill(settings, start=day(0), end=day(2), now=NOW, observer=observer)
    return events_of(path)


def facets_in(part: Any) -> Iterator[Event]:
    """Every facet, wherever in an event."""
    for value in part.values() if isinstance(part, dict) else part:
        if isinstance(value, dict | list):
            if "_schemaURL" in value:
                yield value
            yield from facets_in(value)


def test_a_night_is_a_start_and_a_completion_of_one_run(
    published: tuple[Path, NightReport, list[Event]],
) -> None:
    _, report, (start, complete) = published
    assert [start["eventType"], complete["eventType"]] == ["START", "COMPLETE"]
    assert start["eventTime"] < complete["eventTime"]
    assert {e["run"]["runId"] for e in (start, complete)} == {lineage_id(report.run_id)}
    assert uuid.UUID(start["run"]["runId"]).version == 5
    assert start["job"]["namespace"] == "hbpipe"
    assert start["job"]["name"] == "tiny.prod"
    nominal = start["run"]["facets"]["nominalTime"]
    assert nominal["nominalStartTime"] == "2026-01-02T00:00:00+00:00"
    assert nominal["nominalEndTime"] == "2026-01-03T00:00:00+00:00"
    tags = {tag["key"]: tag["value"] for tag in complete["run"]["facets"]["tags"]["tags"]}
    assert tags == {"run_id": report.run_id, "release": report.release}


def test_every_event_and_facet_says_who_and_by_which_schema(
    published: tuple[Path, NightReport, list[Event]],
) -> None:
    for event in published[2]:
        assert event["producer"].startswith("urn:hbpipe:")
        assert event["schemaURL"].endswith("/spec/2-0-2/OpenLineage.json#/$defs/RunEvent")
        assert datetime.fromisoformat(event["eventTime"]).utcoffset() is not None
        found = list(facets_in(event))
        assert len(found) > 4
        for facet in found:
            assert facet["_producer"] == event["producer"]
            base, _, name = facet["_schemaURL"].partition("#/$defs/")
            assert base.startswith("https://openlineage.io/spec/facets/")
            assert base.endswith(f"/{name}.json")


def test_inputs_are_the_events_with_what_was_read_and_found(
    published: tuple[Path, NightReport, list[Event]],
) -> None:
    folder, _, (start, complete) = published
    assert start["inputs"] == [{"namespace": "file", "name": str(folder / "events")}]
    (events,) = complete["inputs"]
    fields = {field["name"]: field["type"] for field in events["facets"]["schema"]["fields"]}
    assert fields["store_id"] == "string"
    assert fields["ts"] == "timestamp[us]"
    read = events["inputFacets"]["inputStatistics"]
    files = list((folder / "events").iterdir())
    assert (read["rowCount"], read["fileCount"]) == (80, 2)
    assert read["size"] == sum(path.stat().st_size for path in files)
    found = events["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert {one["assertion"] for one in found} >= {"rows_conserved", "rejected_share"}
    assert all(one["success"] for one in found)


def test_outputs_are_the_tables_as_the_release_names_them(
    published: tuple[Path, NightReport, list[Event]],
) -> None:
    folder, _, (start, complete) = published
    assert start["outputs"] == []
    lake = lake_of(settings_for(folder))
    (row,) = lake.read("releases").to_pylist()
    tables = {Path(one["name"]).name: one for one in complete["outputs"]}
    assert {
        name: int(one["facets"]["version"]["datasetVersion"]) for name, one in tables.items()
    } == dict(row["versions"])
    assert all(one["facets"]["storage"]["storageLayer"] == "delta" for one in tables.values())
    posteriors = tables["posteriors"]
    assert posteriors["outputFacets"]["outputStatistics"]["rowCount"] == 6
    columns = [field["name"] for field in posteriors["facets"]["schema"]["fields"]]
    assert columns == lake.snapshot("posteriors").schema.names
    fields = posteriors["facets"]["columnLineage"]["fields"]
    assert fields["store_id"]["inputFields"][0]["field"] == "store_id"
    assert [one["field"] for one in fields["mean"]["inputFields"]] == ["converted"]
    assert fields["q0.05"]["inputFields"][0]["transformations"][0]["subtype"] == "AGGREGATION"
    days = tables["statistics"]["facets"]["columnLineage"]["fields"]["day"]
    assert [one["field"] for one in days["inputFields"]] == ["ts"]


def test_a_failed_run_says_of_what(tmp_path: Path) -> None:
    watched_night(tmp_path)
    path = tmp_path / "lineage"
    observe = {"openlineage": {"path": str(path), "namespace": "shop"}}
    held_night(tmp_path, observe=observe)
    refused_night(tmp_path, observe=observe)
    events = events_of(path)
    assert [event["eventType"] for event in events] == ["START", "FAIL", "START", "FAIL"]
    assert {event["job"]["namespace"] for event in events} == {"shop"}
    messages = [events[k]["run"]["facets"]["errorMessage"]["message"] for k in (1, 3)]
    assert messages[0].startswith("GateError: 1 check(s) of the data gate failed")
    assert messages[1].startswith("LeaseError: ")
    assert "nominalTime" not in events[3]["run"]["facets"], "it never had a plan"


def test_the_last_event_is_sent_when_the_lake_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(_: object) -> None:
        raise LakeError("the store is gone")

    monkeypatch.setattr(datasets, "outputs", gone)
    path = tmp_path / "lineage"
    watched_night(tmp_path, observe={"openlineage": {"path": str(path)}})
    last = events_of(path)[-1]
    assert last["eventType"] == "COMPLETE"
    assert (len(last["inputs"]), last["outputs"]) == (1, [])
    assert caplog.messages == ["observe.openlineage: without what was written: the store is gone"]


def test_another_kind_of_run_is_another_job(tmp_path: Path) -> None:
    path = tmp_path / "lineage"
    ended(tmp_path, None, kind="backfill", observe={"openlineage": {"path": str(path)}})
    events = events_of(path)
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"]
    assert {event["job"]["name"] for event in events} == {"tiny.prod.backfill"}


def test_a_parent_is_named_and_an_interruption_is_an_abortion(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    path = tmp_path / "lineage"
    settings = settings_for(tmp_path, observe={"openlineage": {"path": str(path)}})
    parent = ParentRun(run_id=str(uuid.uuid4()), namespace="prefect", job="nightly")
    observer = observers_of(settings, parent=parent)
    with pytest.raises(KeyboardInterrupt), open_night(settings, observer=observer, now=NOW):
        raise KeyboardInterrupt
    start, abort = events_of(path)
    assert abort["eventType"] == "ABORT"
    for event in (start, abort):
        named = event["run"]["facets"]["parent"]
        assert named["run"] == {"runId": parent.run_id}
        assert named["job"] == {"namespace": "prefect", "name": "nightly"}


def test_events_are_posted_in_order_with_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEAGE_KEY", "hunter2")
    with web_server() as server:
        url = f"{server.url}/api/v1/lineage"
        watched_night(tmp_path, observe={"openlineage": {"url": url, "api_key": "env:LINEAGE_KEY"}})
    assert [json.loads(r.body)["eventType"] for r in server.requests] == ["START", "COMPLETE"]
    assert {request.headers["Authorization"] for request in server.requests} == {"Bearer hunter2"}
    assert {request.path for request in server.requests} == {"/api/v1/lineage"}


@pytest.mark.parametrize(
    ("uri", "namespace", "name"),
    [
        ("/data/events", "file", "/data/events"),
        ("file:///data/events", "file", "/data/events"),
        ("s3://bucket/a/b", "s3://bucket", "a/b"),
        ("gs://bucket", "gs://bucket", "/"),
        (
            "abfs://box@account.dfs.core.windows.net/a",
            "abfs://box@account.dfs.core.windows.net",
            "a",
        ),
    ],
)
def test_datasets_are_named_as_the_specification_does(uri: str, namespace: str, name: str) -> None:
    assert dataset_name(uri) == {"namespace": namespace, "name": name}


def test_a_night_of_hive_folders_has_their_columns(tmp_path: Path) -> None:
    for path in write_days(tmp_path, 2):
        folder = path.parent / f"region=north/dt={path.stem}"
        folder.mkdir(parents=True)
        path.rename(folder / path.name)
    path = tmp_path / "lineage"
    watched_night(tmp_path, observe={"openlineage": {"path": str(path)}})
    (events,) = events_of(path)[1]["inputs"]
    names = [field["name"] for field in events["facets"]["schema"]["fields"]]
    assert names[-2:] == ["region", "dt"]
