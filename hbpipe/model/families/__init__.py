"""The registered families: every module of this folder that defines ``FAMILY``.

Adding a family is adding a file here; nothing else has to know about it.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

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


def get_family(name: str, size: int | None = None, covariates: int | None = None) -> Family:
    """Return the family of this name.

    Parameters
    ----------
    name
        Its name; with weights of events ``NAME:MEANING``, see ``weights.py``.
    size
        The number of coefficients or classes, where it has any.
    covariates
        The number of covariates on the prior mean; None for a mean that all stores share.

    Raises
    ------
    FitError
        If there is none, and the message suggests the nearest name; if it takes no covariates.
    """
    name, _, meaning = name.partition(":")
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    family = FAMILIES[name]
    if size is not None and family.sized is not None and size != family.size:
        family = family.sized(size)
    if meaning:
        return _with_weights(family.name, family.size, meaning)
    return family if covariates is None else _with_covariates(family.name, size, covariates)


@cache
def _with_covariates(name: str, size: int | None, covariates: int) -> Family:
    """Build each number of covariates once, so that a family is the same object everywhere."""
    from hbpipe.model.covariates import with_covariates  # it needs the contract, as families do

    return with_covariates(get_family(name, size), covariates)


@cache
def _with_weights(name: str, size: int | None, meaning: str) -> Family:
    """Build each meaning of weights once, so that a family is the same object everywhere."""
    from hbpipe.model.weights import with_weights

    return with_weights(get_family(name, size), meaning)
