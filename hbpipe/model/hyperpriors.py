"""Hyperpriors: what is believed of the hyperparameters before the stores are seen.

A specification names densities of **named parameters**: ``{"tau": "half_cauchy(5)"}`` is a
density in τ, ``"bda3"`` one in (α, β). :class:`LogPrior` evaluates it in two measures that must
not be mixed up:

* ``prior(coordinates)``: the density itself, with respect to the named parameters, as a
  function of the optimiser's coordinates. The ``map`` estimator maximises it times the
  likelihood; there is no Jacobian.
* ``prior.in_working(...)``: the density with respect to the working variables of
  :mod:`hbpipe.model.geometry`, log |∂ named / ∂ working| included. Integration uses it.

The default is wide uniform shrinkage (Daniels 1999; Christiansen and Morris 1997): the shrinkage
``c / (c + A)`` is uniform on (0, 1), where A is the spread in units of one observation's
variance and c ten times the sampling variance of the median store. It is proper, so it gives a
posterior for one store as for thousands.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model import jets
from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import Geometry, Named, geometry_of
from hbpipe.model.jets import Jet

Spec: TypeAlias = "str | Mapping[str, str] | LogPrior | None"

#: The default's scale in sampling variances of the median store.
WIDTH = 10.0


@dataclass(frozen=True)
class Density:
    """A density of one parameter: its arguments' names, bounds, and the log density.

    ``log_density(u, u², arguments)`` is exact up to a constant for improper densities. ``u²``
    is separate because an even density of τ is smooth in τ² at 0, where τ itself is not.
    """

    arguments: tuple[str, ...]
    log_density: Callable[[Jet, Jet, tuple[Any, ...]], Jet]


def _half_cauchy(_: Jet, square: Jet, arguments: tuple[Any, ...]) -> Jet:
    (scale,) = arguments
    return np.log(2.0 / (np.pi * scale)) - jets.log1p(square * (1.0 / scale**2))


def _half_normal(_: Jet, square: Jet, arguments: tuple[Any, ...]) -> Jet:
    (scale,) = arguments
    return square * (-0.5 / scale**2) + 0.5 * np.log(2.0 / np.pi) - np.log(scale)


def _normal(u: Jet, _: Jet, arguments: tuple[Any, ...]) -> Jet:
    mean, sd = arguments
    return (u - mean) * (u - mean) * (-0.5 / sd**2) - 0.5 * np.log(2.0 * np.pi) - np.log(sd)


def _gamma(u: Jet, _: Jet, arguments: tuple[Any, ...]) -> Jet:
    from scipy.special import gammaln

    shape, rate = arguments
    constant = shape * np.log(rate) - gammaln(shape)
    return (shape - 1.0) * jets.log(u) - rate * u + constant


def _beta(u: Jet, _: Jet, arguments: tuple[Any, ...]) -> Jet:
    from scipy.special import betaln

    a, b = arguments
    return (a - 1.0) * jets.log(u) + (b - 1.0) * jets.log(1.0 - u) - betaln(a, b)


def _uniform_shrinkage(u: Jet, _: Jet, arguments: tuple[Any, ...]) -> Jet:
    (scale,) = arguments
    return np.log(scale) - 2.0 * jets.log(u + scale)


DENSITIES: dict[str, Density] = {
    "half_cauchy": Density(("scale",), _half_cauchy),
    "half_normal": Density(("scale",), _half_normal),
    "normal": Density(("mean", "sd"), _normal),
    "exponential": Density(("rate",), lambda u, _, a: u * -a[0] + np.log(a[0])),
    "gamma": Density(("shape", "rate"), _gamma),
    "beta": Density(("a", "b"), _beta),
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
    arguments: tuple[Any, ...] = ()

    def log_density(self, named: Named) -> Jet:
        """Evaluate the log density at jets of the named parameters."""
        u = named[self.parameter]
        square = named.get(f"{self.parameter}_squared")
        evaluate = DENSITIES[self.density].log_density
        return evaluate(u, u * u if square is None else square, self.arguments)


@dataclass(frozen=True)
class LogPrior:
    """A compiled hyperprior for ``G`` pools of one family.

    Parameters
    ----------
    family
        The family's name.
    terms
        Its factors, each a density of one named parameter.
    measure
        The named parameters whose density it is. A factor may be of another name: ``bda3`` is
        a density in (α, β) with one factor, a power of the concentration.
    """

    family: str
    terms: tuple[Term, ...]
    measure: tuple[str, ...]

    def __call__(self, coordinates: Array) -> tuple[Array, Array, Array]:
        """Log density with respect to ``measure``, without any Jacobian.

        Parameters
        ----------
        coordinates
            (G, D), the family's coordinates. On the bound "no spread" a parameter that would be
            infinite or not differentiable is taken just inside.

        Returns
        -------
        Value (G,), gradient (G, D) and Hessian (G, D, D) with respect to the coordinates.
        """
        named = geometry_of(self.family).named_at(jets.variables(coordinates))
        total = self._log_density(named, self.terms)
        return total.value, total.gradient, total.hessian

    def in_working(self, working: list[Jet]) -> Jet:
        """Log density with respect to the working variables, Jacobian included."""
        geometry = geometry_of(self.family)
        total = self._log_density(geometry.named(working), self.terms)
        for name in self.measure:
            total = total + geometry.log_jacobian[name](working)
        return total

    def term(self, parameter: str) -> Term | None:
        """Return the factor of one parameter, None where it has none (flat)."""
        return next((term for term in self.terms if term.parameter == parameter), None)

    def select(self, pools: Array) -> LogPrior:
        """Return the hyperprior of some pools; arguments may differ between pools."""
        terms = tuple(
            Term(
                term.parameter,
                term.density,
                tuple(a[pools] if isinstance(a, np.ndarray) else a for a in term.arguments),
            )
            for term in self.terms
        )
        return LogPrior(self.family, terms, self.measure)

    @staticmethod
    def _log_density(named: Named, terms: tuple[Term, ...]) -> Jet:
        total = next(iter(named.values())) * 0.0
        for term in terms:
            total = total + term.log_density(named)
        return total


def compile_hyperprior(
    family: Family, spec: Spec, sketch: Any, *, held: frozenset[str] = frozenset()
) -> LogPrior:
    """Turn a specification into a log density for the pools of a sketch.

    Parameters
    ----------
    family
        The family.
    spec
        ``None`` for the default, ``"uniform_shrinkage(c)"`` for the default with another width,
        ``"bda3"``, a product of powers such as ``"shape^-1.5 rate^-1"``, or a mapping of
        parameter to density. Parameters that a mapping leaves out keep their default.
    sketch
        The family's sketch of ``G`` pools: it gives the median size of a store.
    held
        Named parameters that are fixed. They have no factor and no Jacobian.

    Returns
    -------
    LogPrior
        See there for the two measures.

    Raises
    ------
    FitError
        If a name is unknown (the nearest right one is suggested), an argument is missing or out
        of range, or the parameters named are not of one parametrisation.
    """
    if isinstance(spec, LogPrior):
        return spec
    geometry = geometry_of(family.name)
    given, width = _read(geometry, spec)
    names = frozenset(given.terms) | given.parameters | held
    measure = _parametrisation(geometry, names)
    terms = list(given.joint)
    for place, name in enumerate(measure):
        if name in held or name in given.parameters:
            continue
        if name in given.terms:
            terms.append(given.terms[name])
        else:
            terms.extend(_default(geometry, place, name, width, geometry.median_size(sketch)))
    kept = tuple(term for term in terms if term.parameter not in held)
    return LogPrior(family.name, kept, tuple(name for name in measure if name not in held))


@dataclass(frozen=True)
class _Given:
    """What a specification says: factors by parameter, or joint ones that cover several."""

    terms: Mapping[str, Term]
    joint: tuple[Term, ...] = ()
    parameters: frozenset[str] = frozenset()


def _read(geometry: Geometry, spec: Spec) -> tuple[_Given, float]:
    if spec is None:
        return _Given({}), WIDTH
    if isinstance(spec, str):
        return _read_joint(geometry, spec)
    if not isinstance(spec, Mapping):
        raise FitError(
            f"the hyperprior is a {type(spec).__name__}",
            expected="None, a name, or a mapping of parameter to density",
            remedy='write for example {"tau": "half_normal(1)"}',
        )
    return _Given({name: _read_term(geometry, name, text) for name, text in spec.items()}), WIDTH


_CALL = re.compile(r"^\s*([a-z_]+)\s*(?:\((.*)\))?\s*$")
_POWER = re.compile(r"^([a-z_]+)\^([-+]?[0-9.]+)$")


def _read_joint(geometry: Geometry, text: str) -> tuple[_Given, float]:
    """Read a hyperprior given by one string."""
    if text == "bda3" and geometry.name == "beta_binomial":
        term = Term("concentration", "power", (-2.5,))
        return _Given({}, (term,), frozenset({"alpha", "beta"})), WIDTH
    powers = [_POWER.match(part) for part in text.split()]
    found = {power[1]: float(power[2]) for power in powers if power}
    if found and len(found) == len(powers) and set(found) <= _names(geometry):
        terms = tuple(Term(name, "power", (exponent,)) for name, exponent in found.items())
        return _Given({}, terms, frozenset(found)), WIDTH
    call = _CALL.match(text)
    if call and call[1] == "uniform_shrinkage":
        return _Given({}), _arguments("uniform_shrinkage", call[2] or str(WIDTH))[0]
    known = {"beta_binomial": ["bda3"], "gamma_poisson": ["shape^-1.5 rate^-1"]}
    choices = [*known.get(geometry.name, []), "uniform_shrinkage"]
    raise FitError(
        f"there is no joint hyperprior {text!r} for {geometry.name}",
        expected=f"one of {', '.join(choices)}, or a mapping of parameter to density",
        remedy=_suggestion(text, choices),
    )


def _read_term(geometry: Geometry, parameter: str, text: str) -> Term:
    """Read the density of one parameter."""
    names = _names(geometry)
    if parameter not in names:
        raise FitError(
            f"{geometry.name} has no hyperparameter {parameter!r}",
            expected=f"one of {', '.join(sorted(names))}",
            remedy=_suggestion(parameter, sorted(names)),
        )
    call = _CALL.match(text)
    if not call or call[1] not in DENSITIES:
        raise FitError(
            f"there is no hyperprior {text!r}",
            where={"hyperparameter": parameter},
            expected=f"one of {', '.join(DENSITIES)}",
            remedy=_suggestion(call[1] if call else text, list(DENSITIES)),
        )
    name = call[1]
    if parameter == "mu" and name not in ("normal", "uniform"):
        raise FitError(
            f"the hyperprior of mu is {text!r}",
            expected="normal(m, s) or uniform: mu is integrated analytically",
            remedy="give one of these; spread and noise may have any density",
        )
    return Term(parameter, name, _arguments(name, call[2] or ""))


def _arguments(name: str, text: str) -> tuple[float, ...]:
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


def _names(geometry: Geometry) -> set[str]:
    return {name for names in geometry.parametrisations for name in names} - {"odds"}


def _suggestion(name: str, choices: list[str]) -> str:
    nearest = difflib.get_close_matches(name, choices, n=1, cutoff=0.4)
    return f"did you mean {nearest[0]!r}?" if nearest else "choose one of these"


def _parametrisation(geometry: Geometry, names: frozenset[str]) -> tuple[str, ...]:
    """Return the first parametrisation that contains all the names."""
    for measure in geometry.parametrisations:
        if names <= set(measure):
            return measure
    choices = " or ".join(f"({', '.join(names)})" for names in geometry.parametrisations)
    raise FitError(
        f"the hyperparameters {', '.join(sorted(names))} do not belong to one parametrisation",
        where={"family": geometry.name},
        expected=choices.replace("odds", "tau"),
        remedy="state hyperpriors and fixed values within one of these",
    )


def _default(
    geometry: Geometry, place: int, name: str, width: float, median_size: Array
) -> list[Term]:
    """Return the default factors of one parameter (``research``: wide uniform shrinkage)."""
    scale = width / median_size
    if name == "mean":
        jeffreys = Term("mean", "beta", (0.5, 0.5))
        return [jeffreys if geometry.name == "beta_binomial" else Term("mean", "power", (-0.5,))]
    if name in ("concentration", "rate"):
        return [Term(name, "uniform_shrinkage", (1.0 / scale,))]
    if name == "tau":
        # p(A) = c/(c + A)² with A = τ²/σ²: the factor dA/dτ makes it a density of τ.
        noise = [Term("sigma", "power", (-2.0,))] if geometry.has_noise else []
        return [Term("odds", "uniform_shrinkage", (scale,)), Term("tau", "power", (1.0,)), *noise]
    if name == "sigma":
        return [Term("sigma", "reciprocal")]
    if name == "mu":
        return []
    raise FitError(
        f"the hyperprior says nothing of {name}",
        where={"family": geometry.name},
        expected=f"a density of {name}, which has no default beside the parameters given",
        remedy=f"add one for {name}, or state the hyperprior in other parameters",
    )
