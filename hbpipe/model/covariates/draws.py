"""The posterior of counts with covariates: quadrature in the spread, draws of the coefficients.

Outer nodes are Gauss-Legendre nodes in the spread, as without covariates. At each of them the
coefficients have a posterior that is nearly normal around its mode: importance sampling with a
Student-t law there and a few dozen low-discrepancy points corrects for the rest (Geweke 1989;
Owen 1998). All outer nodes share the points, so that the density along the spread stays smooth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special
from scipy.stats import qmc

from hbpipe.model.covariates.nodes import CoefficientNodes, spread_follows
from hbpipe.model.covariates.target import RegressionTarget
from hbpipe.model.family import Array
from hbpipe.model.geometry import LOCATION, SPREAD
from hbpipe.model.jets import Jet
from hbpipe.model.peak import conditional_at
from hbpipe.model.quadrature import OUTER, OUTER_LIMIT, outer_roughness, outer_rule
from hbpipe.model.window import Range

#: Draws of the coefficients at each outer node, and the next number where they are too uneven.
DRAWS = (64, 256, 1024)
#: Draws at an outer node are enough when they are worth this many of equal weight, on average.
_ENOUGH = 40.0
#: Degrees of freedom of the law that is drawn from.
_FREEDOM = 8.0


@dataclass(frozen=True)
class Drawn:
    """Weighted draws of ``G`` pools: (G, K, L) and working points (G, K, L, V)."""

    weight: Array
    points: Array


def student_points(count: int, dimension: int) -> Array:
    """Low-discrepancy points (L, d) of a multivariate Student-t law, always the same ones."""
    sobol = qmc.Sobol(dimension + 1, scramble=True, rng=np.random.default_rng(1))
    uniform = np.clip(sobol.random(count), 1e-12, 1.0 - 1e-12)
    scale = 2.0 * special.gammaincinv(0.5 * _FREEDOM, uniform[:, -1]) / _FREEDOM
    return np.asarray(special.ndtri(uniform[:, :-1]) / np.sqrt(scale)[:, None])


def log_student(points: Array) -> Array:
    """Log density of that law up to a constant, (L, d) -> (L,)."""
    power = 0.5 * (_FREEDOM + points.shape[1])
    return np.asarray(-power * np.log1p(np.sum(points**2, axis=1) / _FREEDOM))


def draw(target: RegressionTarget, window: Range) -> list[tuple[Array, CoefficientNodes]]:
    """Draw the hyperparameters of each pool, refined until the law is resolved.

    Returns
    -------
    (pools, nodes) of disjoint sets of pools.
    """
    level = np.zeros((target.n_pools, 2), np.int64)
    unresolved = np.ones(target.n_pools, bool)
    parts = []
    while unresolved.any():
        for outer, inner in np.unique(level[unresolved], axis=0):
            pools = np.flatnonzero(unresolved & np.all(level == (outer, inner), axis=1))
            cut = target.select(pools)
            drawn = _tensor(cut, window.select(pools), OUTER[outer], DRAWS[inner])
            rough = np.stack([_is_rough(drawn), _is_uneven(drawn)], axis=1)
            finer = rough & (level[pools] + 1 < (len(OUTER), len(DRAWS)))
            done = ~finer.any(axis=1)
            if done.any():
                kept = np.flatnonzero(done)
                parts.append((pools[done], as_nodes(cut.select(kept), _select(drawn, kept))))
            unresolved[pools[done]] = False
            level[pools] += finer
    return parts


def _select(drawn: Drawn, pools: Array) -> Drawn:
    return Drawn(drawn.weight[pools], drawn.points[pools])


def _is_rough(drawn: Drawn) -> Array:
    return np.asarray(outer_roughness(drawn.weight) > OUTER_LIMIT)


def _is_uneven(drawn: Drawn) -> Array:
    """Whether the draws at an outer node are worth too few, on average over outer nodes, (G,)."""
    total = np.sum(drawn.weight, axis=2)
    worth = total**2 / np.maximum(np.sum(drawn.weight**2, axis=2), 1e-300)
    return np.asarray(np.sum(total * worth, axis=1) < min(_ENOUGH, drawn.weight.shape[2]))


def _tensor(target: RegressionTarget, window: Range, outer: int, draws: int) -> Drawn:
    """Draw at ``outer`` nodes of the spread."""
    if SPREAD in target.free:
        x, log_outer = outer_rule(window, outer)
    else:
        x, log_outer = np.zeros((target.n_pools, 1)), np.zeros((target.n_pools, 1))
    modes, jet = conditional_at(target, window.guide, x)
    places = [place for place in target.free if place != SPREAD]
    standard = student_points(draws, len(places)) if places else np.zeros((1, 0))
    factor, log_scale = _factor(jet, places)
    points = np.repeat(modes[:, None, :], len(standard), axis=1)
    points[:, :, places] += np.einsum("nij,lj->nli", factor, standard)
    if SPREAD not in target.free:
        moved = points[:, :, LOCATION] - modes[:, None, LOCATION]
        points[:, :, SPREAD] += spread_follows(target.geometry) * moved
    log_weight = _log_density(target, points.reshape(*x.shape, *points.shape[1:]))
    log_weight += (log_scale.reshape(x.shape) + log_outer)[:, :, None] - log_student(standard)
    weight = np.exp(log_weight - np.max(log_weight, axis=(1, 2), keepdims=True))
    weight /= np.sum(weight, axis=(1, 2), keepdims=True)
    return Drawn(weight, points.reshape(*weight.shape, -1))


def _factor(jet: Jet, places: list[int]) -> tuple[Array, Array]:
    """Square root R of the inverse curvature, (N, d, d), and log |R|."""
    curvature = -jet.hessian[:, places][:, :, places]
    eigenvalues, vectors = np.linalg.eigh(curvature)
    largest = np.max(np.abs(eigenvalues), axis=1, initial=0.0)[:, None]
    eigenvalues = np.maximum(np.abs(eigenvalues), 1e-10 * largest + 1e-300)
    factor = vectors / np.sqrt(eigenvalues)[:, None, :]
    return factor, -0.5 * np.sum(np.log(eigenvalues), axis=1)


def _log_density(target: RegressionTarget, points: Array) -> Array:
    """Log posterior at points (G, K, L, V) -> (G, K, L), a few of each pool at a time."""
    pools, *inner, _ = points.shape
    flat = points.reshape(pools, -1, points.shape[-1])
    out = np.empty(flat.shape[:2])
    length = target.at_once(flat.shape[1])
    many = target.repeat(length)
    for begin in range(0, flat.shape[1], length):
        block = flat[:, begin : begin + length]
        if block.shape[1] < length:
            many = target.repeat(block.shape[1])
        value = many.evaluate(block.reshape(-1, flat.shape[2])).value
        out[:, begin : begin + length] = value.reshape(block.shape[:2])
    return out.reshape(pools, *inner)


def as_nodes(target: RegressionTarget, drawn: Drawn) -> CoefficientNodes:
    """Turn draws into what a worker needs."""
    coefficients, log_spread = in_user_units(target, drawn.points)
    pools, width = coefficients.shape[0], coefficients.shape[-1]
    inner = drawn.weight.shape[2]
    return CoefficientNodes(
        family=target.family.name,
        method=np.full(pools, "integrated", dtype="<U16"),
        weight=drawn.weight,
        spread=np.exp(log_spread),
        noise=np.ones_like(drawn.weight),
        coefficients=coefficients,
        remaining=np.zeros((pools, drawn.weight.shape[1], 1, width, width)),
        spread_variance=np.zeros(pools),
        spread_covariance=np.zeros((pools, width)),
        curvature=np.full(pools, np.nan),
        n_groups=np.asarray(target.sketch.n_groups),
        inner=np.full(pools, inner),
        drawn=inner > 1,
    )


def in_user_units(target: RegressionTarget, points: Array) -> tuple[Array, Array]:
    """Working points (G, ..., V) -> the user's coefficients (G, ..., P), log A at location 0."""
    own = target.geometry.n_working
    standard = np.concatenate([points[..., :1], points[..., own:]], axis=-1)
    coefficients = np.einsum("gpq,g...q->g...p", target.sketch.units.matrix, standard)
    return coefficients, points[..., SPREAD] - spread_follows(target.geometry) * points[..., LOCATION]
