"""Densities of one hyperparameter, as formulas of jets, and their text form."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy.special import betaln, gammaln

from hbpipe.errors import FitError
from hbpipe.model.family import Array
from hbpipe.model.names import suggestion
from hbpipe.model.numerics import jets
from hbpipe.model.numerics.jets import Jet

#: Numbers, or one for each pool, (G,).
Arguments: TypeAlias = "tuple[float | Array, ...]"


@dataclass(frozen=True)
class Density:
    """A density of one parameter: its arguments' names, bounds, and the log density.

    ``log_density(u, companion, arguments)`` is exact up to a constant for improper densities. The
    companion is u², because an even density of τ is smooth in τ² at 0, where τ itself is not; for
    a density on (0, 1) it is 1 − u, which has no digits left where u is next to 1.
    """

    arguments: tuple[str, ...]
    log_density: Callable[[Jet, Jet, Arguments], Jet]
    companion: str = "squared"


def _half_cauchy(_: Jet, square: Jet, arguments: Arguments) -> Jet:
    (scale,) = arguments
    log_density: Jet = -jets.log1p(square * (1.0 / scale**2)) + np.log(2.0 / (np.pi * scale))
    return log_density


def _half_normal(_: Jet, square: Jet, arguments: Arguments) -> Jet:
    (scale,) = arguments
    log_density: Jet = square * (-0.5 / scale**2) + (0.5 * np.log(2.0 / np.pi) - np.log(scale))
    return log_density


def _normal(u: Jet, _: Jet, arguments: Arguments) -> Jet:
    mean, sd = arguments
    distance = u - mean
    log_density: Jet = distance * distance * (-0.5 / sd**2) - (
        0.5 * np.log(2.0 * np.pi) + np.log(sd)
    )
    return log_density


def _gamma(u: Jet, _: Jet, arguments: Arguments) -> Jet:
    shape, rate = arguments
    log_density: Jet = (
        jets.log(u) * (shape - 1.0) - u * rate + (shape * np.log(rate) - gammaln(shape))
    )
    return log_density


def _beta(u: Jet, complement: Jet, arguments: Arguments) -> Jet:
    a, b = arguments
    log_density: Jet = jets.log(u) * (a - 1.0) + jets.log(complement) * (b - 1.0) - betaln(a, b)
    return log_density


def _uniform_shrinkage(u: Jet, _: Jet, arguments: Arguments) -> Jet:
    (scale,) = arguments
    log_density: Jet = jets.log(u + scale) * -2.0 + np.log(scale)
    return log_density


DENSITIES: dict[str, Density] = {
    "half_cauchy": Density(("scale",), _half_cauchy),
    "half_normal": Density(("scale",), _half_normal),
    "normal": Density(("mean", "sd"), _normal),
    "exponential": Density(("rate",), lambda u, _, a: u * -a[0] + np.log(a[0])),
    "gamma": Density(("shape", "rate"), _gamma),
    "beta": Density(("a", "b"), _beta, "complement"),
    "uniform": Density((), lambda u, _, a: u * 0.0),
    "reciprocal": Density((), lambda u, _, a: -jets.log(u)),
    "power": Density(("exponent",), lambda u, _, a: a[0] * jets.log(u)),
    "uniform_shrinkage": Density(("scale",), _uniform_shrinkage),
}
_ANY_SIGN = {"mean", "exponent"}


@dataclass(frozen=True)
class Term:
    """One factor of a hyperprior: a density of one named parameter."""

    parameter: str
    density: str
    arguments: Arguments = ()

    def log_density(self, named: dict[str, Jet]) -> Jet:
        """Evaluate the log density at jets of the named parameters."""
        u, density = named[self.parameter], DENSITIES[self.density]
        companion = named.get(f"{self.parameter}_{density.companion}")
        if companion is None:
            companion = u * u if density.companion == "squared" else 1.0 - u
        return density.log_density(u, companion, self.arguments)


def read_term(parameter: str, text: Any) -> Term:
    """Read the density of one parameter, such as ``"half_cauchy(5)"``."""
    call = read_call(text) if isinstance(text, str) else None
    if not call or call[0] not in DENSITIES:
        raise FitError(
            f"there is no hyperprior {text!r}",
            where={"hyperparameter": parameter},
            expected=f"one of {', '.join(DENSITIES)}",
            remedy=suggestion(call[0] if call else text, DENSITIES),
        )
    return Term(parameter, call[0], read_arguments(*call))


_CALL = re.compile(r"^\s*([a-z_]+)\s*(?:\((.*)\))?\s*$")


def read_call(text: str) -> tuple[str, str] | None:
    """Split ``"half_cauchy(5)"`` into name and argument text; None if it is nothing like it."""
    found = _CALL.match(text)
    return (found[1], found[2] or "") if found else None


def read_arguments(name: str, text: str) -> tuple[float, ...]:
    """Read and check the arguments of a density."""
    wanted = DENSITIES[name].arguments
    try:
        values = tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        values = ()
    positive = (v > 0 or w in _ANY_SIGN for v, w in zip(values, wanted, strict=False))
    if len(values) != len(wanted) or not all(positive) or not np.all(np.isfinite(values)):
        raise FitError(
            f"the hyperprior {name} has the arguments ({text.strip()})",
            expected=f"{name}({', '.join(wanted)})" if wanted else f"{name} without arguments",
            remedy="give finite numbers; scales, rates and shapes are positive",
        )
    return values
