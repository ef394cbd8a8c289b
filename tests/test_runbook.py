"""What the runbooks of flows/ and infra/ tell a person to type exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.audit import audit
from flows.backfill import backfill
from flows.maintenance import maintenance
from flows.nightly import nightly
from hbpipe.cli import _parser

ROOT = Path(__file__).parent.parent
RUNBOOK = (ROOT / "flows/README.md").read_text("utf-8")
SETUP = (ROOT / "infra/README.md").read_text("utf-8")
FLOWS = {flow.name: flow for flow in (nightly, backfill, audit, maintenance)}


IN_A_CONTAINER = ["prefect-worker", "hbpipe"]


def commands(text: str) -> Iterator[str]:
    """The commands of a page: indented lines, their continuations joined, without comments."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("    "):
            yield re.sub(r"\s+#.*", "", line).strip()


def verbs(text: str) -> Iterator[list[str]]:
    """The arguments of every call of hbpipe."""
    for command in commands(text):
        words = shlex.split(command)
        if "hb" in words[:1]:
            yield [*words[1:], "--config", "configs/base.yaml", "--env", "prod"]
        for number, word in enumerate(words):
            if word.endswith("bin/hbpipe") or words[number - 1 : number + 1] == IN_A_CONTAINER:
                yield words[number + 1 :]


@pytest.mark.parametrize("arguments", [*verbs(RUNBOOK), *verbs(SETUP)], ids=" ".join)
def test_a_command_is_one_that_hbpipe_takes(arguments: list[str]) -> None:
    if "$@" not in arguments:
        _parser().parse_args(arguments)


def test_the_runbook_calls_every_verb_that_changes_what_readers_see() -> None:
    called = {arguments[0] for arguments in verbs(RUNBOOK)}
    assert {"run", "backfill", "restate", "promote", "rollback", "forget", "vacuum"} <= called


@pytest.mark.parametrize("text", [RUNBOOK, SETUP], ids=["flows", "infra"])
def test_a_deployment_that_is_run_by_hand_takes_its_parameters(text: str) -> None:
    found = [shlex.split(c) for c in commands(text) if "prefect deployment run" in c]
    assert found
    for words in found:
        at = words.index("run") + 1
        flow, _, name = words[at].partition("/")
        assert name == "prod"
        given = [word.partition("=") for word in words[at + 1 :] if word != "--param"]
        FLOWS[flow].validate_parameters(
            {"config": "configs/base.yaml", **{key: value for key, _, value in given}}
        )


@pytest.mark.parametrize("page", ["flows/README.md", "infra/README.md"])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    titles = {re.sub(r"[^a-z -]", "", t.lower()).replace(" ", "-") for t in headings(text)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert (ROOT / page).parent.joinpath(path).exists()
        assert not anchor or path or anchor in titles, anchor


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", text, re.M)


def test_the_pages_name_every_file_of_their_folder() -> None:
    for path in (ROOT / "flows").glob("*.py"):
        assert path.stem == "__init__" or f"`{path.name}`" in RUNBOOK
    kept = {"README.md", "__pycache__", "secrets"}
    for path in (ROOT / "infra").iterdir():
        assert path.name in kept or f"`{path.name}" in SETUP, path.name


def test_every_exit_code_is_explained() -> None:
    explained = re.findall(r"^\| (\d+) \| ", RUNBOOK, re.M)
    assert explained == ["0", "1", "2", "3", "4", "5", "10"]
