"""What all tests share: a Prefect that knows nothing of its user, and one server a session."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Prefect reads its environment when it is imported, so this comes before any test module.
for name in [name for name in os.environ if name.startswith(("PREFECT_", "HBPIPE__"))]:
    del os.environ[name]
_home = tempfile.TemporaryDirectory(prefix="hbpipe-tests-")
os.environ["PREFECT_HOME"] = _home.name

ROOT = Path(__file__).parent.parent


def pytest_unconfigure() -> None:
    _home.cleanup()


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
