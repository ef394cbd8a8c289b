"""The registered families: every module of this folder that defines ``FAMILY``.

Adding a family is adding a file here; nothing else has to know about it.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from hbpipe.errors import FitError
from hbpipe.model.family import Family
from hbpipe.model.names import unknown


def discover() -> dict[str, Family]:
    """Import every module of this folder and collect its ``FAMILY``, by name."""
    found: dict[str, Family] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda item: item.name):
        family: Family = importlib.import_module(f"{__name__}.{module.name}").FAMILY
        found[family.name] = family
    return found


#: What the names of families by arm end with (``model.experiment``).
BY_ARM = "_by_arm"
#: The arms of an experiment, in the order of their numbers.
ARMS = ("control", "treatment")
#: The families whose effects have a sampling variance (``model.experiment``).
COMPARABLE = ("beta_binomial", "normal")

#: name -> family, in alphabetical order.
FAMILIES: dict[str, Family] = discover()


#: How θ may vary over stores: word -> the module whose ``with_prior`` makes such a family of one
#: with a single conjugate law.
_PRIORS = {
    "mixture": "hbpipe.model.mixtures.family",
    "grid": "hbpipe.model.nonparametric.family",
}
PRIORS = ("single", *_PRIORS)


def get_family(
    name: str, size: int | None = None, covariates: int | None = None, prior: str = "single"
) -> Family:
    """Return the family of this name.

    Parameters
    ----------
    name
        Its name; ending with ``_by_arm`` for the statistics of two arms side by side; with
        weights of events ``NAME:MEANING``, see ``weights.py``.
    size
        The number of coefficients or classes, where it has any.
    covariates
        The number of covariates on the prior mean; None for a mean that all stores share.
    prior
        ``single``, one conjugate law; ``mixture``, two of them; or ``grid``, any number.

    Raises
    ------
    FitError
        If there is none, and the message suggests the nearest name; if it takes no covariates, or
        no such prior.
    """
    if not isinstance(name, str):
        raise unknown("family", name, FAMILIES)
    base = name.removesuffix(BY_ARM)
    if base != name and base in FAMILIES:
        return _two_arms(base)
    name, _, meaning = name.partition(":")
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    if prior != "single":
        return _with_prior(name, covariates, prior)
    family = FAMILIES[name]
    if size is not None and family.sized is not None and size != family.size:
        family = family.sized(size)
    if meaning:
        return _with_weights(family.name, family.size, meaning)
    return family if covariates is None else _with_covariates(family.name, size, covariates)


@cache
def _two_arms(name: str) -> Family:
    """Build the two-arm form of a family once."""
    from hbpipe.model.experiment.arms import by_arm  # it needs the contract, as families do

    return by_arm(FAMILIES[name])


@cache
def _with_covariates(name: str, size: int | None, covariates: int) -> Family:
    """Build each number of covariates once, so that a family is the same object everywhere."""
    from hbpipe.model.covariates import with_covariates  # it needs the contract, as families do

    return with_covariates(get_family(name, size), covariates)


@cache
def _with_prior(name: str, covariates: int | None, prior: str) -> Family:
    """Build the family with another prior once."""
    if prior not in _PRIORS:
        raise unknown("prior", prior, PRIORS)
    if covariates is not None:
        raise FitError(
            f"a prior {prior!r} does not go with covariates",
            where={"family": name},
            expected="covariates and a single prior, or another prior without covariates",
            remedy="leave one of them out",
        )
    family: Family = importlib.import_module(_PRIORS[prior]).with_prior(get_family(name))
    return family


@cache
def _with_weights(name: str, size: int | None, meaning: str) -> Family:
    """Build each meaning of weights once, so that a family is the same object everywhere."""
    from hbpipe.model.weights import with_weights

    return with_weights(get_family(name, size), meaning)
