"""Plans as documents: run later, they do what they say and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hbpipe.config import Settings
from hbpipe.errors import ConfigError, EventsError, GateError, LakeError
from hbpipe.run import stages
from hbpipe.run.describe import describe_plan
from hbpipe.run.documents import PlanDocument, parse_document, planned_by, read_document
from hbpipe.run.engine import SerialEngine
from hbpipe.run.ledger import read_files
from hbpipe.run.plan import Plan, make_plan
from hbpipe.run.releases import read
from hbpipe.run.runs import find_run, read_runs
from tests.nights import NOW, day, lake_of, night, rows_of, settings_for, visits, write, write_days


def planned(settings: Settings, **options: Any) -> Plan:
    return make_plan(settings, lake_of(settings), SerialEngine(), now=NOW, **options)


def document_of(settings: Settings, **options: Any) -> PlanDocument:
    described = describe_plan(planned(settings, **options), lake_of(settings))
    return parse_document(json.dumps(described), "a plan")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Three days of events, one file each."""
    write_days(tmp_path, 3)
    return settings_for(tmp_path)


def file_of(settings: Settings, number: int) -> Path:
    return Path(settings.events.path) / f"{day(number)}.parquet"


def test_a_plan_says_what_it_reads_and_what_it_would_publish(settings: Settings) -> None:
    found = describe_plan(planned(settings), lake_of(settings))
    assert [one["bytes"] > 0 for one in found["days"]] == [True] * 3
    assert found["bytes"] == sum(one["bytes"] for one in found["days"])
    assert found["rows"] == 120
    assert found["expected_seconds"] is None, "there is no history yet"
    assert found["would_publish"]["release"] == f"{day(2)}.1"
    assert found["would_publish"]["environment"] == "prod"
    assert found["would_publish"]["metrics"] == ["conversion"]
    assert found["would_publish"]["pools"] is None, "pools are counted when they are fitted"
    assert "posteriors" in found["would_publish"]["tables"]
    assert [file["path"] for file in found["files"]] == [f"{day(k)}.parquet" for k in range(3)]
    assert {len(file["sha256"]) for file in found["files"]} == {64}
    assert found["affects"] == []


def test_a_plan_tells_its_seconds_from_the_runs_before(settings: Settings) -> None:
    night(settings)
    write_days(Path(settings.events.path).parent, 1, first=3)
    found = describe_plan(planned(settings), lake_of(settings))
    (run,) = read_runs(lake_of(settings))
    rest = sum(seconds for stage, seconds in run.seconds.items() if stage != "aggregate")
    assert found["expected_seconds"] == pytest.approx(run.seconds["aggregate"] / 3 + rest)
    assert found["would_publish"]["pools"] == 2
    night(settings)
    done = describe_plan(planned(settings), lake_of(settings))
    assert done["would_publish"] is None
    assert done["expected_seconds"] is None


def test_a_late_file_names_the_older_releases_that_become_stale(settings: Settings) -> None:
    for number in (0, 1, 2):
        night(settings, as_of=day(number))
    write(file_of(settings, 7), visits(1, rows=3, seed=4))
    found = describe_plan(planned(settings), lake_of(settings))
    assert [one["day"] for one in found["days"]] == [str(day(1))]
    assert found["affects"] == [str(day(1))], "day 0 ends before, day 2 is published anew"


def test_a_document_is_run_as_it_is_whatever_has_arrived_since(settings: Settings) -> None:
    document = document_of(settings)
    write(file_of(settings, 3), [*visits(3), {**visits(1)[0], "event_id": "late"}])
    report = night(settings, document=document)
    assert report.as_of == str(day(2))
    assert [one["rows"] for one in report.days] == [40, 40, 40]
    assert f"{day(3)}.parquet" not in read_files(lake_of(settings)), "it is the next run's"
    assert {one["day"] for one in night(settings).days} == {str(day(1)), str(day(3))}


def test_days_that_are_done_since_are_skipped(settings: Settings) -> None:
    document = document_of(settings)
    night(settings, as_of=day(1))
    report = night(settings, document=document)
    assert [one["day"] for one in report.days] == [str(day(2))]
    again = night(settings, document=document)
    assert (again.days, again.published) == ([], False)
    assert "up to date" in again.reason


def test_a_file_of_the_document_that_has_changed_is_an_error(settings: Settings) -> None:
    document = document_of(settings)
    write(file_of(settings, 1), visits(1, seed=8))
    with pytest.raises(EventsError, match=r"a file of the plan has other content.*plan again"):
        night(settings, document=document)
    file_of(settings, 1).unlink()
    with pytest.raises(EventsError, match=r"a file of the plan has vanished.*plan again"):
        night(settings, document=document)
    assert lake_of(settings).version("statistics") is None


def test_a_day_that_comes_from_other_files_by_now_is_an_error(settings: Settings) -> None:
    night(settings, as_of=day(1))
    document = document_of(settings)
    write(file_of(settings, 3), [{**visits(2)[0], "event_id": "late"}])
    night(settings, as_of=day(1))  # it learns of the file, whose day is not in its window
    with pytest.raises(EventsError, match=rf"{day(2)} comes from other files.*{day(3)}.parquet"):
        night(settings, document=document)


def test_a_late_copy_under_an_earlier_name_changes_nothing(settings: Settings) -> None:
    document = document_of(settings)
    copy = Path(settings.events.path) / "0-copy.parquet"
    copy.write_bytes(file_of(settings, 1).read_bytes())
    report = night(settings, document=document)
    assert [one["files"] for one in report.days] == [[f"{day(k)}.parquet"] for k in range(3)]
    assert night(settings).days == []
    assert read_files(lake_of(settings))["0-copy.parquet"].state == "duplicate"


def test_a_document_remembers_which_files_had_vanished(settings: Settings) -> None:
    night(settings)
    away = file_of(settings, 1).read_bytes()
    file_of(settings, 1).unlink()
    document = document_of(settings, accept_missing=True)
    assert document.delivery.vanished == {f"{day(1)}.parquet"}
    file_of(settings, 1).write_bytes(away)  # it is back, but the plan was made without it
    file_of(settings, 0).unlink()  # and this one has gone since
    report = night(settings, document=document)
    assert [one["day"] for one in report.days] == [str(day(1))]
    files = read_files(lake_of(settings))
    assert (files[f"{day(1)}.parquet"].state, files[f"{day(1)}.parquet"].rows) == ("gone", 0)
    assert files[f"{day(0)}.parquet"].state == "read", "the next run shows that it has gone"


def test_a_document_is_for_its_own_settings(tmp_path: Path, settings: Settings) -> None:
    document = document_of(settings)
    for changed, named in (
        ({"environment": "dev"}, "environment"),
        ({"inference": {"quantiles": [0.5]}}, "inference settings"),
        ({"events": {"day_start": "04:00"}}, "event settings"),
    ):
        with pytest.raises(ConfigError, match=f"{named} changed since the plan was made"):
            night(settings_for(tmp_path, **changed), document=document)


def test_a_run_that_failed_is_tried_again_by_its_own_plan(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stages.audits, "check_fits", _failing)
        with pytest.raises(GateError):
            night(settings)
    (failed,) = read_runs(lake_of(settings))
    write_days(Path(settings.events.path).parent, 1, first=3)  # the day after has come
    report = night(settings, retry=failed.run_id)
    assert (report.as_of, report.published) == (str(day(2)), True)
    first, second = read_runs(lake_of(settings))
    assert (first.state, second.state) == ("held", "done")
    assert second.plan is not None
    assert planned_by(second).window == planned_by(first).window
    twin = tmp_path_factory.mktemp("twin")
    write_days(twin, 3)
    night(settings_for(twin))
    for table in ("posteriors", "statistics", "days"):
        assert rows_of(read(lake_of(settings), table)) == rows_of(
            read(lake_of(settings_for(twin)), table)
        )


def _failing(*_: Any) -> Any:
    raise GateError("the fit is odd")


def test_what_cannot_be_tried_again_is_told(settings: Settings) -> None:
    with pytest.raises(LakeError, match="there is no run 'never'"):
        night(settings, retry="never")
    with pytest.raises(Exception, match="no events of"):
        night(settings, as_of=day(9))
    late = read_runs(lake_of(settings))[-1]
    with pytest.raises(ConfigError, match="ended before it had a plan: no events of"):
        night(settings, retry=late.run_id)
    assert find_run(lake_of(settings), "never") is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"as_of": "soon"}', '{"as_of": 3}', "not json", '{"as_of": null}']
)
def test_what_is_no_document_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"not the document of a plan.*hbpipe plan --out"):
        read_document(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="it is not text"):
        read_document(path)
