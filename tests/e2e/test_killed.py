"""A night killed anywhere, then run again: readers never see half of it, the result is the same.

The real command line, in its own process, kills itself with SIGKILL at the chosen commit to the
lake, or at the chosen call of one function of a stage.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hbpipe.run.releases import current_release
from hbpipe.run.runs import read_runs
from tests.e2e.second_night import Seen, prepare, seen
from tests.interrupted import Moment, killed
from tests.nights import BOTH, first_night, lake_of, night, settings_for, write_config, write_days

#: Commits of the second night until its release is there: the run begun, days begun, statistics,
#: quarantine, files, days, audits, hyperparameters, fits, diagnostics, posteriors, new_stores,
#: releases.
COMMITS = 13
#: A function in the middle of each stage.
MIDDLE = {
    "plan": "hbpipe.run.inventory:survey_file",
    "aggregate": "hbpipe.data.partials:summarise_piece",
    "merge": "hbpipe.data.day_files:write_part",
    "fit": "hbpipe.run.inference.fitting:fit_metric",
    "update": "hbpipe.run.inference.posterior_table:write_part",
    "audit": "hbpipe.run.audits:check_posteriors",
}
SECTIONS: dict[str, Any] = {"metrics": BOTH, "inference": {"uncertainty": "auto"}}


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    prepare(folder, **SECTIONS)
    return folder


def moved(before: Path, folder: Path) -> Path:
    """Copy events and lake; file times are kept, so the copy is as done as the first."""
    shutil.copytree(before, folder, dirs_exist_ok=True)
    return write_config(folder, **SECTIONS)


@pytest.fixture(scope="module")
def old(before: Path) -> Seen:
    return seen(before)


@pytest.fixture(scope="module")
def new(before: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """The second night, undisturbed."""
    folder = tmp_path_factory.mktemp("twin")
    moved(before, folder)
    night(settings_for(folder, **SECTIONS))
    return seen(folder)


def assert_recovers(folder: Path, old: Seen, new: Seen) -> None:
    assert seen(folder) == old
    night(settings_for(folder, **SECTIONS))
    assert seen(folder) == new


@pytest.mark.parametrize("number", range(1, COMMITS + 1))
def test_killed_before_a_commit(
    number: int,
    before: Path,
    old: Seen,
    new: Seen,
    tmp_path: Path,
) -> None:
    config = moved(before, tmp_path)
    killed(Moment(number), "run", "--config", str(config))
    assert_recovers(tmp_path, old, new)


def test_killed_again_while_it_takes_the_place_of_one_that_was_killed(
    before: Path,
    old: Seen,
    new: Seen,
    tmp_path: Path,
) -> None:
    config = moved(before, tmp_path)
    killed(Moment(8), "run", "--config", str(config))
    fences = Moment(3, ("hbpipe.run.attempt:raise_fence",))
    killed(fences, "run", "--config", str(config))
    assert_recovers(tmp_path, old, new)
    states = [run.state for run in read_runs(lake_of(settings_for(tmp_path)))]
    assert states == ["done", "abandoned", "abandoned", "done"]


@pytest.mark.parametrize("number", [2, 6])
def test_killed_and_tried_again_it_does_what_it_had_planned(
    number: int, before: Path, new: Seen, tmp_path: Path
) -> None:
    config = moved(before, tmp_path)
    killed(Moment(number), "run", "--config", str(config))
    write_days(tmp_path, 1, first=4)  # the day after has come
    settings = settings_for(tmp_path, **SECTIONS)
    dead = read_runs(lake_of(settings))[-1]
    assert dead.state == "running"
    night(settings, retry=dead.run_id)
    assert seen(tmp_path) == new


def test_killed_after_the_last_commit_the_new_release_is_there(
    before: Path, new: Seen, tmp_path: Path
) -> None:
    config = moved(before, tmp_path)
    killed(Moment(COMMITS, after=True), "run", "--config", str(config))
    assert seen(tmp_path) == new
    report = night(settings_for(tmp_path, **SECTIONS))
    assert report.days == []
    assert "up to date" in report.reason
    assert seen(tmp_path) == new


@pytest.mark.parametrize("stage", MIDDLE)
def test_killed_in_the_middle_of_a_stage(
    stage: str,
    before: Path,
    old: Seen,
    new: Seen,
    tmp_path: Path,
) -> None:
    config = moved(before, tmp_path)
    killed(Moment(1, (MIDDLE[stage],), after=True), "run", "--config", str(config))
    assert_recovers(tmp_path, old, new)


@pytest.mark.parametrize("number", [1, 5, 10])
def test_a_first_night_killed_while_it_makes_its_tables(
    number: int, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = write_config(tmp_path, **SECTIONS)
    write_days(tmp_path, 2)
    tables = Moment(number, ("hbpipe.data.definition:create_once",), after=True)
    killed(tables, "run", "--config", str(config))
    settings = settings_for(tmp_path, **SECTIONS)
    assert current_release(lake_of(settings), "prod") is None
    night(settings)
    twin = tmp_path_factory.mktemp("twin")
    first_night(twin, 2, **SECTIONS)
    assert seen(tmp_path) == seen(twin)


WORKER = """
import os, signal, sys
from pathlib import Path
from hbpipe.cli import main
from hbpipe.run import day_tasks

marker, summarise = Path(sys.argv[1]), day_tasks.summarise_readings

def summarise_readings(*args, **options):
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return summarise(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    day_tasks.summarise_readings = summarise_readings
    sys.exit(main(sys.argv[2:]))
"""


def test_a_worker_killed_while_it_aggregates_is_replaced(
    before: Path, new: Seen, tmp_path: Path
) -> None:
    config = moved(before, tmp_path)
    driver, marker = tmp_path / "driver.py", tmp_path / "died"
    driver.write_text(WORKER)
    cluster = ["--set", "cluster.kind=local", "--set", "cluster.processes=true"]
    done = subprocess.run(
        [sys.executable, driver, marker, "run", "--config", config, *cluster, "--quiet"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert marker.exists(), "no worker was killed"
    assert seen(tmp_path) == new
