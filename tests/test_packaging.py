"""What a newcomer receives: a lock that holds, and a layout that is as described."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
SPARK_LOCK = (ROOT / "requirements-spark.lock").read_text(encoding="utf-8")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

#: One entry of the lock: name==version, perhaps a marker, then its hashes.
ENTRY = re.compile(
    r"^([a-z0-9-]+)==(\S+)(?: ; (.+?))?((?: \\\n    --hash=sha256:[0-9a-f]{64})*)$", re.M
)
ENTRIES = {found[1]: found for found in ENTRY.finditer(LOCK)}

RUNTIME = [Requirement(text) for text in PROJECT["project"]["dependencies"]]
EXTRAS = PROJECT["project"]["optional-dependencies"]
#: The extra dev takes in these; the one entry that names hbpipe itself says so.
TAKEN_IN = ("bench", "nuts", "xarray")
TAKEN = [text for extra in TAKEN_IN for text in EXTRAS[extra]]
DEVELOPMENT = [Requirement(text) for text in (*TAKEN, *EXTRAS["dev"][1:])]


def test_developers_have_what_the_other_extras_need() -> None:
    assert EXTRAS["dev"][0] == f"hbpipe[{','.join(TAKEN_IN)}]"


def test_every_line_of_the_lock_is_understood() -> None:
    lines = [line for line in LOCK.splitlines() if line and not line.lstrip().startswith("#")]
    understood = sum(1 + found[4].count("--hash") for found in ENTRIES.values())
    assert len(lines) == understood > 0


@pytest.mark.parametrize("name", ENTRIES)
def test_every_package_of_the_lock_has_hashes(name: str) -> None:
    assert "--hash=sha256:" in ENTRIES[name][4]


@pytest.mark.parametrize("lock", [LOCK, SPARK_LOCK], ids=["requirements", "spark"])
def test_the_lock_names_no_index(lock: str) -> None:
    assert not re.search(r"://|--(extra-)?index|--find-links|--trusted-host", lock)


def test_what_spark_needs_is_locked_with_hashes() -> None:
    locked = {found[1]: found for found in ENTRY.finditer(SPARK_LOCK)}
    assert all("--hash=sha256:" in found[4] for found in locked.values())
    for requirement in map(Requirement, PROJECT["dependency-groups"]["spark"]):
        assert requirement.specifier.contains(locked[requirement.name][2])


@pytest.mark.parametrize(
    "requirement", RUNTIME + DEVELOPMENT, ids=lambda requirement: requirement.name
)
def test_the_lock_meets_every_declared_dependency(requirement: Requirement) -> None:
    entry = ENTRIES.get(canonicalize_name(requirement.name))
    assert entry, f"{requirement.name} is not locked: make lock"
    assert requirement.specifier.contains(entry[2]), f"{entry[0]} against {requirement}: make lock"


@pytest.mark.parametrize("requirement", RUNTIME, ids=lambda requirement: requirement.name)
def test_the_tests_run_on_what_is_locked(requirement: Requirement) -> None:
    locked = ENTRIES[canonicalize_name(requirement.name)][2]
    assert version(requirement.name) == locked, "make install"


@pytest.mark.parametrize(
    "path",
    [
        "LICENSE",
        "Makefile",
        "README.md",
        "requirements.lock",
        ".ci/run",
        "configs/demo.yaml",
        "configs/retail.yaml",
        "flows/README.md",
        "flows/nightly.py",
    ],
)
def test_the_layout(path: str) -> None:
    assert (ROOT / path).is_file()


def test_every_target_of_the_makefile_is_explained() -> None:
    shown = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    (phony,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert re.findall(r"^  make (\S+) +\S", shown, re.M) == phony.split()
    assert {"install", "demo", "test", "lint"} <= set(phony.split())
