"""The registered families: every module of this folder that defines ``FAMILY``.

Adding a family is adding a file here; nothing else has to know about it.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil

from hbpipe.errors import FitError
from hbpipe.model.family import Family


def _discover() -> dict[str, Family]:
    found: dict[str, Family] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda item: item.name):
        family: Family = importlib.import_module(f"{__name__}.{module.name}").FAMILY
        found[family.name] = family
    return found


#: name -> family, in alphabetical order.
FAMILIES: dict[str, Family] = _discover()


def get_family(name: str) -> Family:
    """Return the family of this name.

    Raises
    ------
    FitError
        If there is none; the message suggests the nearest name.
    """
    if name in FAMILIES:
        return FAMILIES[name]
    nearest = difflib.get_close_matches(str(name), FAMILIES, n=1, cutoff=0.4)
    raise FitError(
        f"there is no family {name!r}",
        expected=f"one of {', '.join(FAMILIES)}",
        remedy=f"did you mean {nearest[0]!r}?" if nearest else "choose one of these names",
    )
