"""How old what readers see is: by the latest day they see, in the zone of the business day."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hbpipe.cli import main
from hbpipe.data.lake import Lake
from hbpipe.run.freshness import Freshness, freshness, freshness_rows
from hbpipe.run.promotion import rollback
from tests.nights import day, settings_for, write_config
from tests.published import empty_lake, publish


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return empty_lake(tmp_path)


def fresh(lake: Lake, now: datetime, **options: Any) -> Freshness:
    sections = options.pop("sections", {})
    # No events are there, and none are looked for.
    settings = settings_for(Path(lake.uri).parent, **sections)
    return freshness(lake, settings, now=now, **options)[0]


def at(number: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime.combine(day(number), datetime.min.time(), UTC) + timedelta(
        hours=hour, minutes=minute
    )


def test_late_is_older_than_the_limit(lake: Lake) -> None:
    publish(lake, day(0), at=at(1, 4))
    found = fresh(lake, at(2, 12))  # the day ended 36 hours ago
    assert not found.late
    assert found.age == timedelta(hours=36)
    assert found.to_dict() == {
        "environment": "prod",
        "late": False,
        "release": f"{day(0)}.1",
        "as_of": str(day(0)),
        "released_at": "2026-01-02T04:00:00+00:00",
        "age_hours": 36.0,
        "behind_days": 1,
        "expected": str(day(1)),
        "expected_age_hours": 12.0,
        "pinned": None,
    }
    assert fresh(lake, at(2, 12, 1)).late
    assert not fresh(lake, at(2, 12, 1), max_age=timedelta(days=2)).late
    assert not fresh(lake, at(3), sections={"audits": {"max_age": "48h"}}).late


def test_a_day_is_expected_when_its_late_files_are_no_longer_awaited(lake: Lake) -> None:
    publish(lake, day(0), at=at(1, 4))
    waiting = {"events": {"complete_after": "6h"}}
    early, later = (fresh(lake, at(2, hour), sections=waiting) for hour in (5, 6))
    assert (early.expected, early.behind) == (day(0), 0)
    assert (later.expected, later.behind) == (day(1), 1)
    assert later.overdue == timedelta(hours=6)


def test_an_older_day_does_not_make_it_fresh(lake: Lake) -> None:
    publish(lake, day(1), at=at(2, 4))
    assert fresh(lake, at(6)).late
    publish(lake, day(0), at=at(5, 23))
    found = fresh(lake, at(6))
    assert found.late
    assert found.as_of == day(1)
    assert found.behind == 4


def test_a_pin_ages_and_says_whose_it_is(lake: Lake) -> None:
    publish(lake, day(0))
    publish(lake, day(1))
    rollback(lake, "prod", reason="wrong prices", now=at(2, 5))
    publish(lake, day(4))
    found = fresh(lake, at(5, 4))
    assert found.late
    assert found.release == f"{day(0)}.1"
    assert found.pin is not None
    assert found.to_dict()["pinned"]["reason"] == "wrong prices"
    assert freshness_rows([found])[0]["pinned by"] == found.pin.by


def test_every_environment_is_told_its_own_first(lake: Lake) -> None:
    publish(lake, day(0), environment="dev")
    publish(lake, day(5))
    found = freshness(lake, settings_for(Path(lake.uri).parent), now=at(6, 4))
    assert [(one.environment, one.late) for one in found] == [("prod", False), ("dev", True)]


def test_without_a_release_it_is_late(lake: Lake) -> None:
    found = fresh(lake, at(6))
    assert found.late
    assert (found.release, found.age, found.behind) == (None, None, None)
    assert freshness_rows([found])[0]["release"] == "none"


def test_the_verb_exits_with_five_when_its_own_environment_is_late(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(write_config(tmp_path))]
    today = datetime.now(UTC).date()
    publish(lake, today - timedelta(days=1))
    publish(lake, day(0), environment="dev")
    assert main(["freshness", *config]) == 0
    printed = capsys.readouterr().out
    assert "fresh" in printed
    assert "late" in printed
    assert main(["freshness", *config, "--max-age", "1m"]) == 5
    assert main(["freshness", *config, "--set", "environment=dev", "--json"]) == 5
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["late"] is True
    assert [one["environment"] for one in found["environments"]] == ["dev", "prod"]
    assert main(["freshness", *config, "--max-age", "soon"]) == 2
    assert "--max-age: expected a duration" in capsys.readouterr().err
