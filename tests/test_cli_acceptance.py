"""``--accept-audit`` through ``main``: exit codes, and what people are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hbpipe.run.audits import read_acceptances
from tests.nights import day, lake_of, settings_for, visits, write, write_config, write_days
from tests.verbs import Verb, verbs_of


@pytest.fixture
def hbpipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Run a verb on three days, of which the second is odd."""
    write_days(tmp_path, 3)
    rows = visits(1)
    for row in rows[:20]:
        row["chain_id"] = None
    write(tmp_path / "events" / f"{day(1)}.parquet", rows)
    config = write_config(tmp_path)
    return verbs_of(config, capsys)


def test_a_run_that_is_stopped_says_how_it_can_be_accepted(hbpipe: Verb) -> None:
    code, printed, _ = hbpipe("run", "--json")
    error = json.loads(printed)["error"]
    assert code == 3
    assert "--accept-audit rejected_share --reason TEXT" in error["remedy"]
    assert Path(error["where"]["staged"]).is_file()
    accept = ("--accept-audit", "rejected_share", "--reason", "a till was new")
    code, printed, _ = hbpipe("run", "--json", *accept)
    assert code == 0
    assert any("a till was new" in note for note in json.loads(printed)["notes"])
    code, printed, _ = hbpipe("read", "acceptances", "--json")
    assert code == 1, "acceptances are no part of a release"


def test_a_backfill_accepts(hbpipe: Verb) -> None:
    span = ("--start", str(day(0)), "--end", str(day(2)), "--yes", "--json")
    assert hbpipe("backfill", *span)[0] == 3
    accept = ("--accept-audit", "rejected_share", "--reason", "x", "--day", str(day(1)))
    code, printed, _ = hbpipe("backfill", *span, *accept)
    assert code == 0
    found = json.loads(printed)
    assert [one["as_of"] for one in found["released"]] == [str(day(1)), str(day(2))]
    assert any("accepted by" in note for note in found["notes"])


def test_a_restatement_accepts_for_the_reason_that_it_has_anyway(
    hbpipe: Verb, tmp_path: Path
) -> None:
    odd = tmp_path / "events" / f"{day(1)}.parquet"
    kept = odd.read_bytes()
    write(odd, visits(1))
    span = ("--start", str(day(1)), "--end", str(day(1)), "--yes", "--json")
    assert hbpipe("run")[0] == 0
    odd.write_bytes(kept)
    told = ("--reason", "a till was new")
    code, printed, _ = hbpipe("restate", *span, *told)
    assert (code, len(json.loads(printed)["failed"])) == (3, 1)
    accept = ("--accept-audit", "rejected_share", "--day", str(day(1)))
    code, printed, _ = hbpipe("restate", *span, *told, *accept)
    assert code == 0
    found = json.loads(printed)
    assert [one["release"] for one in found["released"]] == [f"{day(2)}.2"]
    (kept_for,) = read_acceptances(lake_of(settings_for(tmp_path))).values()
    assert (kept_for.check, kept_for.subject) == ("rejected_share", str(day(1)))
    assert kept_for.reason == "a till was new"
    assert hbpipe("restate", *span, *told)[0] == 0, "it sticks to the day as long as it is the same"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--accept-audit", "row_cuont", "--reason", "x"), "did you mean 'row_count'?"),
        (("--accept-audit", "row_count"), "none is given"),
        (("--accept-audit", "rows_conserved", "--reason", "x"), "cannot be accepted"),
        (("--reason", "x"), "--reason goes with --accept-audit"),
        (("--day", "2026-01-01"), "--day goes with --accept-audit"),
    ],
)
def test_wrong_usage(hbpipe: Verb, arguments: tuple[str, ...], message: str) -> None:
    code, _, error = hbpipe("run", *arguments)
    assert code == 2
    assert message in error
