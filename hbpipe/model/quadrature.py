"""The posterior of a pool's hyperparameters by quadrature.

Outer coordinate: v = τ/(s + τ) in (0, 1), in which the posterior is smooth at "no spread";
Gauss–Legendre nodes on the range that matters. Inner coordinate: the location on its line
(Beta-Binomial, Gamma-Poisson) or log σ (Normal), around its conditional mode with trapezoidal
nodes, which converge exponentially for a density that falls off on both sides (Trefethen and
Weideman 2014). The location of a normal family is integrated analytically.

Nodes are doubled until the densities along both coordinates are resolved.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, Geometry
from hbpipe.model.jets import Jet
from hbpipe.model.nodes import Nodes, combine_pools, single_nodes
from hbpipe.model.peak import Peak
from hbpipe.model.target import PRECISE, ROUGH, Target, climb

#: Posterior density below exp(−DROP) of its maximum is left out.
DROP = 14.0
#: Beyond these log-odds v is as good as 0 or 1.
EDGE = 16.0
_SCAN = np.linspace(-7.0, 7.0, 15)
_SEARCHES = 8
#: Outer and inner nodes, doubled while the density is not resolved.
RULES = ((15, 11), (31, 23), (63, 47))
_ROUGHNESS = 0.1
#: A component is narrow when its variance is below this share of the location's.
_NARROW = 0.3

Parts: TypeAlias = tuple[Array, ...]


@dataclass(frozen=True)
class Range:
    """Where the outer coordinate matters.

    ``log_scale`` (G,) is log s² on the scale of A; ``low`` and ``high`` (G,) limit the log-odds
    of v, −∞ and ∞ where the density reaches the end of the interval. ``guide`` is the joint
    mode, from which conditional modes are sought.
    """

    log_scale: Array
    low: Array
    high: Array
    guide: Array

    def select(self, pools: Codes) -> Range:
        """Return the range of some pools."""
        return Range(self.log_scale[pools], self.low[pools], self.high[pools], self.guide[pools])


def inner_place(target: Target) -> int | None:
    """Return the working variable that the inner nodes are about, if any."""
    place = LOCATION if not target.geometry.location_is_analytic else NOISE
    return place if place in target.free else None


def conditional(
    target: Target, point: Array, log_spread: Array, *, precise: bool = False
) -> tuple[Array, Jet]:
    """Maximise over the variables beside the spread, with log A as given."""
    point = point.copy()
    if SPREAD in target.free:
        point[:, SPREAD] = log_spread
    others = tuple(place for place in target.free if place != SPREAD)
    return climb(target, point, others, PRECISE if precise else ROUGH)


def laplace(target: Target, jet: Jet) -> Array:
    """Integrate over the variables beside the spread by Laplace's method at their mode, (G,)."""
    places = [place for place in target.free if place != SPREAD]
    if not places:
        return jet.value
    negative = -jet.hessian[:, places][:, :, places]
    _, log_determinant = np.linalg.slogdet(negative)
    return np.asarray(jet.value + 0.5 * (len(places) * np.log(2.0 * np.pi) - log_determinant))


def _log_density_of_v(log_density_of_x: Array, log_odds: Array) -> Array:
    """Change the measure from x = 2 logit v + constant to v."""
    stretch = np.logaddexp(0.0, log_odds) + np.logaddexp(0.0, -log_odds)
    return np.asarray(log_density_of_x + np.log(2.0) + stretch)


def locate(target: Target, peak: Peak) -> Range:
    """Find the range of v that holds all but a negligible part of the posterior."""
    if SPREAD not in target.free:
        none = np.zeros(target.n_pools)
        return Range(none, none, none, peak.point)
    typical = -np.log(target.geometry.median_size(target.sketch))
    log_scale = np.maximum(typical, peak.point[:, SPREAD])
    mode = 0.5 * (peak.point[:, SPREAD] - log_scale)

    def density(log_odds: Array) -> Array:
        _, jet = conditional(target, peak.point, log_scale + 2.0 * log_odds)
        return _log_density_of_v(laplace(target, jet), log_odds)

    scan = np.stack([density(mode + offset) for offset in _SCAN], axis=1)
    top = np.max(scan, axis=1)
    near = scan > (top - DROP)[:, None]
    places = mode[:, None] + _SCAN[None, :]
    width = 5.5 * 0.5 * np.sqrt(np.maximum(peak.covariance[:, SPREAD, SPREAD], 1e-12))
    width = np.clip(np.where(peak.regular, width, 2.0), 1e-6, 5.0)
    low = mode - reach(lambda d: top - density(mode - d), width, DROP)
    high = mode + reach(lambda d: top - density(mode + d), width, DROP)
    low = np.minimum(low, np.min(np.where(near, places, np.inf), axis=1))
    high = np.maximum(high, np.max(np.where(near, places, -np.inf), axis=1))
    low, high = np.where(low < -7.0, -np.inf, low), np.where(high > EDGE, np.inf, high)
    return Range(log_scale, low, high, peak.point)


def reach(drop_at: Callable[[Array], Array], width: Array, wanted: float) -> Array:
    """Find the distance at which a log density has dropped by about ``wanted``, (G,).

    The drop of a Gaussian grows with the square of the distance, which a few rescalings use;
    slower tails are followed by factors of at most 3.
    """
    searching = np.ones(len(width), dtype=bool)
    for _ in range(_SEARCHES):
        ratio = np.sqrt(wanted / np.maximum(drop_at(width), 1e-3))
        scaled = np.minimum(width * np.clip(ratio, 0.3, 3.0), 40.0)
        width = np.where(searching, scaled, width)
        searching &= np.abs(ratio - 1.0) > 0.15
        if not searching.any():
            break
    return width


def quadrature(target: Target, window: Range) -> Nodes:
    """Nodes of each pool, doubled until the density is resolved along both coordinates."""
    pools = np.arange(target.n_pools)
    parts: list[tuple[NDArray[np.int64], Nodes]] = []
    for outer, inner in RULES:
        nodes, roughness = tensor_rule(target.select(pools), window.select(pools), outer, inner)
        done = (roughness <= _ROUGHNESS) | ((outer, inner) == RULES[-1])
        parts.append((pools[done], nodes.select(np.flatnonzero(done))))
        pools = pools[~done]
        if not len(pools):
            break
    return combine_pools([part for part in parts if len(part[0])], target.n_pools)


def tensor_rule(target: Target, window: Range, outer: int, inner: int) -> tuple[Nodes, Array]:
    """Nodes on ``outer`` × ``inner`` points, and how rough the density is on them, (G,)."""
    if SPREAD in target.free:
        x, log_outer = _outer_rule(window, outer)
    else:
        x, log_outer = np.zeros((target.n_pools, 1)), np.zeros((target.n_pools, 1))
    columns, track = [], Track(window.guide, np.full((target.n_pools, 2), np.nan))
    for k in range(x.shape[1]):
        column, track = _inner_rule(target, track, x[:, k], log_outer[:, k], inner)
        columns.append(column)
    parts = [np.stack([column[i] for column in columns], axis=1) for i in range(5)]
    weight = np.exp(parts[0] - np.max(parts[0], axis=(1, 2), keepdims=True))
    weight /= np.sum(weight, axis=(1, 2), keepdims=True)
    nodes = single_nodes(
        target.family.name,
        "integrated",
        spread=np.zeros(target.n_pools),
        location=np.zeros(target.n_pools),
        noise=np.ones(target.n_pools),
        n_groups=np.asarray(target.sketch.n_groups),
    )
    names = ("spread", "location", "location_variance", "noise")
    nodes = replace(nodes, weight=weight, **dict(zip(names, parts[1:], strict=True)))
    roughness = np.maximum(_outer_roughness(weight), _inner_roughness(weight))
    return smooth_narrow(nodes, target.geometry), roughness


def _outer_roughness(weight: Array) -> Array:
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
    odd, even = np.sum(weight[:, :, 0::2], axis=(1, 2)), np.sum(weight[:, :, 1::2], axis=(1, 2))
    return np.asarray(np.abs(odd - even))


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


def _outer_rule(window: Range, outer: int) -> tuple[Array, Array]:
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


@dataclass(frozen=True)
class Track:
    """What one outer node tells the next: its conditional mode and how far its nodes reach."""

    point: Array
    widths: Array


def _inner_rule(
    target: Target, track: Track, x: Array, log_outer: Array, inner: int
) -> tuple[Parts, Track]:
    """Nodes over the inner variable at one outer node: parts as of :func:`_node`, (G, L) each."""
    point, jet = conditional(target, track.point, x)
    place = inner_place(target)
    if place is None:
        parts = _node(target, point, jet, log_outer)
        return tuple(part[:, None] for part in parts), Track(point, track.widths)
    sd = 1.0 / np.sqrt(np.maximum(-jet.hessian[:, place, place], 1e-6))
    known = np.isfinite(track.widths)
    widths = np.where(known, track.widths, 5.0) * sd[:, None]

    def at(t: Array) -> tuple[Array, Jet]:
        moved = point.copy()
        moved[:, place] = t
        return target.complete(moved), target.evaluate(moved)

    mode, top = point[:, place], _node(target, point, jet, log_outer)[0]

    def drop(side: float) -> Callable[[Array], Array]:
        return lambda d: top - _node(target, *at(mode + side * d), log_outer)[0]

    below = reach(drop(-1.0), widths[:, 0], DROP)
    above = reach(drop(1.0), widths[:, 1], DROP)
    step = (below + above) / (inner + 1)
    low = mode - below
    parts = [
        _node(target, *at(low + (i + 1) * step), log_outer + np.log(step)) for i in range(inner)
    ]
    widths = np.stack([below / sd, above / sd], axis=1)
    return tuple(np.stack(part, axis=1) for part in zip(*parts, strict=True)), Track(point, widths)


def _node(target: Target, point: Array, jet: Jet, log_measure: Array) -> Parts:
    """One node: log weight, A, prior mean, its remaining variance, noise variance, (G,) each."""
    geometry = target.geometry
    value, variance = jet.value + log_measure, np.zeros(target.n_pools)
    location = point[:, LOCATION]
    if geometry.location_is_analytic and LOCATION in target.free:
        # The log posterior is exactly quadratic in μ, so one Newton step finds its mean.
        variance = 1.0 / -jet.hessian[:, LOCATION, LOCATION]
        slope = jet.gradient[:, LOCATION]
        location = location + slope * variance
        value = value + 0.5 * slope**2 * variance + 0.5 * np.log(2.0 * np.pi * variance)
    noise = np.exp(2.0 * point[:, NOISE]) if geometry.has_noise else np.ones(target.n_pools)
    return value, np.exp(point[:, SPREAD]), geometry.mean(location), variance, noise
