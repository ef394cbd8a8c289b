"""Suggestions for names that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def nearest(word: str, known: Iterable[Any]) -> str:
    """Return ``; did you mean 'x'?`` or the list of what is known."""
    names = [str(name) for name in known]
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(names)}"
