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

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.densities import Term, read_arguments, read_call, read_term
from hbpipe.model.family import Array, Codes, Family
from hbpipe.model.geometry import LOCATION, Named
from hbpipe.model.named import Space, space_of
from hbpipe.model.names import suggestion
from hbpipe.model.numerics import jets
from hbpipe.model.numerics.jets import Jet

Spec: TypeAlias = "str | Mapping[str, str] | LogPrior | None"

#: The default's scale in sampling variances of the median store.
WIDTH = 10.0


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
        named = space_of(self.family).named_at(jets.variables(coordinates))
        total = self._log_density(named, self.terms)
        return total.value, total.gradient, total.hessian

    def in_working(self, working: list[Jet]) -> Jet:
        """Log density with respect to the working variables, Jacobian included."""
        geometry = space_of(self.family)
        total = self._log_density(geometry.named(working), self.terms)
        for name in self.measure:
            total = total + geometry.log_jacobian[name](working)
        return total

    def term(self, parameter: str) -> Term | None:
        """Return the factor of one parameter, None where it has none (flat)."""
        return next((term for term in self.terms if term.parameter == parameter), None)

    def select(self, pools: Codes) -> LogPrior:
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
    geometry = space_of(family)
    given, width = _read(family.name, geometry, spec)
    names = frozenset(given.terms) | given.parameters | held
    measure = _parametrisation(family.name, geometry, names)
    scale = width / geometry.median_size(sketch)
    terms = list(given.joint)
    for name in measure:
        if name in held or name in given.parameters:
            continue
        if name in given.terms:
            terms.append(given.terms[name])
        else:
            terms.extend(_default(family.name, geometry, name, scale))
    kept = tuple(term for term in terms if term.parameter not in held)
    return LogPrior(family.name, kept, tuple(name for name in measure if name not in held))


def read_parts(
    spec: Any, names: Sequence[str], of: str, example: Mapping[str, str]
) -> tuple[Mapping[str, Any], float]:
    """Read the hyperprior of a family that states it part by part.

    Parameters
    ----------
    spec
        None, ``"uniform_shrinkage(c)"``, or a mapping of some of the ``names``.
    of, example
        What it is the hyperprior of, and a right one, for errors.

    Returns
    -------
    What is stated, by name, and the width of the default for the rest.

    Raises
    ------
    FitError
        For another name (the nearest is suggested), or anything else.
    """
    if spec is None:
        return {}, WIDTH
    if isinstance(spec, Mapping):
        for name in spec:
            if name not in names:
                raise FitError(
                    f"the hyperprior is about {name!r}",
                    expected=f"some of {', '.join(names)}",
                    remedy=suggestion(str(name), names),
                )
        return spec, WIDTH
    call = read_call(spec) if isinstance(spec, str) else None
    if call and call[0] == "uniform_shrinkage":
        return {}, read_arguments(call[0], call[1] or str(WIDTH))[0]
    raise FitError(
        f"there is no joint hyperprior {spec!r} of {of}",
        expected="uniform_shrinkage(c), or a mapping of parameter to density",
        remedy=f"write for example {json.dumps(example)}",
    )


@dataclass(frozen=True)
class _Given:
    """What a specification says: factors by parameter, or joint ones that cover several."""

    terms: Mapping[str, Term]
    joint: tuple[Term, ...] = ()
    parameters: frozenset[str] = frozenset()


def _read(family: str, geometry: Space, spec: Spec) -> tuple[_Given, float]:
    if spec is None:
        return _Given({}), WIDTH
    if isinstance(spec, str):
        return _read_joint(family, geometry, spec)
    if not isinstance(spec, Mapping):
        raise FitError(
            f"the hyperprior is a {type(spec).__name__}",
            expected="None, a name, or a mapping of parameter to density",
            remedy='write for example {"tau": "half_normal(1)"}',
        )
    terms = {name: _read_term(family, geometry, name, text) for name, text in spec.items()}
    return _Given(terms), WIDTH


_POWER = re.compile(r"^([a-z_][a-z_0-9]*)\^([-+]?[0-9.]+)$")


def _read_joint(family: str, geometry: Space, text: str) -> tuple[_Given, float]:
    """Read a hyperprior given by one string."""
    if text in geometry.joint:
        names, factors = geometry.joint[text]
        return _Given({}, factors, frozenset(names)), WIDTH
    powers = [_POWER.match(part) for part in text.split()]
    found = {power[1]: float(power[2]) for power in powers if power}
    if found and len(found) == len(powers) and found.keys() <= set(geometry.names):
        terms = tuple(Term(name, "power", (exponent,)) for name, exponent in found.items())
        return _Given({}, terms, frozenset(found)), WIDTH
    call = read_call(text)
    if call and call[0] == "uniform_shrinkage":
        return _Given({}), read_arguments(call[0], call[1] or str(WIDTH))[0]
    choices = [*geometry.joint, "uniform_shrinkage"]
    raise FitError(
        f"there is no joint hyperprior {text!r} for {family}",
        expected=f"one of {', '.join(choices)}, or a mapping of parameter to density",
        remedy=suggestion(text, choices),
    )


def _read_term(family: str, geometry: Space, parameter: str, text: str) -> Term:
    """Read the density of one parameter."""
    if parameter not in geometry.names:
        raise FitError(
            f"{family} has no hyperparameter {parameter!r}",
            expected=f"one of {', '.join(geometry.names)}",
            remedy=suggestion(parameter, geometry.names),
        )
    term = read_term(parameter, text)
    is_location = parameter in {names[LOCATION] for names in geometry.parametrisations}
    any_sign = geometry.location_has_any_sign and is_location
    if any_sign and term.density not in ("normal", "uniform"):
        raise FitError(
            f"the hyperprior of {parameter} is {text!r}",
            expected=f"normal(m, s) or uniform: {parameter} may have any sign",
            remedy="give one of these; spread and noise may have any density",
        )
    return term


def _parametrisation(family: str, geometry: Space, names: frozenset[str]) -> tuple[str, ...]:
    """Return the first parametrisation that contains all the names."""
    for measure in geometry.parametrisations:
        if names <= set(measure):
            return measure
    raise FitError(
        f"the hyperparameters {', '.join(sorted(names))} do not belong to one parametrisation",
        where={"family": family},
        expected=" or ".join(f"({', '.join(names)})" for names in geometry.parametrisations),
        remedy="state hyperpriors and fixed values within one of these",
    )


def _default(family: str, geometry: Space, name: str, scale: Array) -> tuple[Term, ...]:
    """Return the default factors of one parameter."""
    if name in geometry.defaults:
        return geometry.defaults[name](scale)
    raise FitError(
        f"the hyperprior says nothing of {name}",
        where={"family": family},
        expected=f"a density of {name}, which has no default beside the parameters given",
        remedy=f"add one for {name}, or state the hyperprior in other parameters",
    )
