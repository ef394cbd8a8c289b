"""Hyperpriors of a normal family with nested levels.

The stores' own hyperparameters have the hyperprior of the family without levels, under the same
names. The default for the spread of a level is again wide uniform shrinkage, c/(c + τ²)² in τ²
with c = 10 sampling variances of the mean of a median group. That variance follows from the
spreads below, so the default is conditional on them:

    s₀ = σ²/n of the median store,    s = (τ_below² + s_below)/k,

with k the median number of children with data. It is proper whatever they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.densities import Term, read_arguments, read_call, read_term
from hbpipe.model.family import Array, Codes, Derivatives, Family
from hbpipe.model.geometry import NOISE, geometry_of
from hbpipe.model.hyperpriors import WIDTH, LogPrior, compile_hyperprior
from hbpipe.model.names import unknown
from hbpipe.model.nested.normal import NestedSketch
from hbpipe.model.numerics import jets
from hbpipe.model.numerics.jets import Jet

#: τ² on its bound is taken as this, so that log τ and its derivatives are numbers.
_SMALLEST_VARIANCE = 1e-40
#: Exponents of densities that do not integrate to one by themselves.
_EXPONENTS = {"uniform": 0.0, "reciprocal": -1.0}


@dataclass(frozen=True)
class NestedPrior:
    """A compiled hyperprior for ``R`` roots.

    Parameters
    ----------
    stores
        That of the family without levels.
    own, spread
        The number of the family's own coordinates, and the place of the stores' τ² among them.
    names, terms
        For each level, coarse to fine, the name of its τ and its factor: a density of τ, None
        for the default.
    held
        Names of the τ that are fixed; they have no factor.
    sampling
        (R,) sampling variance of the median store, in units of σ² where there is one.
    children
        For each level, coarse to fine, (R,) the median number of children of its groups.
    width
        The default's scale in sampling variances.
    """

    stores: LogPrior
    own: int
    spread: int
    names: tuple[str, ...]
    terms: tuple[Term | None, ...]
    held: frozenset[str]
    sampling: Array
    children: tuple[Array, ...]
    width: float

    def __call__(self, coordinates: Array) -> Derivatives:
        """Log density in the named parameters, as :meth:`LogPrior.__call__`; no Jacobian."""
        point = jets.variables(coordinates)
        first = Jet(*self.stores(coordinates[:, : self.own])).embed(coordinates.shape[1])
        noise = jets.exp(point[NOISE] * 2.0) if self.own > NOISE else point[0] * 0.0 + 1.0
        found = first + self.of_levels(noise, [point[self.spread], *point[self.own :]])
        return found.value, found.gradient, found.hessian

    def of_levels(self, noise: Jet, variances: list[Jet]) -> Jet:
        """Log density of the τ of the levels.

        Parameters
        ----------
        noise
            σ², or 1 where the sampling variances are known.
        variances
            τ² of the stores, then of the levels from coarse to fine.
        """
        found, sampling, below = noise * 0.0, noise * self.sampling, variances[0]
        for i in reversed(range(len(self.names))):
            variance = variances[i + 1]
            sampling = (below + sampling) * (1.0 / self.children[i])
            below = variance
            if self.names[i] not in self.held:
                found = found + self._of_level(i, variance, sampling * self.width)
        return found

    def _of_level(self, number: int, variance: Jet, scale: Jet) -> Jet:
        positive = np.maximum(variance.value, _SMALLEST_VARIANCE)
        log_tau = jets.log(Jet(positive, variance.gradient, variance.hessian)) * 0.5
        term, name = self.terms[number], self.names[number]
        if term is not None:
            return term.log_density({name: jets.exp(log_tau), f"{name}_squared": variance})
        # c/(c + τ²)² is a density of τ²; that of τ has the factor 2τ.
        shrinkage: Jet = jets.log(scale) - jets.log(scale + variance) * 2.0 + log_tau + np.log(2.0)
        return shrinkage

    def select(self, pools: Codes) -> NestedPrior:
        """Return the hyperprior of some roots."""
        return replace(
            self,
            stores=self.stores.select(pools),
            sampling=self.sampling[pools],
            children=tuple(children[pools] for children in self.children),
        )


def compile_nested(
    family: Family,
    spec: Any,
    sketch: NestedSketch,
    names: tuple[str, ...],
    fixed: frozenset[str] = frozenset(),
) -> NestedPrior:
    """Turn a specification into the log density of ``R`` roots.

    Parameters
    ----------
    family
        The family of the stores.
    spec
        As in :func:`hbpipe.model.hyperpriors.compile_hyperprior`; a mapping may also name the
        τ of levels.
    sketch
        The sketch of the roots.
    names
        The names of the levels' τ, coarse to fine.
    fixed
        Hyperparameters that are held.

    Raises
    ------
    FitError
        For unknown names and wrong arguments.
    """
    if isinstance(spec, NestedPrior):
        return spec
    geometry, whole = geometry_of(family), sketch.whole
    own, ours = split_hyperprior(family, spec, names)
    call = read_call(spec) if isinstance(spec, str) else None
    return NestedPrior(
        stores=compile_hyperprior(family, own, whole, held=fixed - set(names)),
        own=len(family.coordinates),
        spread=family.spreads[0],
        names=names,
        terms=tuple(ours.get(name) for name in names),
        held=fixed & set(names),
        sampling=1.0 / geometry.median_size(whole),
        children=tuple(sketch.median_children()),
        width=read_arguments(call[0], call[1])[0] if call and call[1] else WIDTH,
    )


def split_hyperprior(
    family: Family, spec: Any, names: tuple[str, ...]
) -> tuple[Any, dict[str, Term]]:
    """Divide a specification into what is about the family and the factors of other names.

    Raises
    ------
    FitError
        For a name that is neither the family's nor one of ``names``.
    """
    if not isinstance(spec, Mapping):
        return spec, {}
    known = (*geometry_of(family).names, *names)
    for name in spec:
        if name not in known:
            raise unknown("hyperparameter", name, known)
    ours = {name: read_term(name, text) for name, text in spec.items() if name in names}
    return {name: text for name, text in spec.items() if name not in names}, ours


def check_proper_nested(prior: NestedPrior, sketch: NestedSketch, fixed: frozenset[str]) -> None:
    """Raise unless the posterior of the hyperparameters of every root is proper.

    A density u^e of an sd is integrable at 0 if e > −1. Let some sds grow together, each with
    such a density. The likelihood falls as their size to the power −(units − 1), with the number
    of units of the finest of them, as many stores or groups as vary independently; one more
    where the root's mean is not flat. So Σ (e + 1) must stay below that, for any set of them.

    Raises
    ------
    FitError
        With the number of the first root concerned.
    """
    known_mean = "mu" in fixed or any(t.density == "normal" for t in prior.stores.terms)
    open_ended = list(_open_ended(prior, sketch))
    for name, exponent, _ in open_ended:
        if exponent <= -1.0 and name != "sigma":
            raise _improper(name, 0, "small")
    for size in range(1, len(open_ended) + 1):
        for some in combinations(open_ended, size):
            freedom = some[0][2] - (not known_mean)
            unbounded = sum(exponent + 1.0 for _, exponent, _ in some) >= freedom
            if np.any(unbounded):
                raise _improper(some[-1][0], int(np.argmax(unbounded)), "large")


def _open_ended(prior: NestedPrior, sketch: NestedSketch) -> Iterator[tuple[str, float, Array]]:
    """Sds whose density is a power: name, exponent, and units that vary (R,), fine to coarse."""
    units = [np.asarray(count, np.float64) for count in sketch.units]
    terms = {term.parameter: term for term in prior.stores.terms}
    if "sigma" in terms and prior.own > NOISE:
        yield from _power(terms["sigma"], np.asarray(sketch.whole.n_values))
    for name in ("tau", "tau_squared"):
        # With the default, a power of τ is a part of the density of the odds.
        if name in terms and "odds" not in terms:
            yield from _power(terms[name], units[-1])
    for term, count in reversed(list(zip(prior.terms, units, strict=False))):
        if term is not None:
            yield from _power(term, count)


def _power(term: Term, units: Array) -> Iterator[tuple[str, float, Array]]:
    exponent = _EXPONENTS.get(term.density)
    if term.density == "power":
        exponent = float(np.asarray(term.arguments[0]))
    if exponent is not None:
        squared = term.parameter.endswith("_squared")
        yield term.parameter, 2.0 * exponent + 1.0 if squared else exponent, units


def _improper(name: str, root: int, end: str) -> FitError:
    return FitError(
        f"the hyperprior gives an improper posterior: arbitrarily {end} values of {name} keep "
        "all their weight",
        where={"root": root, "hyperparameter": name},
        expected="a posterior that integrates to one",
        remedy="leave this hyperprior out (the default is proper), or give a proper density such "
        "as half_normal, half_cauchy or exponential",
    )
