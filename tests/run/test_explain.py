"""One business day explained, as one thing after the other happens to it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hbpipe.cli import main
from hbpipe.config import Settings
from hbpipe.run.engine import SerialEngine
from hbpipe.run.explain import Explanation, explain_day
from hbpipe.run.stock import take_stock
from tests.nights import (
    NOW,
    day,
    lake_of,
    night,
    settings_for,
    visits,
    write,
    write_config,
    write_days,
)

INFERENCE = {"window": "2d", "uncertainty": "plug_in"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    write_days(tmp_path, 4)
    return settings_for(tmp_path, events={"horizon": "1d"}, inference=INFERENCE)


def explained(settings: Settings, number: int, now: datetime = NOW) -> Explanation:
    lake = lake_of(settings)
    return explain_day(take_stock(settings, lake, SerialEngine(), now=now), lake, day(number))


def same(found: Explanation) -> dict[str, Any]:
    return {row["of"]: row["same"] for row in found.fingerprints}


def test_the_life_of_a_day(settings: Settings, tmp_path: Path) -> None:
    found = explained(settings, 2)
    assert (found.state, found.due, found.reason) == ("missing", True, "missing")
    assert [row["made_from"] for row in found.fingerprints] == [None, None, None]
    assert (found.runs, found.releases) == ([], [])
    assert [(row["path"], row["rows"], row["pending"]) for row in found.files] == [
        (f"{day(2)}.parquet", 40, 40)
    ]

    first, second = night(settings, as_of=day(2)), night(settings)
    found = explained(settings, 2)
    assert (found.state, found.due) == ("complete", False)
    assert found.reason == "done: neither its input, nor code, nor settings changed"
    assert same(found) == {"input": True, "kernel": True, "settings": True}
    assert found.files[0]["accepted"] == 40
    assert [(run["run_id"], run["releases"]) for run in found.runs] == [
        (first.run_id, [first.release, second.release])
    ]
    assert [(row["release"], row["stale"]) for row in found.releases] == [
        (first.release, None),
        (second.release, None),
    ]

    write(tmp_path / "events" / "late.parquet", visits(2, rows=5, seed=8))
    found = explained(settings, 2)
    assert found.due
    assert found.reason == (
        "input changed: late.parquet; beyond events.horizon: a night needs --full-scan"
    )
    assert same(found) == {"input": False, "kernel": True, "settings": True}
    assert [row["pending"] for row in found.files] == [0, 5]

    third = night(settings, full_scan=True)
    found = explained(settings, 2)
    assert not found.due
    assert [(run["run_id"], run["releases"]) for run in found.runs] == [
        (first.run_id, [first.release, second.release]),
        (third.run_id, [third.release]),
    ]
    assert {row["release"]: row["stale"] for row in found.releases} == {
        first.release: f"1 of its days changed since: {day(2)}",
        second.release: None,  # another of its day is newer
        third.release: None,
    }


def test_days_that_no_night_does(settings: Settings, tmp_path: Path) -> None:
    night(settings)
    assert explained(settings, 0).reason == (
        f"missing; a night of {day(3)} does not reach it: backfill"
    )
    assert explained(settings, 9).reason == "no file has rows of it"
    early = datetime.combine(day(3), datetime.min.time(), NOW.tzinfo) + timedelta(hours=9)
    assert explained(settings, 3, early).reason == f"the day {day(3)} is not over"
    (tmp_path / "events" / f"{day(3)}.parquet").unlink()
    found = explained(settings, 3)
    assert (found.state, found.due) == ("complete", False)
    assert [row["state"] for row in found.files] == ["gone"]


def test_the_verb(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = night(settings)
    config = write_config(tmp_path, events={"horizon": "1d"}, inference=INFERENCE)
    capsys.readouterr()
    assert main(["explain", str(day(3)), "--config", str(config)]) == 0
    text = capsys.readouterr().out
    assert f"{day(3)}: complete\nNot due: done" in text
    assert report.run_id in text
    assert main(["explain", str(day(3)), "--config", str(config), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["day"] == str(day(3))
    assert [row["release"] for row in found["releases"]] == [report.release]
