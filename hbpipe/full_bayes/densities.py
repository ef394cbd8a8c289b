"""Log densities of one hyperparameter, up to constants, which no posterior needs.

The names are those of a specification such as ``half_cauchy(5)``. A density of a share looks at
``NAME_complement`` too: 1 − u has no digits left where u is next to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from hbpipe.full_bayes.library import Library
from hbpipe.model.densities import Term

_KERNELS: dict[str, Callable[..., Any]] = {
    "half_cauchy": lambda xp, u, rest, scale: -xp.log1p((u / scale) ** 2),
    "half_normal": lambda xp, u, rest, scale: -0.5 * (u / scale) ** 2,
    "normal": lambda xp, u, rest, mean, sd: -0.5 * ((u - mean) / sd) ** 2,
    "exponential": lambda xp, u, rest, rate: -rate * u,
    "gamma": lambda xp, u, rest, shape, rate: (shape - 1.0) * xp.log(u) - rate * u,
    "beta": lambda xp, u, rest, a, b: (a - 1.0) * xp.log(u) + (b - 1.0) * xp.log(rest),
    "uniform": lambda xp, u, rest: 0.0 * u,
    "reciprocal": lambda xp, u, rest: -xp.log(u),
    "power": lambda xp, u, rest, exponent: exponent * xp.log(u),
    "uniform_shrinkage": lambda xp, u, rest, scale: -2.0 * xp.log(u + scale),
}


def log_density(library: Library, terms: Iterable[Term], named: Mapping[str, Any]) -> Any:
    """Add up the log densities of ``terms`` at named parameters of one pool."""
    total = 0.0
    for term in terms:
        u = named[term.parameter]
        rest = named.get(f"{term.parameter}_complement", 1.0 - u)
        arguments = [float(np.ravel(argument)[0]) for argument in term.arguments]
        total = total + _KERNELS[term.density](library.np, u, rest, *arguments)
    return total
