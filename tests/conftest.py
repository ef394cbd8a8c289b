"""What all tests share: a Prefect of their own, one server, and a disk that nobody waits for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Prefect reads its environment when it is imported, so this comes before any test module.
for name in [name for name in os.environ if name.startswith(("PREFECT_", "HBPIPE__"))]:
    del os.environ[name]
_home = tempfile.TemporaryDirectory(prefix="hbpipe-tests-")
os.environ["PREFECT_HOME"] = _home.name

ROOT = Path(__file__).parent.parent

#: What needs Prefect's server is one piece of work, so that one worker starts one server.
WITH_PREFECT = (
    "tests/test_flow_nightly.py",
    "tests/test_flows.py",
    "tests/e2e/test_flow_end_to_end.py",
)
#: What takes longest begins first: at the end no worker then waits long for another.
LONGEST = (
    *WITH_PREFECT,
    "tests/run/test_backfill.py",
)


def pytest_unconfigure() -> None:
    _home.cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {file: place for place, file in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.nodeid.split("::")[0], len(order)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker whole files, the next when it is done."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "with Prefect" if file in WITH_PREFECT else file

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
