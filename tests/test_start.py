"""What a night loads before it begins: every module is paid for by every run."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Of the verb and the module of its commands; Dask is loaded while the plan is made.
LOADS = """
import sys
from hbpipe import cli
cli._load("hbpipe.commands.nights")
print(*sys.modules)
"""
HELP = "import sys; from hbpipe import cli; cli._parser(); print(*sys.modules)"


def loaded(code: str) -> set[str]:
    command = [sys.executable, "-c", code]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "name",
    ["pandas", "scipy.optimize", "scipy.stats", "rich", "dask", "prefect", "opentelemetry"],
)
def test_a_night_loads_nothing_that_it_may_not_need(name: str, of_a_night: set[str]) -> None:
    assert "pyarrow.dataset" in of_a_night
    assert name not in of_a_night


@pytest.fixture(scope="module")
def of_a_night() -> set[str]:
    return loaded(LOADS)


def test_help_loads_nothing_heavy() -> None:
    assert loaded(HELP).isdisjoint({"numpy", "pyarrow", "pydantic", "yaml", "hbpipe.config"})


def test_what_is_imported_is_left_out_of_later_collections() -> None:
    """And garbage of the run itself is found as ever."""
    code = """
import gc
from hbpipe import cli

cli._load("hbpipe.commands.nights")
assert gc.isenabled()
print(gc.get_freeze_count() > 100_000, gc.get_count()[0] < 1000)

class Ring:
    def __init__(self):
        self.me = self

Ring()
print(gc.collect() > 0)
"""
    command = [sys.executable, "-c", code]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.split() == ["True"] * 3
