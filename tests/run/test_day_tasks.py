"""The tasks of large days: who works changes no bit, they stay few, and a crash leaves no trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hbpipe.data import partials, readings, survey, units
from hbpipe.data.durable import PRIVATE
from hbpipe.data.lake import Lake
from hbpipe.data.vacuum import abandoned_spools
from hbpipe.errors import EngineError
from hbpipe.run import day_tasks
from hbpipe.run.engine import SerialEngine
from hbpipe.run.releases import current_release, read
from hbpipe.run.runs import read_runs
from tests.interrupted import Moment, killed
from tests.nights import day, lake_of, night, rows_of, settings_for, visits, write, write_config

METRICS: dict[str, Any] = {
    "conversion": {
        "family": "beta_binomial",
        "successes": "converted",
        "trials": "rows",
        "overdispersion": {"by": "till"},
    },
    "basket": {"family": "normal", "value": "amount", "transform": "log"},
}
NAMES = ("statistics", "hyperparameters", "posteriors", "files", "days", "quarantine", "audits")
DAYS = 2
SECTIONS: dict[str, Any] = {
    "metrics": METRICS,
    "inference": {"uncertainty": "auto"},
    "audits": {"max_repeated_share": 0.9},
}
WITHOUT_IDS = {**SECTIONS, "events": {"event_id": []}}


def lower() -> None:
    """Make days of sixty rows large: shards that are each merged by itself, and small pieces."""
    units.SHARD_ROWS = 16
    partials.MERGED_SHARDS = 1
    survey.PIECE_ROWS = 10


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower the constants, and put them back."""
    for module, name in (
        (units, "SHARD_ROWS"),
        (partials, "MERGED_SHARDS"),
        (survey, "PIECE_ROWS"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name))
    lower()


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Days with late and faulty rows, and copies of events in other files, some of other stores."""
    folder = tmp_path_factory.mktemp("large")
    for k in range(DAYS):
        rows = [row | {"till": f"t{n % 7}"} for n, row in enumerate(visits(k, rows=60, stores=30))]
        rows[5]["store_id"] = None
        rows[6]["amount"] = float("nan")
        late = [
            row | {"event_id": f"late-{k}", "till": "t"} for row in visits(max(k - 1, 0), rows=1)
        ]
        moved = [row | {"store_id": "s29"} for row in rows[20:30]]
        write(folder / "events" / f"{day(k)}.parquet", rows + late, row_group_size=10)
        write(folder / "events" / f"again-{day(k)}.parquet", moved + rows[:3], row_group_size=5)
    return folder


def tables(lake: Lake) -> dict[str, list[str]]:
    return {name: rows_of(read(lake, name)) for name in NAMES}


def staged(folder: Path) -> list[Path]:
    return list((folder / "lake" / PRIVATE / "staging").iterdir())


def at_once(events: Path, folder: Path, sections: dict[str, Any]) -> dict[str, list[str]]:
    """The tables of a night that merges every day in one task."""
    shutil.copytree(events / "events", folder / "events")
    settings = settings_for(folder, **sections)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partials, "MERGED_SHARDS", 1 << 20)
        night(settings)
    return tables(lake_of(settings))


@pytest.fixture(scope="module")
def expected(events: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "SHARD_ROWS", 16)
        patch.setattr(survey, "PIECE_ROWS", 10)
        return at_once(events, tmp_path_factory.mktemp("at-once"), SECTIONS)


WORKERS: dict[str, dict[str, Any]] = {
    "serial": {"kind": "serial"},
    "threads": {"kind": "local", "workers": 2, "processes": False},
}


@pytest.mark.parametrize("who", WORKERS)
def test_a_large_day_is_the_same_whoever_merges_it(
    who: str, events: Path, expected: dict[str, list[str]], tmp_path: Path
) -> None:
    shutil.copytree(events / "events", tmp_path / "events")
    settings = settings_for(tmp_path, cluster=WORKERS[who], **SECTIONS)
    report = night(settings)
    assert report.rows["repeated"] == DAYS * 13
    assert staged(tmp_path) == []
    found = tables(lake_of(settings))
    for name in NAMES:
        assert found[name] == expected[name], name


@pytest.mark.parametrize("sections", [SECTIONS, WITHOUT_IDS], ids=["ids", "no ids"])
def test_few_tasks_do_the_same(
    sections: dict[str, Any], events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: Counter[str] = Counter()
    submit = SerialEngine.submit

    def counting(engine: SerialEngine, function: Any, *args: Any, **options: Any) -> Any:
        counted[function.__name__] += 1
        return submit(engine, function, *args, **options)

    wanted = at_once(events, tmp_path / "at-once", sections)
    shutil.copytree(events / "events", tmp_path / "events")
    monkeypatch.setattr(SerialEngine, "submit", counting)
    monkeypatch.setattr(day_tasks, "MOST_TASKS", 6)
    settings = settings_for(tmp_path, **sections)
    night(settings)
    assert tables(lake_of(settings)) == wanted
    kinds = ["summarise_readings", "merge_shards"]
    kinds += ["find_copies", "without_copies"] if sections is SECTIONS else []
    assert all(1 < counted[kind] <= 6 + DAYS for kind in kinds), counted
    assert counted["close_day"] == DAYS
    assert counted["finish_day"] == 0


def test_pieces_that_are_read_together_count_the_same(
    events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read together is summed in another order, so counts are equal and means close."""
    one = at_once(events, tmp_path / "one-by-one", WITHOUT_IDS)
    monkeypatch.setattr(readings, "MOST_READINGS", 2)
    other = at_once(events, tmp_path / "together", WITHOUT_IDS)
    assert one.keys() == other.keys()
    for name in ("files", "days", "quarantine"):
        assert one[name] == other[name]
    found, wanted = (
        read(Lake(str(tmp_path / name / "lake")), "posteriors").sort_by(
            [(column, "ascending") for column in ("metric", "chain_id", "store_id")]
        )
        for name in ("together", "one-by-one")
    )
    assert found["n"].equals(wanted["n"])
    assert found["mean"].to_pylist() == pytest.approx(wanted["mean"].to_pylist(), rel=1e-12)


#: A worker dies at its first merge of a shard; the module is imported by every worker.
DRIVER = """
import os, signal, sys
from pathlib import Path
from hbpipe.cli import main
from hbpipe.run import day_tasks
from tests.run.test_day_tasks import lower

lower()
marker, merge_shards = Path(sys.argv[1]), day_tasks.merge_shards

def dying(*args):
    try:
        marker.touch(exist_ok=False)
    except FileExistsError:
        return merge_shards(*args)
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    dying.__name__ = "merge_shards"
    day_tasks.merge_shards = dying
    sys.exit(main(sys.argv[2:]))
"""


def test_a_worker_killed_while_it_merges_is_replaced(
    events: Path, expected: dict[str, list[str]], tmp_path: Path
) -> None:
    """What was set aside does not die with the worker that read it."""
    shutil.copytree(events / "events", tmp_path / "events")
    config = write_config(
        tmp_path, cluster={"kind": "local", "workers": 2, "processes": True}, **SECTIONS
    )
    driver, marker = tmp_path / "driver.py", tmp_path / "died"
    driver.write_text(DRIVER)
    done = subprocess.run(
        [sys.executable, driver, marker, "run", "--config", config, "--quiet"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert marker.exists(), "no worker was killed"
    assert tables(Lake(str(tmp_path / "lake"))) == expected
    assert staged(tmp_path) == []


# --- crashes ------------------------------------------------------------------------------------

#: What stands between events and statistics; the first call of each, but for reading.
PLACES = {
    "read": Moment(4, ("hbpipe.data.partials:spill",), after=True),
    "copies": Moment(1, ("hbpipe.run.day_tasks:find_copies",)),
    "again": Moment(2, ("hbpipe.data.copies:summarise",), after=True),
    "merge": Moment(1, ("hbpipe.data.daily:write_shard",), after=True),
    "receipt": Moment(1, ("hbpipe.run.day_tasks:close_day",)),
}


@pytest.mark.parametrize("place", PLACES)
def test_killed_between_readers_and_merges(
    place: str, events: Path, expected: dict[str, list[str]], tmp_path: Path
) -> None:
    shutil.copytree(events / "events", tmp_path / "events")
    config = write_config(tmp_path, **SECTIONS)
    settings = settings_for(tmp_path, **SECTIONS)
    killed(PLACES[place], "run", "--config", str(config), prepare=lower)
    lake = lake_of(settings)
    assert current_release(lake, "prod") is None
    left = staged(tmp_path)
    assert left, "it was killed before anything was set aside"
    night(settings)
    assert tables(lake) == expected
    assert [run.state for run in read_runs(lake)] == ["abandoned", "done"]
    assert sorted(staged(tmp_path)) == sorted(left), "a run drops what is its own"
    assert abandoned_spools(lake.storage, None) == sorted(map(str, left))


def test_a_run_that_fails_leaves_nothing_behind(
    events: Path, expected: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(events / "events", tmp_path / "events")
    settings = settings_for(tmp_path, **SECTIONS)

    def fail(*_: Any) -> None:
        raise EngineError("the worker is lost")

    with monkeypatch.context() as patch:
        patch.setattr(day_tasks, "merge_shards", fail)
        with pytest.raises(EngineError, match="lost"):
            night(settings)
    assert staged(tmp_path) == []
    night(settings)
    assert tables(lake_of(settings)) == expected
