"""Every command and every example in the README runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hbpipe.config import load_settings

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(root: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    text = (root / "README.md").read_text(encoding="utf-8")
    found = [body for name, body in _BLOCK.findall(text) if name == language]
    assert found, f"the README has no {language} block"
    return found


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the README's shell commands have run."""
    folder = tmp_path_factory.mktemp("reader")
    binaries = folder / ".venv"
    binaries.mkdir()
    (binaries / "bin").symlink_to(Path(sys.executable).parent)
    script = "\n".join(block for block in blocks(root, "sh") if "make " not in block)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    (folder / "printed").write_text(done.stdout, encoding="utf-8")
    return folder


def test_the_shell_commands_end_with_a_verified_release(folder: Path) -> None:
    printed = (folder / "printed").read_text(encoding="utf-8")
    assert "recount_rows" in printed
    assert "FAIL" not in printed


@pytest.mark.parametrize("number", [0, 1])
def test_the_python_examples_run(number: int, root: Path, folder: Path) -> None:
    example = blocks(root, "python")[number]
    subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=folder, timeout=120, check=True
    )


def test_the_yaml_example_is_a_configuration(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "example.yaml"
    path.write_text(blocks(root, "yaml")[0], encoding="utf-8")
    assert [metric.name for metric in load_settings(path).parsed_metrics] == list(
        yaml.safe_load(path.read_text(encoding="utf-8"))["metrics"]
    )


def test_every_make_target_exists_and_runs_in_ci(root: Path) -> None:
    named = set(re.findall(r"make ([a-z-]+)", (root / "README.md").read_text(encoding="utf-8")))
    targets = re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(encoding="utf-8"), re.M)
    script = (root / ".ci" / "run").read_text(encoding="utf-8")
    assert named <= set(targets)
    assert {name for name in named if f"make {name}" not in script} == set()


def test_every_file_that_is_named_exists(root: Path) -> None:
    text = (root / "README.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:hbpipe|flows|configs|tests|infra)/[\w/.-]+)`", text))
    paths |= set(re.findall(r"\]\(([\w/.]+)\)", text))
    assert paths
    assert [path for path in sorted(paths) if not os.path.lexists(root / path)] == []
