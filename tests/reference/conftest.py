"""Where the reference data lie: `make test-reference REFERENCE=folder`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def reference() -> Path:
    """The folder of reference cases."""
    return Path(os.environ["REFERENCE"])
