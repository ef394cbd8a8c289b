"""The command line in processes of its own, interrupted where a test says."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from hbpipe.cli import main
from tests.processes import TIMEOUT_S, Forked, die, forked

COMMIT = "hbpipe.data.publish:compare_and_swap"


@dataclass(frozen=True)
class Moment:
    """The ``number``-th call, from 1, of any of these functions: just before it, or just after."""

    number: int
    places: tuple[str, ...] = (COMMIT,)
    after: bool = False


def unchanged() -> None:
    """Leave the process as it is."""


def command(
    *arguments: str,
    at: Moment | None = None,
    do: Callable[[], None] = die,
    prepare: Callable[[], None] = unchanged,
) -> AbstractContextManager[Forked]:
    """Run ``hbpipe`` in a process of its own; at a moment it does something else first.

    ``prepare`` is called there before anything, for instance to lower a constant.
    """
    return forked(_run, arguments, at, do, prepare)


def killed(
    at: Moment,
    *arguments: str,
    timeout_s: float = TIMEOUT_S,
    prepare: Callable[[], None] = unchanged,
) -> None:
    """Run ``hbpipe`` until it is killed at a moment, which must come."""
    with command(*arguments, at=at, prepare=prepare) as found:
        assert found.wait(timeout_s) == -signal.SIGKILL, found.said()


def _run(
    arguments: tuple[str, ...],
    at: Moment | None,
    do: Callable[[], None],
    prepare: Callable[[], None],
) -> None:
    os.fsync = lambda _: None  # as in conftest.py
    prepare()
    if at is not None:
        _arm(at, do)
    sys.exit(main(list(arguments)))


def _arm(at: Moment, do: Callable[[], None]) -> None:
    left = at.number

    def armed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            now = left == 0
            if now and not at.after:
                do()
            result = function(*arguments, **options)
            if now and at.after:
                do()
            return result

        return call

    for place in at.places:
        module, _, name = place.partition(":")
        owner = importlib.import_module(module)
        setattr(owner, name, armed(getattr(owner, name)))
