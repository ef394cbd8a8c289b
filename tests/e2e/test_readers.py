"""What readers see throughout: looked at after every commit to the lake.

At each moment a reader sees one whole release: the one that was there, or the one that somebody
published or pointed to, and never a step of the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from hbpipe.config import Settings
from hbpipe.data import publish
from hbpipe.errors import GateError
from hbpipe.report.status import describe_status, status_text
from hbpipe.run import audits
from hbpipe.run.freshness import freshness
from hbpipe.run.history import read_history
from hbpipe.run.inference import fit_tables
from hbpipe.run.promotion import promote, rollback
from hbpipe.run.releases import current_release, read
from tests.interrupted import Moment, command, killed
from tests.nights import (
    day,
    first_night,
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
    """Two days of events and a release of them."""
    return first_night(tmp_path, 2, inference=INFERENCE)


def seen(settings: Settings, environment: str = "prod") -> tuple[str, int] | None:
    """The release that readers see and the events in it, its tables of one as-of day each."""
    lake = lake_of(settings)
    row = current_release(lake, environment)
    if row is None:
        return None
    posteriors, fits = (
        read(lake, name, environment=environment) for name in ("posteriors", "fits")
    )
    for shown in (posteriors, fits):
        assert set(shown["as_of"].to_pylist()) == {row["as_of"]}
        assert set(shown["run_id"].to_pylist()) == {row["run_id"]}
    return row["release"], pc.sum(posteriors["n_events"]).as_py()


@contextmanager
def watched(settings: Settings, environment: str = "prod") -> Iterator[list[Any]]:
    """Look at what readers see after every commit; the list has each change once."""
    commit, found = publish.compare_and_swap, [seen(settings, environment)]

    def watching(*arguments: Any, **options: Any) -> Any:
        version = commit(*arguments, **options)
        now = seen(settings, environment)
        if now != found[-1]:
            found.append(now)
        return version

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "compare_and_swap", watching)
        yield found


def test_a_night_is_seen_at_once(settings: Settings, tmp_path: Path) -> None:
    write_days(tmp_path, 1, first=2)
    with watched(settings) as story:
        night(settings)
    assert story == [(f"{day(1)}.1", 80), (f"{day(2)}.1", 80)]


def test_a_failed_audit_is_never_seen(settings: Settings, tmp_path: Path) -> None:
    write_days(tmp_path, 1, first=2)
    failed = audits.Check("release", "posteriors_finite", "conversion", "fail", 1, 0, "one is not")
    with watched(settings) as story:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(audits, "check_posteriors", lambda *_: [failed])
            with pytest.raises(GateError):
                night(settings)
        assert len(story) == 1
        night(settings)
    assert story == [(f"{day(1)}.1", 80), (f"{day(2)}.1", 80)]


@pytest.mark.parametrize("table", ["hyperparameters", "fits", "new_stores"])
def test_rows_that_stand_twice_are_never_seen(
    table: str, settings: Settings, tmp_path: Path
) -> None:
    write_days(tmp_path, 1, first=2)
    rows = f"{table.removesuffix('s')}_rows"
    rows = rows if table == "new_stores" else f"_{rows}"
    once = getattr(fit_tables, rows)
    with watched(settings) as story, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit_tables, rows, lambda *of: [*once(*of), once(*of)[0]])
        with pytest.raises(GateError, match=f"{table}_keys of conversion: 1 rows"):
            night(settings)
    assert story == [(f"{day(1)}.1", 80)]


def test_readers_are_moved_and_pinned_and_follow_the_nights_again(
    settings: Settings, tmp_path: Path
) -> None:
    lake, (first, second, third, fourth) = lake_of(settings), (f"{day(k)}.1" for k in range(1, 5))
    with watched(settings) as story:
        write(tmp_path / "events" / f"{day(2)}.parquet", visits(2, rows=50))
        night(settings)
        rollback(lake, "prod", reason="prices of the second day are wrong")

        write_days(tmp_path, 1, first=3)
        report = night(settings)
        assert report.release == third
        assert any(f"readers of prod see release {first}" in note for note in report.notes)
        assert any("prices of the second day are wrong" in note for note in report.notes)
        status = describe_status(lake, settings)
        assert status["release"]["release"] == first
        assert status["pinned"]["release"] == first
        assert "pinned until the next promote" in status_text(status)
        (fresh,) = freshness(lake, settings, now=datetime(2026, 1, 5, 13, tzinfo=UTC))
        assert fresh.late, "the release that nobody sees does not make readers fresh"

        # The second day is mended while the pin holds; its release is made again.
        write(tmp_path / "events" / f"{day(2)}.parquet", visits(2))
        assert night(settings).release == f"{day(3)}.2"
        assert "up to date" in night(settings).reason

        promote(lake, f"{day(3)}.2", to="prod", reason="mended")
        write_days(tmp_path, 1, first=4)
        assert not any("readers of prod" in note for note in night(settings).notes)
    assert story == [
        (first, 80),
        (second, 90),
        (first, 80),
        (f"{day(3)}.2", 80),
        (fourth, 80),
    ]
    assert read(lake, "posteriors", release=third).num_rows == 6, "every release stays readable"


def test_a_release_is_tried_in_one_environment_and_promoted_to_another(
    settings: Settings, tmp_path: Path
) -> None:
    """Both write the same partitions: what one publishes must not reach the other's readers."""
    lake = lake_of(settings)
    dev = settings_for(tmp_path, environment="dev", inference={**INFERENCE, "window": "1d"})
    with watched(settings) as prod, watched(dev, "dev") as tried:
        assert night(dev, as_of=day(1)).release == f"{day(1)}.2"
        write_days(tmp_path, 1, first=2)
        night(dev)
        write(tmp_path / "events" / "late.parquet", visits(2, rows=7, seed=8))
        night(dev)
        promote(lake, "current", source="dev", to="prod", reason="one day is enough")
        assert night(dev).release == f"{day(2)}.2"

        report = night(settings)  # its own window differs, so it publishes the day itself
        assert (report.release, report.environment) == (f"{day(2)}.3", "prod")
        rollback(lake, "prod", reason="back to one day")
    assert tried == [
        None,
        (f"{day(1)}.2", 40),
        (f"{day(2)}.1", 40),
        (f"{day(2)}.2", 47),
    ]
    assert prod == [
        (f"{day(1)}.1", 80),
        (f"{day(2)}.2", 47),
        (f"{day(2)}.3", 87),
        (f"{day(2)}.2", 47),
    ]
    assert [row["release"] for row in read_history(lake).of("dev")] == [
        f"{day(1)}.2",
        f"{day(2)}.1",
        f"{day(2)}.2",
    ]


def test_a_promoted_release_of_the_day_is_not_computed_again(
    settings: Settings, tmp_path: Path
) -> None:
    lake = lake_of(settings)
    dev = settings_for(tmp_path, environment="dev", inference=INFERENCE)
    write_days(tmp_path, 1, first=2)
    night(dev)
    promote(lake, "current", source="dev", to="prod", reason="the same settings")
    report = night(settings)
    assert not report.published
    assert (report.release, report.environment) == (f"{day(2)}.1", "prod")
    assert f"release {day(2)}.1 of {day(2)} is up to date" in report.reason


# --- real processes -----------------------------------------------------------------------------


def test_of_processes_that_promote_at_once_no_pointer_is_lost(
    settings: Settings, tmp_path: Path
) -> None:
    lake = lake_of(settings)
    night(settings_for(tmp_path, environment="dev", inference=INFERENCE))
    config = str(write_config(tmp_path, inference=INFERENCE))
    names = [f"{day(1)}.1", f"{day(1)}.2"]
    moves = [(name, to) for name in names for to in ("left", "right")]
    with ExitStack() as until_all_have_ended:
        running = [
            until_all_have_ended.enter_context(
                command(
                    *("promote", name, "--config", config),
                    *("--to", to, "--reason", f"{name} to {to}"),
                )
            )
            for name, to in moves
        ]
        for process in running:
            assert process.wait() == 0, process.said()
    pointers = read(lake, "pointers").to_pylist()
    assert [row["number"] for row in pointers] == [1, 2, 3, 4]
    assert {(row["release"], row["environment"]) for row in pointers} == set(moves)
    for to in ("left", "right"):
        first, second = (row for row in pointers if row["environment"] == to)
        assert (first["replaces"], second["replaces"]) == (None, first["release"])
        assert seen(settings, to) == (second["release"], 80)


@pytest.mark.parametrize(("after", "shown"), [(False, 1), (True, 0)])
def test_a_rollback_that_is_killed_has_moved_readers_or_not(
    after: bool, shown: int, settings: Settings, tmp_path: Path
) -> None:
    write_days(tmp_path, 1, first=2)
    night(settings)
    releases = [(f"{day(1)}.1", 80), (f"{day(2)}.1", 80)]
    config = write_config(tmp_path, inference=INFERENCE)
    rollback_now = ("rollback", "--config", str(config), "--reason", "wrong")
    killed(Moment(1, after=after), *rollback_now)
    assert seen(settings) == releases[shown]
    rollback(lake_of(settings), "prod", f"{day(1)}.1", reason="again")
    assert seen(settings) == releases[0]
    assert read(lake_of(settings), "pointers").num_rows == 1
