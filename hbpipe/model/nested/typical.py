"""The hyperprior of m, the (location, log spread) around which chains of counts vary.

It is that of a single chain, with one exception. The default of a rate, mean^(−½), grows along
the location as exp(m₁/2). One chain's data stop it; where C chains vary around m with sd s₁,

    ∫ exp(b m₁) Π N(η_c; m₁, s₁²) dm₁  ∝  s₁^(1 − C) exp(b η̄ + b² s₁²/(2C)),

and no power of s₁ outweighs the last factor: the posterior would be improper. With levels the
default is therefore flat in m₁, 1/mean, which leaves the posterior proper from one count on and is
the same in any unit of exposure. Hyperpriors that grow so and are given are refused, unless s is
known or its density falls off fast enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.densities import Term
from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import LOCATION, geometry_of
from hbpipe.model.hyperpriors import LogPrior
from hbpipe.model.numerics import jets

#: How far out the slopes are looked at, and the least that counts.
_FAR, _LEAST = 60.0, 1e-6


def of_typical(family: Family, spec: Any, prior: LogPrior) -> LogPrior:
    """Return the hyperprior of m, from the compiled one of a single chain.

    Parameters
    ----------
    family, spec
        The family of the stores, and the specification that ``prior`` was compiled from.
    """
    mean = geometry_of(family).parametrisations[0][LOCATION]
    stated = mean in spec if isinstance(spec, Mapping) else isinstance(spec, str) and mean in spec
    term = prior.term(mean)
    if stated or term is None or term.density != "power":
        return prior
    flat = Term(mean, "reciprocal")
    return replace(prior, terms=tuple(flat if each is term else each for each in prior.terms))


def check_proper_pooled(
    prior: LogPrior, terms: tuple[Term | None, Term | None], held: Array, at: Array
) -> None:
    """Raise unless the posterior falls off where chains differ ever more.

    Parameters
    ----------
    prior, terms
        Of m, and the densities of s₁ and s₂, None for the default.
    held
        (5,) coordinates that are known, NaN for the free ones.
    at
        (2,) a value of m.

    Raises
    ------
    FitError
        Naming the spread that keeps its weight.
    """
    slopes = _growth(prior, at)
    for place, name in enumerate(("locations", "log spreads")):
        free = np.isnan(held[place]) and np.isnan(held[len(at) + place])
        if not free or slopes[place] * _reach(terms[place]) < 1.0:
            continue
        raise FitError(
            "the hyperprior gives an improper posterior: it grows without end along the "
            f"{name} of the groups, which may differ by any amount",
            expected="a posterior that integrates to one",
            remedy="leave the hyperprior of the stores out (the default is proper), or give one "
            "that falls off at both ends, or a narrow half_normal for the spread between groups",
        )


def _reach(term: Term | None) -> float:
    """Largest sd of a normal tail of s; infinite for heavier tails.

    Against exp(b² s²/2C) the worst is a single chain, C = 1: b times this must be below 1.
    """
    if term is None or term.density != "half_normal":
        return np.finfo(float).max
    return float(np.asarray(term.arguments[0]))


def _growth(prior: LogPrior, at: Array) -> Array:
    """Largest slope with which the log density of m grows outwards, along each of both, (2,)."""
    ends = at + _FAR * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    with np.errstate(all="ignore"):
        gradient = prior.in_working(jets.variables(ends)).gradient
    outwards = np.stack([gradient[[0, 2], [0, 1]], -gradient[[1, 3], [0, 1]]])
    largest = np.max(np.nan_to_num(outwards), axis=0)
    return np.where(largest > _LEAST, largest, 0.0)
