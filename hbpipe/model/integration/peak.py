"""Modes of a pool's hyperparameters, joint and given the spread, in working variables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import SPREAD
from hbpipe.model.integration.target import PRECISE, ROUGH, Target, climb
from hbpipe.model.numerics.jets import Jet

#: Where a second summit may be: log A from that of the first.
_SCAN = np.linspace(-14.0, 14.0, 15)
#: A summit is another one if it is higher by more than this.
_HIGHER = 1e-6
#: No posterior has more summits above each other.
_SUMMITS = 8


@dataclass(frozen=True)
class Scan:
    """The log posterior along equally spaced log spreads around its mode.

    ``log_spread`` (G, N), ``points`` (G, N, V) the conditional modes there, ``value`` (G, N) the
    log density at these and ``marginal`` (G, N) that of the log spread by Laplace's method.
    """

    log_spread: Array
    points: Array
    value: Array
    marginal: Array

    def select(self, pools: Codes) -> Scan:
        """Return the scans of some pools."""
        return Scan(**{name: values[pools] for name, values in vars(self).items()})

    def put(self, pools: Codes, part: Scan) -> None:
        """Put the scans of some pools in place of those that are there."""
        for name, values in vars(part).items():
            vars(self)[name][pools] = values


@dataclass(frozen=True)
class Peak:
    """Where the posterior of the hyperparameters lies.

    ``point`` (G, V) is the joint mode in the working variables; ``covariance`` (G, V, V) the
    inverse of the negative Hessian over the free ones, zero elsewhere; ``regular`` (G,) whether
    that Hessian is negative definite. ``scan`` is None where the spread is held.
    """

    point: Array
    covariance: Array
    regular: NDArray[np.bool_]
    scan: Scan | None

    def select(self, pools: Codes) -> Peak:
        """Return the peaks of some pools."""
        scan = None if self.scan is None else self.scan.select(pools)
        return Peak(self.point[pools], self.covariance[pools], self.regular[pools], scan)

    @property
    def curvature(self) -> Array:
        """κ = −d² log p/d(log τ)², (G,); zero where the mode is not regular."""
        variance = self.covariance[:, SPREAD, SPREAD]
        usable = self.regular & (variance > 0)
        return np.where(usable, 4.0 / np.where(usable, variance, 1.0), 0.0)


def find_peak(target: Target, start: Array) -> Peak:
    """Find the joint mode: climb from ``start`` (G, V), and from what a scan finds above that."""
    point, jet = climb(target, start, target.free)
    scan = scan_spread(target, point)
    if scan is not None:
        _climb_higher(target, point, jet, scan)
    places = list(target.free)
    negative = -jet.hessian[:, places][:, :, places]
    eigenvalues = np.linalg.eigvalsh(negative)
    regular = np.all(eigenvalues > 1e-10 * np.maximum(eigenvalues[:, -1:], 1e-300), axis=1)
    safe = np.where(regular[:, None, None], negative, np.eye(len(places)))
    covariance = np.zeros_like(jet.hessian)
    covariance[np.ix_(range(len(point)), places, places)] = np.linalg.inv(safe)
    return Peak(point, covariance, regular, scan)


def scan_spread(target: Target, point: Array) -> Scan | None:
    """Look along log A from a point (G, V), other variables at conditional modes; None if held."""
    if SPREAD not in target.free:
        return None
    places = point[:, SPREAD, None] + _SCAN
    points, jet = conditional_at(target, point, places)
    return Scan(
        places,
        points.reshape(*places.shape, -1),
        jet.value.reshape(places.shape),
        laplace(target, jet).reshape(places.shape),
    )


def _climb_higher(target: Target, point: Array, jet: Jet, scan: Scan) -> None:
    """Climb on where a scan found something above the summit, in place, and scan there again."""
    for _ in range(_SUMMITS):
        best = np.argmax(scan.value, axis=1)
        every = np.arange(len(best))
        pools = np.flatnonzero(scan.value[every, best] > jet.value + _HIGHER)
        if not len(pools):
            return
        some = target.select(pools)
        point[pools], found = climb(some, scan.points[pools, best[pools]], target.free)
        jet.put(pools, found)
        again = scan_spread(some, point[pools])
        assert again is not None
        scan.put(pools, again)


def conditional(
    target: Target, point: Array, log_spread: Array, *, precise: bool = False
) -> tuple[Array, Jet]:
    """Maximise over the variables beside the spread, with log A as given."""
    point = point.copy()
    if SPREAD in target.free:
        point[:, SPREAD] = log_spread
    others = tuple(place for place in target.free if place != SPREAD)
    given = target.given_spread(point[:, SPREAD])
    return climb(given, point, others, PRECISE if precise else ROUGH)


def conditional_at(target: Target, guide: Array, log_spreads: Array) -> tuple[Array, Jet]:
    """Conditional modes at several log spreads (G, K) of each pool.

    Returns
    -------
    Points (G K, V) and their jet, K in a row for each pool.
    """

    def at(many: Target, log_spread: Array, start: Array) -> tuple[Array, ...]:
        point, jet = conditional(many, start, log_spread)
        return point, jet.value, jet.gradient, jet.hessian

    starts = np.repeat(guide[:, None], log_spreads.shape[1], axis=1)
    found = target.blockwise(at, log_spreads, starts)
    point, *parts = (part.reshape(-1, *part.shape[2:]) for part in found)
    return point, Jet(*parts)


def laplace(target: Target, jet: Jet) -> Array:
    """Integrate over the variables beside the spread by Laplace's method at their mode, (G,)."""
    places = [place for place in target.free if place != SPREAD]
    if not places:
        return jet.value
    negative = -jet.hessian[:, places][:, :, places]
    _, log_determinant = np.linalg.slogdet(negative)
    return np.asarray(jet.value + 0.5 * (len(places) * np.log(2.0 * np.pi) - log_determinant))
