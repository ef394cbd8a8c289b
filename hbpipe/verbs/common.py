"""What verbs share: options, and the forms of their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import date
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]


def add_verb(
    verbs: Verbs, group: str, name: str, purpose: str, *, needs_config: bool = True
) -> argparse.ArgumentParser:
    """Add a verb that works on settings; ``group`` is its module in ``hbpipe.commands``."""
    verb = add_bare_verb(verbs, group, name, purpose)
    verb.add_argument("--config", required=needs_config, metavar="FILE", help="settings, in YAML")
    verb.add_argument("--env", metavar="NAME", help="overlay env/NAME.yaml beside the settings")
    verb.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="SECTION.KEY=VALUE",
        help="override one setting; may be repeated",
    )
    return verb


def add_bare_verb(verbs: Verbs, group: str, name: str, purpose: str) -> argparse.ArgumentParser:
    """Add a verb that needs no settings."""
    verb = verbs.add_parser(name, help=purpose, description=purpose)
    verb.set_defaults(group=group)
    verb.add_argument("--json", action="store_true", help="print one JSON object, nothing else")
    verb.add_argument("--quiet", action="store_true", help="no progress on standard error")
    return verb


def day(text: str) -> date:
    """Parse a day such as 2026-01-31."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a day such as 2026-01-31") from None


def positive(text: str) -> float:
    """Parse a number above zero."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above zero")
    return number


def at_least(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from ``least`` on."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of {least} or more")
        return number

    return parse
