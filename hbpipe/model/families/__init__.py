"""The registered families: every module of this folder that defines ``FAMILY``.

Adding a family is adding a file here; nothing else has to know about it.
"""

from __future__ import annotations

import importlib
import pkgutil

from hbpipe.model.family import Family
from hbpipe.model.names import unknown


def discover() -> dict[str, Family]:
    """Import every module of this folder and collect its ``FAMILY``, by name."""
    found: dict[str, Family] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda item: item.name):
        family: Family = importlib.import_module(f"{__name__}.{module.name}").FAMILY
        found[family.name] = family
    return found


#: name -> family, in alphabetical order.
FAMILIES: dict[str, Family] = discover()


def get_family(name: str, size: int | None = None) -> Family:
    """Return the family of this name, with ``size`` coefficients or classes where it has any.

    Raises
    ------
    FitError
        If there is none; the message suggests the nearest name.
    """
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    family = FAMILIES[name]
    if size is None or family.sized is None or size == family.size:
        return family
    return family.sized(size)
