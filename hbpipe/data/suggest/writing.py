"""Names and values as YAML, whatever they contain."""

from __future__ import annotations

import json
import re
import textwrap
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}  # not strings in YAML 1.1
_KEYWORDS = ("rows", "days", "active_days")  # quantities that are no columns
_NAME_WIDTH = 60
_LINE_WIDTH = 100


def scalar(value: Any) -> str:
    """Return a value in YAML; text is quoted unless it is a plain word.

    JSON's double-quoted form is YAML too, and keeps every sign on one line.
    """
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
            return value
        return json.dumps(value, ensure_ascii=not value.isprintable())
    return json.dumps(value, default=str)


def comment(text: str, indent: int = 0) -> list[str]:
    """Return a comment, broken between words into lines of at most 100 signs."""
    lead = " " * indent + "# "
    return textwrap.wrap(
        text,
        _LINE_WIDTH,
        initial_indent=lead,
        subsequent_indent=lead,
        break_long_words=False,
        break_on_hyphens=False,
    )


def column(name: str) -> str:
    """Return the quantity that a column is."""
    return f"{{column: {name}}}" if name in _KEYWORDS else scalar(name)


def slug(text: str) -> str:
    """Return a metric's name made from any text: ASCII letters, digits and underscores."""
    name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()[:_NAME_WIDTH]
    return name if name and not name[0].isdigit() else f"m_{name}".rstrip("_")


def percent(share: float) -> str:
    """Format a share, small ones with more digits."""
    return f"{share:.0%}" if share in (0.0, 1.0) or 0.1 <= share <= 0.99 else f"{share:.2%}"
