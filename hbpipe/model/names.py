"""Names that users write, and what to say when one is unknown; names of columns."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from hbpipe.errors import FitError
from hbpipe.model.family import Array


def suggestion(name: Any, choices: Iterable[str]) -> str:
    """Say which choice is nearest to a name that is none of them."""
    nearest = difflib.get_close_matches(str(name), list(choices), n=1, cutoff=0.4)
    return f"did you mean {nearest[0]!r}?" if nearest else "choose one of these"


def unknown(what: str, name: Any, choices: Iterable[str]) -> FitError:
    """Return the error for a name that is none of the choices."""
    known = list(choices)
    return FitError(
        f"there is no {what} {name!r}",
        expected=f"one of {', '.join(known)}",
        remedy=suggestion(name, known),
    )


def quantile_names(levels: Array) -> list[str]:
    """Name the columns of the levels, and refuse levels that differ too little to have two."""
    names = [f"q{level:g}" for level in levels.tolist()]
    for name in names:
        shared = [
            level for level, other in zip(levels.tolist(), names, strict=True) if other == name
        ]
        if len(shared) > 1:
            raise FitError(
                f"the quantile levels {shared} share the column {name}",
                expected="levels that differ in their first six digits",
                remedy="leave one out, or ask for it by quantile()",
            )
    return names
