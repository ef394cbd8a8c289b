"""Text on standard output: in colour where a person looks at a terminal, plain anywhere else."""

from __future__ import annotations

import os
import re
import sys

#: The first line of a paragraph of several, and below it the heads of a table's columns.
_TITLE = re.compile(r"(?:\A|\n\n)\n*([^\n]+)(?=\n[^\n])")
_HEADS = re.compile(r"(?:\A|\n\n)[^\n]+\n([a-z_][\w.]*(?:  +[a-z_][\w.]*)+)(?=\n)")
#: What words say of a run, a day or a check, and how they are shown.
_WORDS = {
    "red": "FAIL|fail|failed|held|stale|missing|error|lost",
    "yellow": "warn|unidentified|pinned|running|late",
    "green": "ok|complete|done",
}


def show(text: str) -> None:
    """Print text for people; NO_COLOR turns colour off (no-color.org), FORCE_COLOR on."""
    if not _in_colour():
        print(text)
        return
    from rich.console import Console  # only a terminal needs it
    from rich.text import Text

    shown = Text(text)
    for found in _TITLE.finditer(text):
        shown.stylize("bold", *found.span(1))
    for found in _HEADS.finditer(text):
        shown.stylize("dim", *found.span(1))
    for style, words in _WORDS.items():
        shown.highlight_regex(rf"(?<![\w-])(?:{words})(?![\w-])", style)
    Console(highlight=False, soft_wrap=True).print(shown)


def _in_colour() -> bool:
    if os.environ.get("NO_COLOR"):
        return False
    return sys.stdout.isatty() or bool(os.environ.get("FORCE_COLOR"))
