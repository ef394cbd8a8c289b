"""Attempts: what `runs` tells of each run, and who may begin."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from hbpipe.data.commit import FENCE
from hbpipe.data.lake import Lake
from hbpipe.errors import (
    ConfigError,
    EventsError,
    GateError,
    LateError,
    LeaseError,
)
from hbpipe.run import commits, stages
from hbpipe.run.attempt import Attempt, attempted
from hbpipe.run.night import open_night
from hbpipe.run.nightly import run_stage
from hbpipe.run.releases import RELEASED
from hbpipe.run.runs import RUNS, RunEntry, find_run, read_runs, require_run
from tests.nights import (
    NOW,
    day,
    first_night,
    lake_of,
    night,
    settings_for,
    visits,
    write,
    write_days,
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def attempt(lake: Lake, run_id: str) -> Attempt:
    one = Attempt(lake, run_id=run_id, kind="night", environment="prod")
    one.take_over()
    return one


def states(lake: Lake) -> dict[str, tuple[int, str]]:
    return {entry.run_id: (entry.attempt, entry.state) for entry in read_runs(lake)}


def test_a_night_is_one_row_that_tells_what_it_did(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    settings = settings_for(tmp_path)
    report = night(settings)
    (entry,) = read_runs(lake_of(settings))
    assert (entry.run_id, entry.attempt, entry.kind) == (report.run_id, 1, "night")
    assert (entry.environment, entry.as_of, entry.state) == ("prod", day(1), "done")
    assert set(entry.seconds) == {"aggregate", "fit", "update", "audit", "release"}
    assert entry.rows == 80
    assert entry.bytes > 0
    assert entry.error is None
    assert entry.finished_at is not None
    assert entry.finished_at >= entry.started_at
    assert entry.plan is not None
    assert set(lake_of(settings).read("runs").column_names) == set(RUNS.schema.names)


def test_attempts_rise_and_every_commit_carries_them(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    for number in (1, 2):
        write_days(tmp_path, 1, first=number - 1)
        night(settings)
        for name in ("statistics", "days", "files", "audits", "posteriors", "releases", "runs"):
            table = DeltaTable(lake_of(settings).path(name))
            assert table.transaction_version(FENCE) == number
    assert [entry.attempt for entry in read_runs(lake_of(settings))] == [1, 2]


def test_a_run_with_nothing_to_do_is_told_once(tmp_path: Path) -> None:
    settings = first_night(tmp_path, 2)
    lake = lake_of(settings)
    first = night(settings)
    versions = {name: lake.version(name) for name in (*RELEASED, "releases", "runs")}
    assert [entry.state for entry in read_runs(lake)] == ["done", "nothing"]
    night(settings)
    assert {name: lake.version(name) for name in versions} == versions
    assert read_runs(lake)[-1].run_id == first.run_id
    night(settings, as_of=day(0))
    assert [entry.state for entry in read_runs(lake)] == ["done", "nothing", "done"]
    night(settings)
    assert [entry.state for entry in read_runs(lake)][2:] == ["done", "nothing"]


def test_a_late_day_is_told_once_too(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    settings = settings_for(tmp_path)
    for _ in range(2):
        with pytest.raises(LateError):
            night(settings, as_of=day(5))
    (entry,) = read_runs(lake_of(settings))
    assert (entry.attempt, entry.state) == (1, "failed")
    assert "no events of 2026-01-06 or later" in (entry.error or "")
    night(settings)
    assert [one.state for one in read_runs(lake_of(settings))] == ["failed", "done"]


def test_a_gate_that_fails_is_held(tmp_path: Path) -> None:
    rows = visits(0)
    for row in rows[:20]:
        row["store_id"] = None
    write(tmp_path / "events" / "a.parquet", rows)
    settings = settings_for(tmp_path)
    with pytest.raises(GateError):
        night(settings)
    (entry,) = read_runs(lake_of(settings))
    assert entry.state == "held"
    assert "20 of 40 rows rejected" in (entry.error or "")
    assert set(entry.seconds) == {"aggregate"}


def test_another_pipelines_lake_is_not_written_to(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    night(settings_for(tmp_path))
    with pytest.raises(ConfigError):
        night(settings_for(tmp_path, pipeline="other"))
    assert len(read_runs(lake_of(settings_for(tmp_path)))) == 1


@pytest.mark.parametrize(
    ("error", "state", "told"),
    [
        (EventsError("broken", where={"file": "a"}), "failed", "broken (file a)"),
        (GateError("too many"), "held", "too many"),
        (ZeroDivisionError("division"), "failed", "ZeroDivisionError: division"),
        (KeyboardInterrupt(), "failed", "interrupted"),
    ],
)
def test_an_attempt_tells_how_it_ended(
    lake: Lake, error: BaseException, state: str, told: str
) -> None:
    def end_badly() -> None:
        with attempted(lake, run_id="a", kind="restate", environment="dev") as one:
            one.record(as_of=date(2026, 1, 1))
            raise error

    with pytest.raises(type(error)):
        end_badly()
    (entry,) = read_runs(lake)
    assert (entry.kind, entry.environment, entry.state, entry.error) == (
        "restate",
        "dev",
        state,
        told,
    )


def test_an_attempt_that_ends_well_is_done_or_had_nothing_to_do(lake: Lake) -> None:
    with attempted(lake, run_id="a", kind="night", environment="prod"):
        pass
    with attempted(lake, run_id="b", kind="night", environment="prod") as one:
        one.record()
    assert states(lake) == {"a": (1, "nothing"), "b": (2, "done")}


def test_the_first_error_is_shown_where_the_row_cannot_be_written(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    def end_badly() -> None:
        with attempted(lake, run_id="a", kind="night", environment="prod") as one:
            one.record()
            monkeypatch.setattr(Lake, "upsert", full)
            raise EventsError("first")

    with pytest.raises(EventsError, match="first"):
        end_badly()
    assert states(lake) == {"a": (1, "running")}


def test_of_two_that_looked_at_the_same_lake_only_one_begins(lake: Lake) -> None:
    first, second = attempt(lake, "a"), attempt(lake, "b")
    assert first.entry.attempt == second.entry.attempt == 1
    second.record()
    with pytest.raises(LeaseError, match="run b has begun since"):
        first.record()
    assert states(lake) == {"b": (1, "running")}


def test_a_run_left_running_is_abandoned_and_shut_out(lake: Lake) -> None:
    dead = attempt(lake, "dead")
    dead.record()
    heir = attempt(lake, "heir")
    assert heir.begun
    assert states(lake) == {"dead": (1, "abandoned"), "heir": (2, "running")}
    assert "heir took its place" in (read_runs(lake)[0].error or "")
    with pytest.raises(LeaseError, match="attempt 2 has taken the place"):
        dead.end("done")
    heir.end("done")
    assert states(lake) == {"dead": (1, "abandoned"), "heir": (2, "done")}


def test_whoever_takes_over_shuts_every_table_before_it_plans(tmp_path: Path) -> None:
    settings = first_night(tmp_path, 2)
    zombie = attempt(lake_of(settings), "zombie")
    zombie.record()
    heir = attempt(lake_of(settings), "heir")
    for name in (*RELEASED, "releases"):
        table = DeltaTable(heir.lake.path(name))
        assert table.transaction_version(FENCE) == heir.entry.attempt
    heir.end("done")
    versions = {name: heir.lake.version(name) for name in RELEASED}
    assert not night(settings).published, "a fence changes no rows"
    assert {name: heir.lake.version(name) for name in RELEASED} == versions


def test_the_statistics_of_a_day_that_another_has_done_are_refused(tmp_path: Path) -> None:
    """A writer without a fence, such as an older version, is noticed by what the ledger says."""
    write_days(tmp_path, 2)
    settings = settings_for(tmp_path)
    with open_night(settings, now=NOW) as one:
        commits.prepare_lake(one)
        before = one.lake.version("statistics")
        foreign = replace(one.plan.days[1].entry, input="other", files=1)
        commits.write_days(lake_of(settings), [foreign], "foreign")
        with pytest.raises(LeaseError, match=f"{day(1)} was done by somebody else"):
            run_stage(stages.aggregate, one)
        assert one.lake.version("statistics") == before


def test_a_release_names_what_its_own_run_committed(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    settings = settings_for(tmp_path)
    lake = lake_of(settings)
    with open_night(settings, now=NOW) as one:
        for stage in stages.STAGES[:-1]:
            run_stage(stage, one)
        own = dict(one.versions)
        # Somebody without a fence writes to a table that this run is done with.
        rows = lake.read("statistics").slice(0, 1).drop_columns(["day"])
        lake.replace("statistics", rows, run_id="x", partition={"day": str(day(0))})
        run_stage(stages.release, one)
    released = dict(lake.read("releases").to_pylist()[0]["versions"])
    assert released["statistics"] == own["statistics"]
    assert lake.version("statistics") == own["statistics"] + 1
    assert released == {name: one.versions[name] for name in RELEASED}


def test_a_name_is_given_once(lake: Lake) -> None:
    attempt(lake, "a").record()
    with pytest.raises(ConfigError, match="there has been a run 'a'"):
        attempt(lake, "a")
    assert states(lake) == {"a": (1, "running")}


def test_runs_are_found_by_name(lake: Lake) -> None:
    assert read_runs(lake) == []
    assert find_run(lake, "a") is None
    attempt(lake, "a").record(as_of=date(2026, 1, 1), seconds={"fit": 1.5}, rows=3)
    found = require_run(lake, "a")
    assert isinstance(found, RunEntry)
    assert (found.as_of, found.seconds, found.rows) == (date(2026, 1, 1), {"fit": 1.5}, 3)
    described = found.to_dict()
    assert "plan" not in described
    assert described["as_of"] == "2026-01-01"
    with pytest.raises(Exception, match=r"there is no run 'b'.*hbpipe status"):
        require_run(lake, "b")
