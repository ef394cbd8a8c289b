"""A real night through Prefect and Dask: the demo, small, as a newcomer runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import hbpipe
from hbpipe.cli import main
from tests.simulated import simulate


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to work in, with a few days of events where the demo expects them."""
    folder = tmp_path_factory.mktemp("work")
    simulate(folder / "demo", days=4)
    return folder


def run(folder: Path, root: Path, **variables: str) -> str:
    """Run the flow of a night in ``folder`` and return what it printed."""
    kept = {name: value for name, value in os.environ.items() if name != "PREFECT_HOME"}
    done = subprocess.run(
        [sys.executable, "-m", "flows.nightly", "--config", str(root / "configs" / "demo.yaml")],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(root), "HOME": str(folder / "home"), **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_night_through_prefect_is_the_night_without_it(
    folder: Path, root: Path, prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(folder, root)
    assert "as of 2026-01-04" in first
    assert "Processed 4 day(s): 2026-01-01 to 2026-01-04." in first
    assert (folder / "demo/lake/.prefect/prefect.db").is_file(), "its own server was used"
    assert list((folder / "home").rglob("*.db")) == [], "the user's Prefect was left alone"

    second = run(folder, root, PREFECT_API_URL=prefect_server)
    assert "Nothing to do" in second

    monkeypatch.chdir(folder)
    apart = ["--set", "lake.path=demo/plain", "--quiet"]
    assert main(["run", "--config", str(root / "configs" / "demo.yaml"), *apart]) == 0
    for table in ("statistics", "hyperparameters", "posteriors"):
        here, plain = (rows(folder / "demo" / lake, table) for lake in ("lake", "plain"))
        assert len(here) > 0
        assert here == plain, table


def rows(lake: Path, table: str) -> list[str]:
    """The rows of a table, sorted; floats keep every bit, and NaN equals NaN."""
    found = hbpipe.read(str(lake), table, environment="prod")
    same = [name for name in found.column_names if name != "run_id"]
    return sorted(map(repr, found.select(same).to_pylist()))
