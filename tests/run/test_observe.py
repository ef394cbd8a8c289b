"""What observers are told of a run, whichever way it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hbpipe.errors import GateError, LeaseError
from hbpipe.run.lease import Lease
from hbpipe.run.night import Night, open_night
from hbpipe.run.nightly import run_night
from hbpipe.run.observe import Observers, Opening, Silent
from tests.nights import NOW, day, lake_of, night, settings_for, visits, write, write_days


class Heard(Silent):
    """Keeps what it is told, as short words."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.opening: Opening | None = None
        self.night: Night | None = None
        self.error: BaseException | None = None

    def run_opened(self, opening: Opening) -> None:
        self.words.append("opened")
        self.opening = opening

    def run_planned(self, night: Night) -> None:
        self.words.append("planned")
        self.night = night

    def stage_started(self, stage: str) -> None:
        self.words.append(stage)

    def stage_finished(self, stage: str, summary: dict[str, Any]) -> None:
        self.words.append(f"{stage}.")

    def run_ended(self, error: BaseException | None) -> None:
        self.words.append("ended")
        self.error = error


STAGES = ["aggregate", "fit", "update", "audit", "release"]


def test_a_whole_night_is_told_in_order(tmp_path: Path) -> None:
    write_days(tmp_path, 2)
    heard = Heard()
    report = night(settings_for(tmp_path), observer=heard)
    told = [word for stage in STAGES for word in (stage, f"{stage}.")]
    assert heard.words == ["opened", "planned", *told, "ended"]
    assert heard.opening is not None
    assert (heard.opening.run_id, heard.opening.pipeline) == (report.run_id, "tiny")
    assert heard.night is not None
    assert heard.night.released is not None
    assert heard.error is None


def test_a_night_without_work_is_told_too(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    night(settings_for(tmp_path))
    heard = Heard()
    night(settings_for(tmp_path), observer=heard)
    assert heard.words == ["opened", "planned", "ended"]


def test_a_failed_gate_is_told_with_what_it_found(tmp_path: Path) -> None:
    bad = [{**row, "chain_id": None} for row in visits(0)]
    write(tmp_path / "events" / f"{day(0)}.parquet", [*bad[:20], *visits(0)[20:]])
    heard = Heard()
    with pytest.raises(GateError):
        night(settings_for(tmp_path), observer=heard)
    assert heard.words == ["opened", "planned", "aggregate", "ended"]
    assert isinstance(heard.error, GateError)


def test_a_run_that_gets_no_lease_is_told_and_ends(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    settings, heard = settings_for(tmp_path), Heard()
    with Lease(lake_of(settings)).acquire(run_id="another"), pytest.raises(LeaseError):
        run_night(settings, now=NOW, observer=heard)
    assert heard.words == ["opened", "ended"]
    assert isinstance(heard.error, LeaseError)


def test_the_end_is_told_when_the_lease_is_given_back(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    settings = settings_for(tmp_path)

    class Next(Silent):
        def run_ended(self, error: BaseException | None) -> None:
            Lease(lake_of(settings)).acquire(run_id="next").release()

    night(settings, observer=Next())


def test_an_interruption_is_an_end(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    heard = Heard()
    with (
        pytest.raises(KeyboardInterrupt),
        open_night(settings_for(tmp_path), observer=heard, now=NOW),
    ):
        raise KeyboardInterrupt
    assert isinstance(heard.error, KeyboardInterrupt)


def test_several_observers_are_told_in_their_order(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    first, second = Heard(), Heard()
    night(settings_for(tmp_path), observer=Observers(first, second))
    assert first.words == second.words
    assert len(first.words) == 3 + 2 * len(STAGES)
