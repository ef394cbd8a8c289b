"""What every verb needs: its settings, and JSON on standard output."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Collection, Iterable
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from hbpipe.config import Settings, load_settings
from hbpipe.data.clock import Calendar, to_number
from hbpipe.data.spelling import nearest
from hbpipe.errors import ConfigError
from hbpipe.report.plain import to_json
from hbpipe.report.terminal import show
from hbpipe.run.audits import AcceptRequest
from hbpipe.run.verification.findings import Finding

#: The exit code of ``plan`` and of dry runs when there is work.
WORK = 10


def settings_of(arguments: Namespace) -> Settings:
    """Load the settings that the arguments name."""
    return load_settings(arguments.config, arguments.env, arguments.overrides)


def accepts(arguments: Namespace, *, always: Collection[str] = ()) -> AcceptRequest | None:
    """Return which failed check the user takes as it is; None without ``--accept-audit``.

    ``always`` names options that the verb has for a purpose of their own too.

    Raises
    ------
    ConfigError
        There is no such check, it cannot be accepted, or the options do not go together.
    """
    if arguments.accept_audit is None:
        for name in {"reason", "day"}.difference(always):
            if getattr(arguments, name) is not None:
                raise ConfigError(f"--{name} goes with --accept-audit")
        return None
    return AcceptRequest.of(arguments.accept_audit, arguments.reason or "", arguments.day)


def moment_of(text: str | None, calendar: Calendar) -> datetime | None:
    """Understand ``--published-before``: a date is the moment at which its business day begins."""
    if text is None:
        return None
    try:
        if len(text) == len("2026-01-31"):
            return calendar.start_of(to_number(date.fromisoformat(text)))
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--published-before {text!r}", expected="2026-03-03, or 2026-03-03T14:00"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(calendar.timezone))


def require_columns(known: Collection[str], asked: Iterable[str]) -> None:
    """Refuse a column that a table does not have.

    Raises
    ------
    ConfigError
        With the nearest name.
    """
    for name in asked:
        if name not in known:
            raise ConfigError(f"no column {name!r}{nearest(name, known)}")


def print_json(value: Any) -> None:
    """Print one JSON object."""
    print(to_json(value))


def print_findings(findings: Iterable[Finding]) -> None:
    """Print a line for each finding."""
    for finding in findings:
        show(f"{'ok  ' if finding.fine else 'FAIL'}  {finding.name}: {finding.message}")


def confirm(shown: str, waiting: str) -> None:
    """Show what would be done and wait for a yes; ``waiting`` says what, where nobody can answer.

    Raises
    ------
    ConfigError
        When nobody can answer, or the answer is no.
    """
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{waiting}, and there is no terminal to say yes",
            remedy="look at --dry-run, then add --yes",
        )
    print(shown, file=sys.stderr)
    print("Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("not confirmed: nothing was done")
