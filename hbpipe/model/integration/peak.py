"""Modes of a pool's hyperparameters, joint and given the spread, in working variables."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes
from hbpipe.model.geometry import SPREAD
from hbpipe.model.integration.target import PRECISE, ROUGH, Target, climb
from hbpipe.model.numerics.jets import Jet

_SCAN = np.linspace(-7.0, 7.0, 8)


@dataclass(frozen=True)
class Peak:
    """Where the posterior of the hyperparameters lies.

    ``point`` (G, V) is the joint mode in the working variables; ``covariance`` (G, V, V) the
    inverse of the negative Hessian over the free ones, zero elsewhere; ``regular`` (G,) whether
    that Hessian is negative definite.
    """

    point: Array
    covariance: Array
    regular: NDArray[np.bool_]

    def select(self, pools: Codes) -> Peak:
        """Return the peaks of some pools."""
        return Peak(self.point[pools], self.covariance[pools], self.regular[pools])

    @property
    def curvature(self) -> Array:
        """κ = −d² log p/d(log τ)², (G,); zero where the mode is not regular."""
        variance = self.covariance[:, SPREAD, SPREAD]
        usable = self.regular & (variance > 0)
        return np.where(usable, 4.0 / np.where(usable, variance, 1.0), 0.0)


def find_peak(target: Target, start: Array) -> Peak:
    """Find the joint mode, from the better of ``start`` (G, V) and a scan over the spread."""
    point = _best_of_scan(target, start) if SPREAD in target.free else start
    point, jet = climb(target, point, target.free)
    places = list(target.free)
    negative = -jet.hessian[:, places][:, :, places]
    eigenvalues = np.linalg.eigvalsh(negative)
    regular = np.all(eigenvalues > 1e-10 * np.maximum(eigenvalues[:, -1:], 1e-300), axis=1)
    safe = np.where(regular[:, None, None], negative, np.eye(len(places)))
    covariance = np.zeros_like(jet.hessian)
    covariance[np.ix_(range(len(point)), places, places)] = np.linalg.inv(safe)
    return Peak(point, covariance, regular)


def _best_of_scan(target: Target, start: Array) -> Array:
    """Return the best point of a coarse scan in log A, other variables at conditional modes."""
    centre = -np.log(target.geometry.median_size(target.sketch))
    candidates = np.column_stack([start[:, SPREAD], centre[:, None] + 2.0 * _SCAN[None, :]])
    points, jet = conditional_at(target, start, candidates)
    value = jet.value.reshape(candidates.shape)
    best = np.argmax(value, axis=1)
    return np.asarray(points.reshape(*candidates.shape, -1)[np.arange(len(best)), best])


def conditional(
    target: Target, point: Array, log_spread: Array, *, precise: bool = False
) -> tuple[Array, Jet]:
    """Maximise over the variables beside the spread, with log A as given."""
    point = point.copy()
    if SPREAD in target.free:
        point[:, SPREAD] = log_spread
    others = tuple(place for place in target.free if place != SPREAD)
    return climb(target, point, others, PRECISE if precise else ROUGH)


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
