"""What heals by itself, what a flag takes in, and what a lake refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hbpipe.errors import ConfigError, GateError
from hbpipe.run import commits
from hbpipe.run.engine import SerialEngine
from hbpipe.run.plan import make_plan
from hbpipe.run.releases import read
from hbpipe.run.verification.verify import verify
from tests.nights import (
    CONVERSION,
    NOW,
    day,
    lake_of,
    night,
    settings_for,
    visits,
    write,
    write_days,
)


class CutOffError(BaseException):
    """The process dies here."""


def events_in_release(settings: Any) -> int:
    return int(sum(read(lake_of(settings), "posteriors")["n_events"].to_pylist()))


@pytest.mark.parametrize("place", ["write_files", "write_days"])
def test_a_day_cut_off_is_done_again_however_old_it_is(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(
        tmp_path, events={"horizon": "2d"}, inference={"window": "9d", "uncertainty": "plug_in"}
    )
    write_days(tmp_path, 4)
    night(settings)
    write(tmp_path / "events" / "late.parquet", visits(2, rows=5, seed=9))
    original, calls = getattr(commits, place), []

    def dies(*arguments: Any) -> None:
        calls.append(arguments)
        if place == "write_files" or len(calls) == 2:  # the first write of days says "begun"
            raise CutOffError
        original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(commits, place, dies)
        with pytest.raises(CutOffError):
            night(settings)
    write_days(tmp_path, 3, first=4)  # by now the day lies beyond the horizon
    report = night(settings)
    assert day(2).isoformat() in [one["day"] for one in report.days]
    assert events_in_release(settings) == 7 * 40 + 5
    assert all(one.fine for one in verify(settings, lake_of(settings), full=True))


def test_a_corrected_file_under_a_new_name_is_taken_in_when_the_old_is_given_up(
    tmp_path: Path,
) -> None:
    settings = settings_for(tmp_path)
    write_days(tmp_path, 3)
    night(settings)
    (tmp_path / "events" / f"{day(1)}.parquet").unlink()
    write(tmp_path / "events" / "again.parquet", visits(1, rows=25, seed=3))
    left = night(settings)
    assert not left.published
    assert "Nothing to do: nothing can be done for the 1 day(s)" in left.text()
    assert any("--accept-missing" in note for note in left.notes)
    taken = night(settings, accept_missing=True)
    assert [one["day"] for one in taken.days] == [day(1).isoformat()]
    assert events_in_release(settings) == 40 + 25 + 40
    assert not night(settings).published
    assert all(one.fine for one in verify(settings, lake_of(settings), full=True))


def test_days_of_two_definitions_are_not_released_together(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    night(settings_for(tmp_path))
    (tmp_path / "events" / f"{day(1)}.parquet").unlink()
    rare = {"family": "beta_binomial", "successes": "converted", "trials": "rows"}
    rare["where"] = [["amount", ">", 20]]
    changed = settings_for(tmp_path, metrics={"conversion": rare})
    with pytest.raises(GateError, match="one_definition"):
        night(changed)
    night(changed, accept_missing=True)


def test_a_lake_belongs_to_one_pipeline(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    night(settings_for(tmp_path))
    with pytest.raises(ConfigError, match="belongs to the pipeline 'tiny', not 'other'"):
        night(settings_for(tmp_path, pipeline="other"))


def test_unseen_history_is_told_where_days_are_the_exposure(tmp_path: Path) -> None:
    write_days(tmp_path, 5)
    orders = {"family": "gamma_poisson", "count": "converted", "exposure": "days"}
    settings = settings_for(
        tmp_path, metrics={**CONVERSION, "orders": orders}, inference={"window": "3d"}
    )
    plan = make_plan(settings, lake_of(settings), SerialEngine(), now=NOW)
    assert any("2 day(s) of events before the window" in note for note in plan.notes)
    counts = settings_for(tmp_path, inference={"window": "3d"})
    assert make_plan(counts, lake_of(counts), SerialEngine(), now=NOW).notes == ()
