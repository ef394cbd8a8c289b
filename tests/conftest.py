"""What all tests share: a Prefect of their own, one server, and a disk that nobody waits for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Prefect reads its environment when it is imported, so this comes before any test module.
for name in [name for name in os.environ if name.startswith(("PREFECT_", "HBPIPE__"))]:
    del os.environ[name]
_home = tempfile.TemporaryDirectory(prefix="hbpipe-tests-")
os.environ["PREFECT_HOME"] = _home.name

# Examples are the same in every run, and take as long as they take.
settings.register_profile("tests", derandomize=True, deadline=None)
settings.load_profile("tests")

ROOT = Path(__file__).parent.parent

#: Its tests need Prefect's server: one piece of work, so that one worker starts one server.
FLOWS = "tests/flows/"
#: What takes longest begins first: at the end no worker then waits long for another.
LONGEST = (
    FLOWS,
    "tests/run/test_backfill.py",
    "tests/run/",
    "tests/e2e/",
)


def pytest_unconfigure() -> None:
    _home.cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        found = (n for n, start in enumerate(LONGEST) if item.nodeid.startswith(start))
        return next(found, len(LONGEST))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole files, the next when it is done."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return FLOWS if nodeid.startswith(FLOWS) else super()._split_scope(nodeid)

    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _unsynced() -> Iterator[None]:
    """Nobody waits for the disk: no test outlives a loss of power, and a kill loses no write.

    That everything is synced before it is relied on is tested by calls (data/test_lake_faults.py).
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a real Prefect server, the one that `make demo` uses."""
    from flows.local import embedded_server

    with embedded_server(tmp_path_factory.mktemp("prefect")) as url:
        yield url
