"""Where the reference data lie: `make test-reference REFERENCE=folder`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hbpipe.cli import main


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference cases."""
    return Path(os.environ["REFERENCE"])


@pytest.fixture(scope="session")
def events(reference: Path) -> Path:
    """Till lines as they come."""
    return reference / "retail_transactions" / "events.parquet"


@pytest.fixture(scope="module")
def command(
    request: pytest.FixtureRequest,
    root: Path,
    events: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[str]:
    """The options of a lake with the release of the till lines, by the module's ``CONFIG``."""
    config = root / "configs" / request.module.CONFIG
    lake = tmp_path_factory.mktemp(config.stem) / "lake"
    changes = ["--set", f"events.path={events}", "--set", f"lake.path={lake}"]
    options = ["--config", str(config), *changes]
    assert main(["run", "--quiet", *options]) == 0
    return options


@pytest.fixture(scope="module")
def lake(command: list[str]) -> Path:
    """That lake."""
    return Path(command[-1].removeprefix("lake.path="))
