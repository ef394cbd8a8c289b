"""Which days are due, and why: one fault of the delivery after the other."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hbpipe.config import Settings
from hbpipe.errors import EventsError, LateError
from hbpipe.model.families import FAMILIES
from hbpipe.run import fingerprints
from hbpipe.run.engine import SerialEngine
from hbpipe.run.plan import Plan, make_plan
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


def planned(settings: Settings, **options: Any) -> Plan:
    return make_plan(settings, lake_of(settings), SerialEngine(), **{"now": NOW, **options})


def due(found: Plan) -> dict[str, str]:
    """Day to reason, as ``plan --json`` lists them."""
    return {one["day"]: one["reason"] for one in found.to_dict()["days"]}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Three days of events, one file each."""
    write_days(tmp_path, 3)
    return settings_for(tmp_path)


@pytest.fixture
def done(tmp_path: Path) -> Settings:
    """The same after a night."""
    return first_night(tmp_path, 3)


def file_of(settings: Settings, number: int) -> Path:
    return Path(settings.events.path) / f"{day(number)}.parquet"


def test_at_first_every_day_of_events_is_missing(settings: Settings) -> None:
    found = planned(settings)
    assert due(found) == {str(day(k)): "missing" for k in range(3)}
    assert [one.files for one in found.days] == [(f"{day(k)}.parquet",) for k in range(3)]
    assert [one.rows for one in found.days] == [40, 40, 40]
    assert found.work
    assert found.to_dict()["as_of"] == str(day(2))
    assert not lake_of(settings).version("files"), "planning writes nothing"


def test_after_the_night_nothing_is_due_and_it_says_why(done: Settings) -> None:
    found = planned(done)
    assert not found.work
    assert due(found) == {}
    assert found.stock.surveyed == ()
    assert f"{day(2)}.1" in found.release_reason
    assert "up to date" in found.release_reason


def test_a_touched_file_is_not_changed(done: Settings) -> None:
    os.utime(file_of(done, 1), ns=(1, 1))
    found = planned(done)
    assert found.stock.surveyed == (f"{day(1)}.parquet",)
    assert not found.work


def test_changed_content_makes_its_day_stale(done: Settings) -> None:
    write(file_of(done, 1), visits(1, seed=1))
    found = planned(done)
    assert due(found) == {str(day(1)): f"input changed: {day(1)}.parquet"}
    assert "1 day(s)" in found.release_reason


def test_a_straggler_in_a_new_file_makes_the_older_day_stale(done: Settings) -> None:
    late = [row | {"event_id": "late"} for row in visits(0, rows=1, seed=9)]
    write(file_of(done, 3), visits(3) + late)
    found = planned(done)
    assert due(found) == {
        str(day(0)): f"input changed: {day(3)}.parquet",
        str(day(3)): "missing",
    }
    assert {one.day: one.rows for one in found.days}[found.days[0].day] == 41
    assert found.days[0].files == (f"{day(0)}.parquet", f"{day(3)}.parquet")


def test_a_day_that_loses_its_rows_is_stale(done: Settings) -> None:
    write(file_of(done, 1), visits(2, seed=5))
    assert due(planned(done)) == {
        str(day(1)): "input changed: rows left the day, or its last run was cut off",
        str(day(2)): f"input changed: {day(1)}.parquet",
    }
    night(done)
    assert not planned(done).work


def test_the_same_bytes_under_a_new_name_count_once(done: Settings) -> None:
    copy = Path(done.events.path) / "again.parquet"
    copy.write_bytes(file_of(done, 1).read_bytes())
    found = planned(done)
    assert not found.work
    assert found.stock.files["again.parquet"].state == "duplicate"
    assert found.stock.files["again.parquet"].duplicate_of == f"{day(1)}.parquet"
    assert found.stock.files["again.parquet"].totals()["repeated"] == 40


def test_the_copy_counts_when_the_first_changes(done: Settings) -> None:
    copy = Path(done.events.path) / "again.parquet"
    copy.write_bytes(file_of(done, 1).read_bytes())
    night(done)
    write(file_of(done, 1), visits(1, seed=1))
    found = planned(done)
    assert found.stock.files["again.parquet"].state == "read"
    assert [one.rows for one in found.days] == [80]
    assert found.days[0].files == (f"{day(1)}.parquet", "again.parquet")


def test_a_copy_that_goes_leaves_nothing_behind(done: Settings) -> None:
    copy = Path(done.events.path) / "again.parquet"
    copy.write_bytes(file_of(done, 1).read_bytes())
    night(done)
    copy.unlink()
    found = planned(done)
    assert not found.work
    assert found.notes == ()
    assert sum(found.stock.files["again.parquet"].totals().values()) == 0


def test_a_renamed_file_keeps_its_days(done: Settings) -> None:
    file_of(done, 1).rename(Path(done.events.path) / "renamed.parquet")
    found = planned(done)
    assert not found.work
    assert found.notes == ()
    assert found.stock.files["renamed.parquet"].totals()["accepted"] == 40
    night(done)
    (Path(done.events.path) / "renamed.parquet").rename(file_of(done, 1))
    found = planned(done)
    assert not found.work
    assert found.stock.files[f"{day(1)}.parquet"].totals()["accepted"] == 40
    assert sum(found.stock.files["renamed.parquet"].totals().values()) == 0


def test_a_vanished_file_keeps_its_statistics_and_is_shown(done: Settings, tmp_path: Path) -> None:
    away = tmp_path / "away.parquet"
    file_of(done, 1).rename(away)
    found = planned(done)
    assert not found.work
    assert found.stock.files[f"{day(1)}.parquet"].state == "gone"
    assert "1 file(s) vanished" in found.notes[0]
    night(done)
    assert {to: e.state for to, e in planned(done).stock.ledger.items()}[found.window[1]] == "gone"
    away.rename(file_of(done, 1))
    night(done)
    back = planned(done)
    assert not back.work
    assert back.notes == ()
    assert {entry.state for entry in back.stock.ledger.values()} == {"complete"}


def test_a_stale_day_whose_input_has_gone_is_left_alone(done: Settings) -> None:
    file_of(done, 1).unlink()
    write(Path(done.events.path) / "late.parquet", visits(1, rows=3, seed=4))
    found = planned(done)
    assert not found.days
    assert any(f"{day(1)} is stale" in note and "vanished" in note for note in found.notes)


def test_late_input_is_looked_for_within_the_horizon(tmp_path: Path) -> None:
    write_days(tmp_path, 4)
    settings = settings_for(tmp_path, events={"horizon": "2d"})
    night(settings)
    for number in (1, 2):
        write(tmp_path / "events" / f"late-{number}.parquet", visits(number, rows=2, seed=3))
    found = planned(settings)
    assert set(due(found)) == {str(day(2))}, "days 2 and 3 are the last two"
    assert any(f"{day(1)} is stale" in note and "--full-scan" in note for note in found.notes)
    assert set(due(planned(settings, full_scan=True))) == {str(day(1)), str(day(2))}
    night(settings)
    assert set(due(planned(settings, full_scan=True))) == {str(day(1))}, "it is not forgotten"


def test_a_new_kernel_version_makes_every_day_stale(
    done: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    family = FAMILIES["beta_binomial"]
    newer = replace(family, kernel_version=family.kernel_version + 1)
    monkeypatch.setitem(FAMILIES, "beta_binomial", newer)
    assert due(planned(done)) == {str(day(k)): "code changed" for k in range(3)}


def test_a_new_model_version_makes_a_new_release_of_the_same_days(
    done: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "MODEL_VERSION", fingerprints.MODEL_VERSION + 1)
    found = planned(done)
    assert found.work
    assert not found.days
    assert found.release_reason == "code changed since its release"


def test_settings_of_the_statistics_make_days_stale(tmp_path: Path, done: Settings) -> None:
    metrics = {"bought": {"family": "gamma_poisson", "count": "converted", "exposure": "rows"}}
    assert due(planned(settings_for(tmp_path, metrics=metrics))) == {
        str(day(k)): "settings changed" for k in range(3)
    }


def test_settings_of_the_inference_make_a_new_release_only(tmp_path: Path, done: Settings) -> None:
    found = planned(settings_for(tmp_path, inference={"quantiles": [0.1, 0.9]}))
    assert not found.days
    assert found.release_due
    assert found.release_reason == "inference settings changed since its release"


def test_the_engine_never_makes_anything_stale(tmp_path: Path, done: Settings) -> None:
    cluster = {"kind": "local", "workers": 7, "processes": True}
    assert not planned(settings_for(tmp_path, cluster=cluster)).work


def test_another_environment_has_its_own_release(tmp_path: Path, done: Settings) -> None:
    found = planned(settings_for(tmp_path, environment="dev"))
    assert not found.days
    assert found.release_reason == f"no release of {day(2)} in dev yet"


def test_a_held_day_is_tried_again(tmp_path: Path, settings: Settings) -> None:
    rows = visits(1)
    for row in rows[:10]:
        row["store_id"] = None
    write(file_of(settings, 1), rows)
    with pytest.raises(Exception, match="rejected_share"):
        night(settings)
    assert due(planned(settings)) == {str(day(1)): "held: rejected_share"}
    generous = settings_for(tmp_path, audits={"max_rejected_share": 0.5})
    night(generous)
    assert not planned(generous).work


def test_by_default_the_latest_day_that_is_over_is_meant(settings: Settings) -> None:
    noon = datetime.combine(day(2), datetime.min.time(), UTC) + timedelta(hours=12)
    assert planned(settings, now=noon).to_dict()["as_of"] == str(day(1))
    assert planned(settings, now=noon).to_dict()["window"] == [str(day(0)), str(day(1))]


def test_an_explicit_day_is_taken(settings: Settings) -> None:
    assert set(due(planned(settings, as_of=day(1)))) == {str(day(0)), str(day(1))}


def test_a_day_that_is_not_over_is_late(settings: Settings) -> None:
    noon = datetime.combine(day(2), datetime.min.time(), UTC) + timedelta(hours=12)
    with pytest.raises(LateError, match=f"the day {day(2)} is not over.*2026-01-04T00:00:00"):
        planned(settings, now=noon, as_of=day(2))


def test_a_day_without_events_yet_is_late(settings: Settings) -> None:
    with pytest.raises(LateError, match=f"no events of {day(3)} or later.*last day .* {day(2)}"):
        planned(settings, as_of=day(3))


def test_when_no_day_is_over_it_is_late(settings: Settings) -> None:
    with pytest.raises(LateError, match=f"no day .* is complete: the day {day(0)} is not over"):
        planned(settings, now=datetime(2026, 1, 1, 12, tzinfo=UTC))


def test_a_window_without_events_is_late_and_says_where_they_are(settings: Settings) -> None:
    with pytest.raises(LateError, match=f"no events lie between .* {day(0)} to {day(2)}"):
        planned(settings, as_of=day(-5))


def test_the_business_day_ends_where_the_settings_say(tmp_path: Path) -> None:
    # 03:30 in Tokyo belongs to the day before, as the till closes at four.
    rows = [row | {"ts": datetime(2026, 1, 2, 3, 30)} for row in visits(0)[:5]]
    rows += [row | {"ts": datetime(2026, 1, 2, 4, 30)} for row in visits(0)[5:9]]
    write(tmp_path / "events" / "a.parquet", rows)
    settings = settings_for(tmp_path, events={"timezone": "Asia/Tokyo", "day_start": "04:00"})
    over = datetime(2026, 1, 2, 19, 0, tzinfo=UTC)  # 04:00 on 3 January in Tokyo
    found = planned(settings, now=over)
    assert {one["day"]: one["rows"] for one in found.to_dict()["days"]} == {
        "2026-01-01": 5,
        "2026-01-02": 4,
    }
    before = planned(settings, now=over - timedelta(seconds=1))
    assert before.to_dict()["as_of"] == "2026-01-01"


def test_a_window_reads_only_its_own_days(tmp_path: Path) -> None:
    write_days(tmp_path, 5)
    found = planned(settings_for(tmp_path, inference={"window": "2d"}))
    assert set(due(found)) == {str(day(3)), str(day(4))}


def test_the_window_all_begins_with_the_first_event(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    write(tmp_path / "events" / "old.parquet", visits(-40))
    found = planned(settings_for(tmp_path, inference={"window": "all"}))
    assert found.to_dict()["window"] == [str(day(-40)), str(day(1))]
    assert len(found.days) == 42, "the days between are empty, and still days"
    assert {one.rows for one in found.days} == {0, 40}


def test_ids_of_two_types_are_refused(settings: Settings) -> None:
    write(file_of(settings, 3), [row | {"store_id": 7} for row in visits(3)])
    with pytest.raises(EventsError, match=r"are \['string', 'int64'\].*'007' and 7 are different"):
        planned(settings)


def test_a_single_file_has_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "one.parquet", visits(0) + visits(1))
    settings = settings_for(tmp_path, events={"path": str(path)})
    assert [one["files"] for one in planned(settings).to_dict()["days"]] == [["one.parquet"]] * 2
    night(settings)
    rows = visits(0) + visits(1, seed=1)
    write(path, rows)
    assert due(planned(settings))[str(day(1))] == "input changed: one.parquet"


def test_a_typing_error_in_a_date_does_not_move_the_day(settings: Settings) -> None:
    rows = visits(3)
    rows[0]["ts"] = datetime(2062, 1, 4)
    write(file_of(settings, 3), rows)
    assert planned(settings).to_dict()["as_of"] == str(day(3))
    assert date(2062, 1, 4) not in {one.day for one in planned(settings).days}
