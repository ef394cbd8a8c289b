"""Pools that vary around a common law: chains of a platform, for families of counts.

The hyperparameters η = (location on its line, log spread) of each chain are normal,

    η_chain ~ N(m, S),      S = (s₁², s₁ s₂ ρ; s₁ s₂ ρ, s₂²),

and given η its stores are those of the family. The likelihood of (m, S) is a
product over chains of ∫ p(data of the chain | η) N(η; m, S) dη, each over the chain's own grid.
log N is linear in 1, η₁, η₂, η₁², η₁η₂ and η₂², so their means and covariances over each chain's
posterior, which are the E-step of EM, give gradient and Hessian too (Fisher's identity; Louis
1982). Newton's method with these needs a few steps where EM needs hundreds.

The hyperprior of S is weak and proper: s_i² has wide uniform shrinkage, c/(c + s²)² with c ten
times what a median chain's own data leave unknown of η_i, at most 1; ρ has the density
3/4 (1 − ρ²) of the LKJ(2) law (Lewandowski, Kurowicka and Joe 2009). m has the hyperprior of a
single chain. The estimate is the mode in m, log s and atanh ρ. There no maximum lies at s = 0,
where chains could not differ, which no data can show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.densities import Term
from hbpipe.model.family import (
    Array,
    Codes,
    Coordinate,
    Degeneracy,
    Derivatives,
    Family,
    Hyperparameters,
)
from hbpipe.model.geometry import LOCATION, SPREAD, geometry_of
from hbpipe.model.hyperpriors import WIDTH, LogPrior
from hbpipe.model.nested.names import law_of
from hbpipe.model.nested.pool_grids import NormalLaw, PoolGrids
from hbpipe.model.numerics import jets
from hbpipe.model.numerics.jets import Jet

#: Places of the coordinates: m₁, m₂, log s₁, log s₂, atanh ρ.
MEAN, LOG_SD, ATANH = (0, 1), (2, 3), 4
#: Bounds of log s and atanh ρ; only numbers that mean nothing lie beyond.
_LOG_SD_BOUND, _ATANH_BOUND = 12.0, 8.0
#: The default's c is no larger: chains a factor e apart, in odds, rate or spread, are far apart.
_WIDEST = 1.0
#: How far log s may move on grids placed for one law.
_DOWN, _UP = 0.7, 1.5
#: A law is resolved from this many distances of nodes on.
_RESOLVED = 1.25
#: Laws whose coefficients are computed together, and nodes that are weighed together.
_AT_ONCE, _NODES = 2**15, 2**16


@dataclass(frozen=True)
class GridSketch:
    """Grids of the chains of one root: what the likelihood of (m, S) depends on.

    Parameters
    ----------
    grids
        Of the C chains that have data.
    sampling
        (2,) what the data of a median chain leave unknown of η: a variance.
    guess
        (5,) coordinates to start from.
    n_pools
        At how many points the root is looked at.
    case
        What the chains' data lack, where that leaves (m, S) without an estimate.
    """

    grids: PoolGrids
    sampling: Array
    guess: Array
    n_pools: int = 1
    case: Degeneracy | None = None

    @property
    def n_rows(self) -> int:
        """Nodes of all grids."""
        return self.n_pools * self.grids.line.size

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Chains with data, (R,)."""
        return np.full(self.n_pools, len(self.grids.line))

    def select(self, pools: Codes) -> GridSketch:
        """Return the root looked at from as many points."""
        return replace(self, n_pools=len(pools))


def coefficients(point: list[Jet]) -> list[Jet]:
    """Coefficients of log N(η; m, S) in (1, η₁, η₂, η₁², η₁η₂, η₂²), as jets (R,).

    Parameters
    ----------
    point
        The coordinates m₁, m₂, log s₁, log s₂, atanh ρ.
    """
    m1, m2, a, b, z = point
    # With ρ = tanh z, 1 − ρ² = 1/cosh² z.
    log_cosh = jets.log1p_exp(z * 2.0) - z - np.log(2.0)
    swell = jets.exp(log_cosh * 2.0)
    p11, p22 = swell * jets.exp(a * -2.0), swell * jets.exp(b * -2.0)
    sinh = (jets.exp(z) - jets.exp(-z)) * 0.5
    p12 = -(sinh * jets.exp(log_cosh - a - b))
    constant = log_cosh - a - b - np.log(2.0 * np.pi)
    pull1, pull2 = p11 * m1 + p12 * m2, p12 * m1 + p22 * m2
    square = pull1 * m1 + pull2 * m2
    return [constant - square * 0.5, pull1, pull2, p11 * -0.5, -p12, p22 * -0.5]


def features(grids: PoolGrids) -> Array:
    """(1, η₁, η₂, η₁², η₁η₂, η₂²) at the nodes of C pools, (C, 6, K L)."""
    x, y = (at.reshape(grids.flat.shape) for at in (grids.line, grids.log_spread))
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def law_at(coordinates: Array) -> NormalLaw:
    """Return N(m, S) at coordinates (R, 5)."""
    sd = np.exp(coordinates[:, list(LOG_SD)])
    return NormalLaw(coordinates[:, list(MEAN)], sd, np.tanh(coordinates[:, ATANH]))


def coefficients_for(grids: PoolGrids, coordinates: Array) -> Iterator[Array]:
    """Yield the coefficients of the law of each of C pools at points (S, 5), some at a time.

    Blocks (B, C, 6) of points in their order. A law narrower than a pool's grid can resolve is
    taken as wide as that: within so little the pool's likelihood hardly changes, and between
    nodes the sum over nodes would vanish.
    """
    least, pools = np.log(_RESOLVED * grids.resolution), len(grids.line)
    length, few = max(1, _AT_ONCE // pools), max(1, _NODES // grids.line.size)
    for begin in range(0, len(coordinates), length):
        part = np.repeat(coordinates[begin : begin + length, None], pools, axis=1)
        part[:, :, list(LOG_SD)] = np.maximum(part[:, :, list(LOG_SD)], least)
        point = [jets.constants(column, 0) for column in part.reshape(-1, part.shape[2]).T]
        found = np.stack([jet.value for jet in coefficients(point)], axis=1)
        every = found.reshape(len(part), pools, -1)
        yield from (every[k : k + few] for k in range(0, len(every), few))


def weigh(log_weight: Array, parts: Array, at: Array) -> tuple[Array, Array]:
    """Posterior weights of the nodes of C pools under their laws, and log marginal likelihoods.

    Parameters
    ----------
    log_weight, parts
        (C, N), and :func:`features` (C, 6, N).
    at
        (..., C, 6) the laws' :func:`coefficients`.

    Returns
    -------
    Weights (..., C, N), adding to one, and (..., C).
    """
    value = log_weight + np.einsum("...cf,cfn->...cn", at, parts)
    top = np.max(value, axis=-1, keepdims=True)
    weight = np.exp(value - top)
    total = np.sum(weight, axis=-1, keepdims=True)
    return weight / total, (top + np.log(total))[..., 0]


def log_marginal(sketch: GridSketch, coordinates: Array) -> Derivatives:
    """Log marginal likelihood of all chains at points (R, 5): value, gradient and Hessian."""
    inner = coefficients(jets.variables(coordinates))
    log_weight, parts = sketch.grids.flat, features(sketch.grids)
    value, gradient, hessian = [], [], []
    for at in np.stack([jet.value for jet in inner], axis=1):
        weight, evidence = weigh(log_weight, parts, np.broadcast_to(at, parts.shape[:2]))
        mean = np.einsum("cn,cfn->cf", weight, parts)
        away = parts - mean[:, :, None]
        value.append(np.sum(evidence))
        gradient.append(np.sum(mean, axis=0))
        hessian.append(np.einsum("cfn,cgn->fg", weight[:, None, :] * away, away))
    found = jets.chain(np.stack(value), np.stack(gradient), np.stack(hessian), inner)
    return found.value, found.gradient, found.hessian


@dataclass(frozen=True)
class PooledPrior:
    """Hyperprior of (m, S) of one root.

    Parameters
    ----------
    centre
        Of m: the hyperprior of one chain.
    terms
        Of s₁ and s₂; None for the default.
    sampling
        (2,) the variances that the default's scale is ten times of.
    """

    centre: LogPrior
    terms: tuple[Term | None, Term | None]
    sampling: Array

    def __call__(self, coordinates: Array) -> Derivatives:
        """Log density in the coordinates, Jacobian included; what is maximised."""
        jet = self.at(jets.variables(coordinates))
        return jet.value, jet.gradient, jet.hessian

    def at(self, point: list[Jet]) -> Jet:
        """Evaluate it at jets of the coordinates."""
        log_cosh = jets.log1p_exp(point[ATANH] * 2.0) - point[ATANH] - np.log(2.0)
        # The density of ρ, and dρ/dz = 1 − ρ².
        total: Jet = log_cosh * -4.0 + np.log(0.75)
        total = total + self.centre.in_working([point[i] for i in MEAN])
        for number, place in enumerate(LOG_SD):
            total = total + self._of_sd(number, point[place]) + point[place]
        return total

    def _of_sd(self, number: int, log_sd: Jet) -> Jet:
        variance, term = jets.exp(log_sd * 2.0), self.terms[number]
        if term is not None:
            named = {term.parameter: jets.exp(log_sd), f"{term.parameter}_squared": variance}
            return term.log_density(named)
        scale = min(WIDTH * self.sampling[number], _WIDEST)
        shrinkage: Jet = jets.log(variance + scale) * -2.0 + log_sd + np.log(2.0 * scale)
        return shrinkage

    def select(self, pools: Codes) -> PooledPrior:
        """Return the same hyperprior: its arguments are numbers."""
        return self


def pooled_family(family: Family, level: str, around: Array | None = None) -> Family:
    """Return the family of chains: its pools are roots, its coordinates those of (m, S).

    With ``around`` (5,), where grids were placed, log s stays where they resolve the law.
    """
    base = len(family.coordinates)
    assert base == len(MEAN), "families of counts have a location and a spread"
    names = law_of(level)
    bound, limits = np.inf, [(-_LOG_SD_BOUND, _LOG_SD_BOUND)] * len(LOG_SD)
    if around is not None:
        limits = [(around[place] - _DOWN, around[place] + _UP) for place in LOG_SD]
    axes = (
        Coordinate("location", -bound, bound, family.coordinates[LOCATION].hyperparameter),
        Coordinate("log_spread", -bound, bound, family.coordinates[SPREAD].hyperparameter),
        *(
            Coordinate(f"log_{name}", low, high, name)
            for name, (low, high) in zip(names, limits, strict=False)
        ),
        Coordinate(f"atanh_{names[-1]}", -_ATANH_BOUND, _ATANH_BOUND, names[-1]),
    )
    return replace(
        family,
        hyperparameters=family.hyperparameters + names,
        coordinates=axes,
        moments={"guess": _guess},
        scale=_scale,
        degeneracies=_degeneracies,
        log_marginal=log_marginal,
        log_restriction=None,
        from_coordinates=partial(_from_coordinates, family, names),
        to_coordinates=partial(_to_coordinates, family, names),
        geometry=None,
    )


def _guess(sketch: GridSketch, held: Array) -> Array:
    return np.where(np.isnan(held), sketch.guess, held)


def _scale(sketch: GridSketch) -> Array:
    """One sd of the law of the chains; one unit of logarithms."""
    size = np.concatenate([np.exp(sketch.guess[list(LOG_SD)]), np.ones(3)])
    return np.tile(size, (sketch.n_pools, 1))


def _degeneracies(sketch: GridSketch) -> tuple[Degeneracy, ...]:
    """No chain with data, or none with a count."""
    return () if sketch.case is None else (sketch.case,)


def _from_coordinates(
    family: Family, names: tuple[str, ...], coordinates: Array
) -> dict[str, Array]:
    """Return the family's hyperparameters of a typical chain, η = m; then s₁, s₂ and ρ."""
    flat = coordinates.reshape(-1, coordinates.shape[-1])
    working = [jets.constants(flat[:, place], 0) for place in MEAN]
    own = np.stack([jet.value for jet in geometry_of(family.name).coordinates(working)], axis=-1)
    typical = family.from_coordinates(own.reshape(*coordinates.shape[:-1], len(MEAN)))
    sds = {names[i]: np.exp(coordinates[..., place]) for i, place in enumerate(LOG_SD)}
    return typical | sds | {names[-1]: np.tanh(coordinates[..., ATANH])}


def _to_coordinates(
    family: Family, names: tuple[str, ...], hyperparameters: Hyperparameters
) -> Array:
    """NaN for what the given names leave open."""
    own = family.to_coordinates({n: v for n, v in hyperparameters.items() if n not in names})
    flat = np.atleast_2d(own)
    log_spread = geometry_of(family.name).log_spread
    line = np.where(np.isnan(flat[:, LOCATION]), 0.0, flat[:, LOCATION])
    # Where the location is open the log spread must not depend on it.
    first, moved = (
        log_spread(flat[:, SPREAD], [jets.constants(at, 0)] * 2).value for at in (line, line + 1.0)
    )
    known = ~np.isnan(flat[:, LOCATION]) | (first == moved)
    spread = np.where(known, first, np.nan).reshape(own.shape[:-1])
    sds = [np.asarray(hyperparameters.get(name, np.nan), np.float64) for name in names]
    columns = [own[..., LOCATION], spread, np.log(sds[0]), np.log(sds[1]), np.arctanh(sds[2])]
    return np.stack(np.broadcast_arrays(*columns), axis=-1)
