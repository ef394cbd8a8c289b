"""``hbpipe audit --checks``: the checks of a night, above all of one that published nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hbpipe.cli import main
from tests.nights import day, visits, write, write_config, write_days


def test_the_checks_of_a_failed_night_are_shown_failures_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_days(tmp_path, 1)
    config = str(write_config(tmp_path))

    def told(verb: str, *options: str, code: int = 0) -> Any:
        assert main([verb, "--config", config, "--json", *options]) == code
        return json.loads(capsys.readouterr().out)

    assert "no check is recorded" in told("audit", "--checks", code=1)["error"]["found"]
    good = told("run")["run_id"]
    found = told("audit", "--checks")
    assert (found["run_id"], found["failed"]) == (good, 0)

    odd = [{**row, "store_id": None} for row in visits(1)[:20]]
    write(tmp_path / "events" / f"{day(1)}.parquet", [*odd, *visits(1)[20:]])
    told("run", code=3)
    found = told("audit", "--checks", code=3)
    assert found["failed"] == 1
    first = found["checks"][0]
    assert (first["status"], first["name"], first["subject"]) == (
        "fail",
        "rejected_share",
        str(day(1)),
    )
    assert told("read", "audits", "--where", "status=fail")["count"] == 0, "it has no release"

    assert told("audit", "--checks", "--as-of", str(day(0)))["run_id"] == good
    assert told("audit", "--checks", "--run", good)["failed"] == 0
    unknown = told("audit", "--checks", "--run", "nobody", code=1)
    assert "of run 'nobody'" in unknown["error"]["found"]
    assert main(["audit", "--config", config, "--checks"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("checks failed")
    assert lines[2].split()[:3] == ["fail", str(day(1)), "rejected_share"]


def test_a_night_that_an_earlier_one_has_held_names_the_day(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [{**row, "store_id": None} for row in visits(0)[:20]]
    write(tmp_path / "events" / f"{day(0)}.parquet", [*odd, *visits(0)[20:]])
    write_days(tmp_path, 1, first=1)
    config = str(write_config(tmp_path))
    span = ("--start", str(day(0)), "--end", str(day(1)), "--yes", "--json")
    assert main(["backfill", "--config", config, *span]) == 3
    failed = json.loads(capsys.readouterr().out)["failed"]
    assert failed[1]["reason"].startswith(
        f"1 day(s) of the window are held: {day(0)} (rejected_share)"
    )
    assert "--accept-audit rejected_share --day DAY" in failed[1]["reason"]
