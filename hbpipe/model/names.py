"""Names that users write: what to say when one is unknown."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from hbpipe.errors import FitError


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
