"""Rows as aligned text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def cell(value: Any) -> str:
    """Show one value: floats with five digits, null as nothing, of text what can be printed.

    Ids come from the events: what would move a terminal's cursor or start a new line is escaped.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}"
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))


def text_table(rows: Sequence[dict[str, Any]]) -> str:
    """Align rows in columns; numbers to the right."""
    if not rows:
        return "(no rows)"
    names = list(rows[0])
    texts = [[cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[k]) for line in texts)) for k, name in enumerate(names)]
    right = [isinstance(rows[0][name], int | float) for name in names]

    def align(line: Sequence[str]) -> str:
        parts = [
            text.rjust(width) if number else text.ljust(width)
            for text, width, number in zip(line, widths, right, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return "\n".join([align(names), *(align(line) for line in texts)])


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """Show rows as a Markdown table."""
    if not rows:
        return "None."
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    for row in rows:
        cells = [cell(row.get(name)).replace("|", "\\|") for name in names]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
