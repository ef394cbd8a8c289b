"""Held days, failed gates and what a person accepts: what readers see throughout."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hbpipe.config import Settings
from hbpipe.errors import ConfigError, GateError
from hbpipe.run import audits
from hbpipe.run.audits import AcceptRequest
from hbpipe.run.audits.catalogue import INTEGRITY, NAMES
from hbpipe.run.backfill import backfill
from hbpipe.run.releases import current_release, read
from hbpipe.run.verification.verify import verify
from tests.nights import NOW, day, lake_of, night, settings_for, visits, write, write_days


def bad(folder: Path, number: int, rows: int = 40) -> None:
    """Write a day of which half the rows name no store."""
    found = visits(number, rows=rows)
    for row in found[: rows // 2]:
        row["store_id"] = None
    write(folder / "events" / f"{day(number)}.parquet", found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six days, of which the third has too many rejected rows."""
    write_days(tmp_path, 6)
    bad(tmp_path, 2)
    return tmp_path


def settings(folder: Path, **sections: Any) -> Settings:
    chosen = {"inference": {"window": "3d", "uncertainty": "plug_in"}, **sections}
    return settings_for(folder, **chosen)


def seen(one: Settings) -> str | None:
    """The release that readers see."""
    found = current_release(lake_of(one), "prod")
    return None if found is None else found["release"]


def accept(check: str = "rejected_share", on: date | None = None) -> AcceptRequest:
    return AcceptRequest.of(check, "the till was down", on)


def sound(one: Settings) -> bool:
    return all(found.fine for found in verify(one, lake_of(one)))


def status_of(one: Settings, name: str) -> list[str]:
    rows = lake_of(one).read("audits").to_pylist()
    return [row["status"] for row in rows if row["name"] == name and row["status"] != "pass"]


def test_a_held_day_is_accepted_and_stays_so_until_its_input_changes(folder: Path) -> None:
    one = settings(folder)
    night(one, as_of=day(1))
    with pytest.raises(GateError, match=r"--accept-audit rejected_share") as stopped:
        night(one, as_of=day(3))
    staged = str(stopped.value.where["staged"]).split(", ")
    assert all(Path(path).is_file() for path in staged), "for inspection"
    assert seen(one) == f"{day(1)}.1"

    report = night(one, as_of=day(3), accept=accept())
    assert seen(one) == f"{day(3)}.1"
    assert sound(one)
    assert any("accepted by" in note and "the till was down" in note for note in report.notes)
    (row,) = lake_of(one).read("acceptances").to_pylist()
    assert (row["check"], row["subject"], row["reason"]) == (
        "rejected_share",
        str(day(2)),
        "the till was down",
    )
    assert row["value"] == 0.5
    assert row["run_id"] == report.run_id

    # Measured again from the same input it passes, and says why.
    again = backfill(one, start=day(2), end=day(4), now=NOW, reprocess="all")
    assert not again.failed
    assert any("accepted by" in note for note in again.notes)
    assert sorted(status_of(one, "rejected_share")) == ["accepted", "accepted", "fail"]
    before = seen(one)
    assert before == f"{day(4)}.1"

    bad(folder, 2, rows=42)
    with pytest.raises(GateError, match=f"rejected_share of {day(2)}"):
        night(one, as_of=day(4))
    assert seen(one) == before


def test_nothing_else_is_accepted_on_the_way(folder: Path) -> None:
    one = settings(folder)
    with pytest.raises(GateError):
        night(one, as_of=day(3))
    bad(folder, 3)  # not seen to fail so far
    with pytest.raises(GateError, match=f"rejected_share of {day(3)}"):
        night(one, as_of=day(3), accept=accept())
    with pytest.raises(GateError, match=f"rejected_share of {day(3)}"):
        night(one, as_of=day(3), accept=accept("row_count", day(3)))
    with pytest.raises(GateError, match=f"rejected_share of {day(3)}"):
        night(one, as_of=day(3), accept=accept(on=day(2)))
    assert seen(one) is None
    night(one, as_of=day(3), accept=accept(on=day(3)))
    assert seen(one) == f"{day(3)}.1"


def test_every_check_of_a_night_has_a_known_name(folder: Path) -> None:
    one = settings(folder, audits={"held": "leave_out"})
    night(one, as_of=day(3))
    recorded = lake_of(one).read("audits")
    assert set(recorded["name"].to_pylist()) <= set(NAMES)
    files = lake_of(one).files("audits")
    assert [dict(file.partition) for file in files] == [{"as_of": str(day(3))}]


def test_a_later_night_is_not_concerned_once_its_window_has_passed(folder: Path) -> None:
    one = settings(folder)
    with pytest.raises(GateError):
        night(one, as_of=day(4))
    assert night(one, as_of=day(5)).release == f"{day(5)}.1"
    assert seen(one) == f"{day(5)}.1"
    assert sound(one)


def test_a_backfill_accepts_too(folder: Path) -> None:
    one = settings(folder)
    first = backfill(one, start=day(0), end=day(5), now=NOW)
    assert [row["as_of"] for row in first.failed] == [str(day(k)) for k in (2, 3, 4)]
    report = backfill(
        one, start=day(0), end=day(5), now=NOW, reprocess="failed", accept=accept(on=day(2))
    )
    assert not report.failed
    assert [row["as_of"] for row in report.released] == [str(day(k)) for k in (2, 3, 4)]
    assert sound(one)


def test_an_accepted_check_that_does_not_fail_is_told(folder: Path) -> None:
    report = night(settings(folder), as_of=day(1), accept=accept("row_count"))
    assert "nothing was accepted: row_count did not fail where it was asked for" in report.notes


def test_a_night_without_the_held_day(folder: Path) -> None:
    one = settings(folder, audits={"held": "leave_out"})
    report = night(one, as_of=day(3))
    assert seen(one) == f"{day(3)}.1"
    assert any(f"released without held days: {day(2)}" in note for note in report.notes)
    release = current_release(lake_of(one), "prod")
    assert release is not None
    assert (release["days"], release["rows"]) == (3, 80), "three days of window, rows of two"
    events = sum(read(lake_of(one), "posteriors", columns=["n_events"])["n_events"].to_pylist())
    assert events == 80
    assert sound(one)
    assert status_of(one, "days_left_out") == ["warn"]

    report = night(one, as_of=day(3))
    assert not report.published, "nothing has changed since"
    assert any(f"{day(2)} is held" in note for note in report.notes)

    write(folder / "events" / f"{day(2)}.parquet", visits(2))
    report = night(one, as_of=day(3))
    assert seen(one) == f"{day(3)}.2"
    assert report.notes == []
    assert sound(one)


def test_a_day_that_becomes_odd_leaves_with_its_old_statistics(tmp_path: Path) -> None:
    """A correction that fails the gate takes the day out, not only its new rows."""
    write_days(tmp_path, 4)
    one = settings(tmp_path, audits={"held": "leave_out"})
    night(one, as_of=day(3))
    bad(tmp_path, 2)
    night(one, as_of=day(3))
    events = sum(read(lake_of(one), "posteriors", columns=["n_events"])["n_events"].to_pylist())
    assert events == 80
    assert sound(one)
    night(one, as_of=day(3), accept=accept())
    assert seen(one) == f"{day(3)}.3"
    assert sound(one)


def test_a_window_of_held_days_alone_is_no_release(tmp_path: Path) -> None:
    for number in range(2):
        bad(tmp_path, number)
    one = settings(tmp_path, audits={"held": "leave_out"})
    with pytest.raises(GateError, match="held"):
        night(one)
    assert seen(one) is None


def odd_release(*_: Any) -> list[audits.Check]:
    return [audits.at_most("release", "window_filled", "window", 0.9, 0.5, "mostly empty", "fail")]


def test_a_failed_release_is_kept_for_inspection_and_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_days(tmp_path, 4)
    one = settings(tmp_path)
    night(one, as_of=day(2))
    monkeypatch.setattr(audits, "check_window", odd_release)
    with pytest.raises(GateError, match="window_filled of window: mostly empty") as stopped:
        night(one, as_of=day(3))
    assert stopped.value.exit_code == 3
    staged = str(stopped.value.where["staged"]).split(" and ")[0].split(", ")
    assert all(Path(path).is_file() for path in staged)
    assert seen(one) == f"{day(2)}.1"
    assert set(read(lake_of(one), "posteriors")["as_of"].to_pylist()) == {day(2)}

    with pytest.raises(GateError):
        night(one, as_of=day(3), accept=accept("window_filled", day(2)))
    night(one, as_of=day(3), accept=accept("window_filled", day(3)))
    assert seen(one) == f"{day(3)}.1"
    again = backfill(one, start=day(3), end=day(3), now=NOW, reprocess="all")
    assert [row["release"] for row in again.released] == [f"{day(3)}.2"]

    write(tmp_path / "events" / "late.parquet", visits(3, rows=5, seed=4))
    with pytest.raises(GateError):
        night(one, as_of=day(3))
    assert seen(one) == f"{day(3)}.2"


@pytest.mark.parametrize("name", INTEGRITY)
def test_integrity_is_not_a_matter_of_opinion(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} cannot be accepted"):
        accept(name)


def test_a_name_that_nobody_knows() -> None:
    with pytest.raises(ConfigError, match=r"did you mean 'rejected_share'\?"):
        accept("rejected_shares")
    with pytest.raises(ConfigError, match="for a reason"):
        AcceptRequest.of("row_count", "  ")


def test_a_day_of_which_most_is_missing_is_held(tmp_path: Path) -> None:
    write_days(tmp_path, 9)
    one = settings(tmp_path)
    night(one, as_of=day(7))
    write(tmp_path / "events" / f"{day(8)}.parquet", visits(8, rows=3))
    with pytest.raises(GateError, match=f"row_count of {day(8)}: 3 rows, the median of 8 earlier"):
        night(one)
    assert seen(one) == f"{day(7)}.1"
    write(tmp_path / "events" / f"{day(8)}-rest.parquet", visits(8, seed=1))
    assert night(one).release == f"{day(8)}.1"


def test_a_chain_without_events_and_a_column_of_another_type_are_told(tmp_path: Path) -> None:
    write_days(tmp_path, 16)
    one = settings(tmp_path, inference={"window": "16d", "uncertainty": "plug_in"})
    night(one, as_of=day(14))
    rows = [row for row in visits(15, rows=80) if row["chain_id"] == "near"]
    table = pa.Table.from_pylist([row | {"converted": int(row["converted"])} for row in rows])
    pq.write_table(table, tmp_path / "events" / f"{day(15)}.parquet")
    told = " ".join(night(one).notes)
    assert "columns_retyped of new files: converted is int64, and was bool" in told
    shown = {row["name"]: row for row in lake_of(one).read("audits").to_pylist()}
    assert shown["units_vanished"]["value"] == pytest.approx(2 / 6)
