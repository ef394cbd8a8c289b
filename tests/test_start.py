"""What a night loads before it begins: every module is paid for by every run."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from hbpipe import start

#: Of the verb and the module of its commands; Dask is loaded while the plan is made.
LOADS = """
import sys
from hbpipe.start import load, prepare
prepare()
load("hbpipe.commands.nights")
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
from hbpipe.start import load

load("hbpipe.commands.nights")
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


def test_the_start_leaves_what_the_user_has_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "to be taken away again")
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL")
    start.prepare()
    assert os.environ["OPENBLAS_NUM_THREADS"] == "4"
    assert os.environ["ARROW_DEFAULT_MEMORY_POOL"] == "system"


def test_memory_is_kept_only_where_the_c_library_can_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[tuple[int, int]] = []
    glibc = SimpleNamespace(mallopt=lambda *what: told.append(what))
    for library, expected in ((SimpleNamespace(), 0), (glibc, 2)):
        monkeypatch.setattr(ctypes, "CDLL", lambda _, found=library: found)
        start.prepare()
        assert len(told) == expected
