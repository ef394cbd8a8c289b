"""Two runs of one pipeline, in real processes: one works, the other is told; a zombie does no harm.

Each is the real command line in its own process. Before a chosen commit to the lake it stops its
own process (SIGSTOP), or waits until it is told to go on.
"""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hbpipe.config import Settings
from hbpipe.run.runs import read_runs
from tests.e2e import second_night
from tests.e2e.second_night import TABLES, Seen, prepare
from tests.interrupted import Moment, command
from tests.nights import lake_of, night, settings_for, visits, write, write_config
from tests.processes import stop, wait
from tests.watching import watching

#: Of the second night: the run begun, days begun, statistics, quarantine, files, days, audits,
#: hyperparameters, fits, diagnostics, posteriors, new_stores, releases.
PAUSES = {"runs": 1, "statistics": 3, "posteriors": 11, "releases": 13}
TIMED = {"lease": "timed", "lease_s": 0.5}


def deliver_more(folder: Path) -> None:
    """More of the same days, after the first of two runs has planned."""
    more = [{**visits(day)[1], "event_id": f"more {day}"} for day in (1, 2, 3)]
    write(folder / "events" / "more.parquet", more)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    prepare(folder)
    return folder


def seen(folder: Path) -> Seen:
    """What a reader sees; why a day was done depends on what the run before had done of it."""
    return second_night.seen(folder, days=["reason"])


@pytest.fixture(scope="module")
def old(before: Path) -> Seen:
    return seen(before)


@pytest.fixture(scope="module")
def new(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The second night, undisturbed, of all that was delivered."""
    folder = tmp_path_factory.mktemp("twin")
    shutil.copytree(before, folder, dirs_exist_ok=True)
    deliver_more(folder)
    night(settings_for(folder))
    return seen(folder)


def reader(folder: Path) -> AbstractContextManager[list[Seen]]:
    """Read before, all the while, and after; gives what was seen, each sight once, in order."""
    return watching(lambda: seen(folder))


@pytest.mark.parametrize("table", PAUSES)
def test_a_zombie_that_wakes_after_its_lease_does_no_harm(
    table: str, before: Path, old: Seen, new: Seen, tmp_path: Path
) -> None:
    shutil.copytree(before, tmp_path, dirs_exist_ok=True)
    config = write_config(tmp_path, lake=TIMED)
    run, mark = ("run", "--config", str(config)), tmp_path / "stopped"
    interrupted = command(*run, at=Moment(PAUSES[table]), do=partial(stop, mark))
    with interrupted as zombie, reader(tmp_path) as sights:
        zombie.reaches(mark)
        deliver_more(tmp_path)
        heir = night(settings_for(tmp_path, lake=TIMED))
        versions = _versions(settings_for(tmp_path))
        zombie.go_on()
        assert zombie.wait() == 4, zombie.said()
        error = zombie.said()
    assert heir.run_id in error if table == "runs" else "attempt 3 has taken the place" in error
    assert sights == [old, new]
    assert seen(tmp_path) == new
    assert _versions(settings_for(tmp_path)) == versions, "nothing of it landed"
    states = [run.state for run in read_runs(lake_of(settings_for(tmp_path)))]
    assert states == (["done", "done"] if table == "runs" else ["done", "abandoned", "done"])
    assert not night(settings_for(tmp_path)).published


def _versions(settings: Settings) -> dict[str, int | None]:
    lake = lake_of(settings)
    return {name: lake.version(name) for name in (*TABLES, "audits", "new_stores", "releases")}


@pytest.mark.parametrize("lease", [{"lease": "flock"}, {"lease": "timed", "lease_s": 5.0}])
def test_of_two_simultaneous_runs_one_works_and_the_other_says_who_does(
    lease: dict[str, Any], before: Path, old: Seen, new: Seen, tmp_path: Path
) -> None:
    shutil.copytree(before, tmp_path, dirs_exist_ok=True)
    deliver_more(tmp_path)
    config = write_config(tmp_path, lake=lease)
    run, pause, mark = (
        ("run", "--config", str(config)),
        Moment(PAUSES["posteriors"]),
        tmp_path / "mark",
    )
    with command(*run, at=pause, do=partial(wait, mark)) as first:
        first.reaches(mark)
        with command(*run) as second:
            assert second.wait() == 4, second.said()
            error = second.said()
        assert "another run holds the lease" in error
        assert f"pid {first.pid}" in error
        assert seen(tmp_path) == old
        mark.unlink()
        assert first.wait() == 0, first.said()
    assert seen(tmp_path) == new
    runs = read_runs(lake_of(settings_for(tmp_path)))
    assert [(run.attempt, run.state) for run in runs] == [(1, "done"), (2, "done")]
    assert runs[-1].pid == first.pid
