"""Verbs called as the command line calls them, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hbpipe.cli import main

#: Takes the words of a command; gives exit code, standard output and standard error.
Verb = Callable[..., tuple[int, str, str]]


def verbs_of(config: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    """Call verbs with the settings of a file."""

    def run(verb: str, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([verb, "--config", str(config), *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run
