"""The posterior of a pool's hyperparameters by quadrature.

Outer coordinate: v = τ/(s + τ) in (0, 1), in which the posterior is smooth at "no spread";
Gauss–Legendre nodes on the range that matters. Inner coordinate: the location on its line
(Beta-Binomial, Gamma-Poisson) or log σ (Normal), around its conditional mode with trapezoidal
nodes, which converge exponentially for a density that falls off on both sides (Trefethen and
Weideman 2014). The location of a normal family is integrated analytically.

Along each coordinate nodes are added until the density is resolved there.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, Geometry
from hbpipe.model.integration.nodes import Nodes, combine_pools, single_nodes
from hbpipe.model.integration.peak import conditional
from hbpipe.model.integration.target import Target
from hbpipe.model.integration.window import DROP, FARTHEST, Range, reach
from hbpipe.model.numerics.jets import Jet

#: Of the nodes at one outer node: log weight, A, prior mean, its remaining variance, noise
#: variance, and how far the density has fallen at the ends of the inner range.
Parts: TypeAlias = tuple[Array, ...]

#: Outer and inner nodes: the next number where the density is not resolved. The first ones
#: resolve a normal density over its whole range.
OUTER, INNER = (19, 31, 63), (11, 23, 47)
#: Roughness up to which a density counts as resolved; limits are then good to 0.002 sd.
OUTER_LIMIT, _INNER_LIMIT = 0.05, 0.025
#: At the ends of the inner range the density has fallen by exp(−this) at least, except at outer
#: nodes that together have less than this weight.
_LEAST_DROP, _NEGLIGIBLE = 5.0, 1e-3
#: A component is narrow when its variance is below this share of the location's.
_NARROW = 0.3


def inner_place(target: Target) -> int | None:
    """Return the working variable that the inner nodes are about, if any."""
    place = LOCATION if not target.geometry.location_is_analytic else NOISE
    return place if place in target.free else None


def quadrature(target: Target, window: Range) -> Nodes:
    """Nodes of each pool, refined along each coordinate until the density is resolved there."""
    level = np.zeros((target.n_pools, 2), np.int64)
    unresolved = np.ones(target.n_pools, dtype=bool)
    parts: list[tuple[NDArray[np.int64], Nodes]] = []
    while unresolved.any():
        for outer, inner in np.unique(level[unresolved], axis=0):
            pools = np.flatnonzero(unresolved & np.all(level == (outer, inner), axis=1))
            nodes, roughness = tensor_rule(
                target.select(pools), window.select(pools), OUTER[outer], INNER[inner]
            )
            finer = (roughness > 1.0) & (level[pools] + 1 < (len(OUTER), len(INNER)))
            done = ~finer.any(axis=1)
            parts.append((pools[done], nodes.select(np.flatnonzero(done))))
            unresolved[pools[done]] = False
            level[pools] += finer
    nodes = combine_pools([part for part in parts if len(part[0])], target.n_pools)
    return replace(nodes, along_one=True)


def tensor_rule(target: Target, window: Range, outer: int, inner: int) -> tuple[Nodes, Array]:
    """Nodes on ``outer`` × ``inner`` points, and how rough the density is on them.

    The roughness along both coordinates, (G, 2), is in units of what is allowed.

    Raises
    ------
    FitError
        If nothing finite remains, or the inner range does not reach the ends of the density.
    """
    if SPREAD in target.free:
        x, log_outer = outer_rule(window, outer)
    else:
        x, log_outer = np.zeros((target.n_pools, 1)), np.zeros((target.n_pools, 1))
    start = window.start(x)
    parts = target.blockwise(partial(_inner_rule, inner=inner), start, x, log_outer)
    weight = np.exp(parts[0] - np.max(parts[0], axis=(1, 2), keepdims=True))
    weight /= np.sum(weight, axis=(1, 2), keepdims=True)
    _check_tails(target, weight, parts[-1])
    nodes = single_nodes(
        target.family.name,
        "integrated",
        spread=np.zeros(target.n_pools),
        location=np.zeros(target.n_pools),
        noise=np.ones(target.n_pools),
        n_groups=np.asarray(target.sketch.n_groups),
    )
    _, spread, location, variance, noise, _ = parts
    nodes = replace(
        nodes,
        weight=weight,
        spread=spread,
        location=location,
        location_variance=variance,
        noise=noise,
    )
    roughness = np.stack(
        [outer_roughness(weight) / OUTER_LIMIT, _inner_roughness(weight) / _INNER_LIMIT], axis=1
    )
    return smooth_narrow(nodes, target.geometry), roughness


def _check_tails(target: Target, weight: Array, drop: Array) -> None:
    """Raise unless the density is finite and ends within the inner range; both (G, K, L).

    A proper posterior does. Where the tails of an improper one escaped the check of the
    hyperprior, the result would be the range of the nodes and not the posterior.
    """
    endless = np.sum(np.where(drop < _LEAST_DROP, weight, 0.0), axis=(1, 2)) > _NEGLIGIBLE
    lost = endless | ~np.isfinite(weight).all(axis=(1, 2))
    if lost.any():
        pool = int(np.flatnonzero(lost)[0])
        raise FitError(
            "the posterior of the hyperparameters has no end that integration can reach",
            where={"pool": pool, "stores": int(target.sketch.n_groups[pool])},
            expected="a density that falls off on both sides of its mode",
            remedy="give a proper hyperprior with lighter tails, pool more stores, or hold what "
            "is known with `fixed`",
        )


def outer_roughness(weight: Array) -> Array:
    """Size of the last Legendre coefficients of the outer density, relative to the largest.

    A rule with K nodes integrates the first 2K coefficients exactly, so where the K-th are small
    the error is of the order of their square (Trefethen 2013, chapter 19).
    """
    outer = weight.shape[1]
    if outer == 1:
        return np.zeros(len(weight))
    at, _ = np.polynomial.legendre.leggauss(outer)
    basis = np.polynomial.legendre.legvander(at, outer - 1) * (2.0 * np.arange(outer) + 1.0)
    size = np.abs(np.einsum("gk,kn->gn", np.sum(weight, axis=2), basis))
    return np.asarray(np.max(size[:, -2:], axis=1) / np.max(size, axis=1))


def _inner_roughness(weight: Array) -> Array:
    """Relative difference between the sums over odd and over even inner nodes.

    Each is the trapezoidal rule with twice the step; the error of all nodes together is of the
    order of the difference squared or smaller.
    """
    if weight.shape[2] == 1:
        return np.zeros(len(weight))
    odd, even = np.sum(weight[:, :, 0::2], axis=2), np.sum(weight[:, :, 1::2], axis=2)
    # Outer node by outer node: differences of opposite sign must not cancel.
    return np.asarray(np.sum(np.abs(odd - even), axis=1))


def smooth_narrow(nodes: Nodes, geometry: Geometry) -> Nodes:
    """Collapse the inner nodes where a component is narrower than the gaps between them.

    Near "no spread" the law of θ at a given location is almost a point, and a mixture over
    points is a staircase. There θ follows the location itself, whose law is close to a Beta or
    a Gamma.
    """
    if geometry.location_is_analytic or nodes.weight.shape[2] == 1:
        return nodes
    small = nodes.collapse()
    v0, v1, v2 = geometry.variance
    component = small.spread * (v0 + v1 * small.location + v2 * small.location**2)
    narrow = component < _NARROW * small.location_variance
    first = np.zeros(nodes.weight.shape[2]) + (np.arange(nodes.weight.shape[2]) == 0)
    return replace(
        nodes,
        weight=np.where(narrow, small.weight * first, nodes.weight),
        location=np.where(narrow, small.location, nodes.location),
        location_variance=np.where(narrow, small.location_variance, nodes.location_variance),
    )


def outer_rule(window: Range, outer: int) -> tuple[Array, Array]:
    """Gauss–Legendre in v: log A (G, K), and log of weight times dx/dv (G, K)."""
    at, weights = np.polynomial.legendre.leggauss(outer)
    low, high = special.expit(window.low)[:, None], special.expit(window.high)[:, None]
    share = 0.5 * (1.0 + at)[None, :]
    v = low + (high - low) * share
    # 1 − v from the other end, so that the range next to 1 keeps its digits.
    rest = special.expit(-window.high)[:, None] + (high - low) * (1.0 - share)
    x = window.log_scale[:, None] + 2.0 * (np.log(v) - np.log(rest))
    stretch = np.log(2.0) - np.log(v) - np.log(rest)
    return x, stretch + np.log(0.5 * (high - low) * weights[None, :])


def _inner_rule(target: Target, start: Array, x: Array, log_measure: Array, *, inner: int) -> Parts:
    """Nodes over the inner variable at one outer node of each pool, (G, L) each.

    ``start`` (G, V) is where conditional modes are sought from, ``x`` (G,) the log spread.
    """
    target = target.given_spread(x)
    point, jet = conditional(target, start, x)
    place = inner_place(target)
    if place is None:
        only = (*_node(target, point, jet, log_measure), np.full(len(x), np.inf))
        return tuple(part[:, None] for part in only)
    mode, top = point[:, place], _node(target, point, jet, log_measure)[0]
    sd = 1.0 / np.sqrt(np.maximum(-jet.hessian[:, place, place], 1e-6))

    def at(many: Target, t: Array, guide: Array, measure: Array) -> Parts:
        moved = guide.copy()
        moved[:, place] = t
        return _node(many, many.complete(moved), None, measure)

    # Both sides together, those below first.
    both, side = np.tile(np.arange(len(x)), 2), np.repeat([-1.0, 1.0], len(x))

    def drop(distance: Array, sides: Codes) -> Array:
        own = both[sides]
        t = mode[own] + side[sides] * distance
        return top[own] - at(target.select(own), t, point[own], log_measure[own])[0]

    reached = reach(drop, 5.0 * sd[both], DROP)
    below, above = reached.reshape(2, -1)
    step = (below + above) / (inner + 1)
    fallen = np.full(len(x), np.inf)
    if np.any(reached >= FARTHEST):
        fallen = np.min(drop(reached, np.arange(len(both))).reshape(2, -1), axis=0)
    t = (mode - below)[:, None] + step[:, None] * np.arange(1, inner + 1)
    guides = np.repeat(point[:, None], inner, axis=1)
    measures = np.repeat((log_measure + np.log(step))[:, None], inner, axis=1)
    found = target.blockwise(at, t, guides, measures)
    return (*found, np.repeat(fallen[:, None], inner, axis=1))


def _node(target: Target, point: Array, jet: Jet | None, log_measure: Array) -> Parts:
    """One node: log weight, A, prior mean, its remaining variance, noise variance, (G,) each.

    ``jet`` is the target at the point, where it is known.
    """
    geometry = target.geometry
    variance, location = np.zeros(target.n_pools), point[:, LOCATION]
    if geometry.location_is_analytic and LOCATION in target.free:
        # The log posterior is exactly quadratic in μ, so one Newton step finds its mean.
        jet = target.evaluate(point) if jet is None else jet
        variance = 1.0 / -jet.hessian[:, LOCATION, LOCATION]
        slope = jet.gradient[:, LOCATION]
        location = location + slope * variance
        gain = 0.5 * slope**2 * variance + 0.5 * np.log(2.0 * np.pi * variance)
        value = jet.value + log_measure + gain
    else:
        value = (target.log_density(point) if jet is None else jet.value) + log_measure
    noise = np.exp(2.0 * point[:, NOISE]) if geometry.has_noise else np.ones(target.n_pools)
    return value, np.exp(point[:, SPREAD]), geometry.mean(location), variance, noise
