"""A late file by the command line: plan names its day, run repairs it, diff shows what moved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hbpipe.cli import main
from tests.nights import day, settings_for, visits, write, write_config, write_days

AUTO = {"window": "3d", "uncertainty": "auto"}


def test_a_late_file_is_named_repaired_and_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_days(tmp_path, 6)
    config = str(write_config(tmp_path, inference=AUTO))
    assert settings_for(tmp_path, inference=AUTO).inference.window == 3

    def told(verb: str, *options: str, code: int = 0) -> Any:
        assert main([verb, "--config", config, "--json", *options]) == code
        return json.loads(capsys.readouterr().out)

    span = ("--start", str(day(2)), "--end", str(day(5)), "--yes")
    assert len(told("backfill", *span)["released"]) == 4

    late = [{**row, "store_id": "s1", "converted": True} for row in visits(4, rows=30, seed=4)]
    write(tmp_path / "events" / "late.parquet", late)
    plan = told("plan", code=10)
    assert [one["day"] for one in plan["days"]] == [str(day(4))]
    assert plan["days"][0]["reason"] == "input changed: late.parquet"
    assert plan["affects"] == [str(day(4))], "the other released day whose window holds it"

    report = told("run")
    assert [one["day"] for one in report["days"]] == [str(day(4))]
    assert (report["release"], report["rows"]["accepted"]) == (f"{day(5)}.2", 70)
    assert [one["release"] for one in report["stale"]] == [f"{day(4)}.1"]

    moves = told("diff", f"{day(5)}.1", f"{day(5)}.2", "--threshold", "0.5")
    assert "s1" in json.dumps(moves)
    assert told("plan")["days"] == []
    assert [one["as_of"] for one in told("backfill", *span)["released"]] == [str(day(4))]
    assert told("verify", "--full")["fine"]
