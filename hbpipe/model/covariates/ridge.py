"""Coordinates of one pool in which its coefficients are about standard, whatever the spread.

The posterior of counts is a ridge along the spread: where the stores hardly differ the
coefficients are well known, where they differ much they are not, and a normal law around one
mode fits neither end. At a given log A the other variables have a mode m(log A) and a curvature
there with the inverse R R'; in (log A, z) with

    the others = m(log A) + R(log A) z

the density is nearly that of log A times a standard normal one, so that importance sampling needs
a fraction of the points (the conditional modes are those of Laplace's method, Tierney and Kadane
1986; the change of variables is the non-centred form of Papaspiliopoulos, Roberts and Sköld 2007).
m and R are found at some log A and interpolated, which costs no exactness: any m and R are a
change of variables.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hbpipe.model.family import Array
from hbpipe.model.geometry import SPREAD
from hbpipe.model.integration.peak import Peak, conditional_at
from hbpipe.model.integration.target import Target

#: How far the knots reach beyond the mode and log s² along log A, and how many there are.
_REACH, _KNOTS = 14.0, 33
#: Least eigenvalue of a curvature, relative to the largest.
_DEFINITE = 1e-10


@dataclass(frozen=True)
class Ridge:
    """The change of variables of one pool.

    Parameters
    ----------
    places
        The ``v`` free working variables beside the spread.
    has_spread
        Whether the spread is free; then log A is the first of the V coordinates.
    knots
        (K,) values of log A, evenly spaced.
    mode, root
        (K, V) working variables at their conditional mode and (K, v, v) lower triangular R there.
    """

    places: tuple[int, ...]
    has_spread: bool
    knots: Array
    mode: Array
    root: Array

    def points(self, at: Array) -> tuple[Array, Array]:
        """Coordinates (S, V) -> working variables, and log |∂ working / ∂ coordinates|, (S,)."""
        log_spread = at[:, 0] if self.has_spread else np.full(len(at), self.knots[0])
        standard = at[:, 1:] if self.has_spread else at
        gap = self.knots[1] - self.knots[0]
        place = np.clip((log_spread - self.knots[0]) / gap, 0.0, len(self.knots) - 1.0)
        first = np.minimum(place.astype(np.int64), len(self.knots) - 2)
        share = place - first
        point = _between(self.mode, first, share)
        root = _between(self.root, first, share)
        if self.has_spread:
            point[:, SPREAD] = log_spread
        point[:, list(self.places)] += np.einsum("sij,sj->si", root, standard)
        return point, np.sum(np.log(np.einsum("sii->si", root)), axis=1)


def _between(table: Array, first: Array, share: Array) -> Array:
    """Interpolate (K, ...) linearly, a share of the way from row ``first`` on, (S, ...)."""
    share = share.reshape(-1, *(1 for _ in table.shape[1:]))
    return np.asarray(table[first] * (1.0 - share) + table[first + 1] * share)


def find_ridges(target: Target, peak: Peak) -> list[Ridge]:
    """Find the change of variables of every pool."""
    places = tuple(place for place in target.free if place != SPREAD)
    typical, top = -np.log(target.geometry.median_size(target.sketch)), peak.point[:, SPREAD]
    share = np.linspace(0.0, 1.0, _KNOTS)
    low, high = np.minimum(typical, top) - _REACH, np.maximum(typical, top) + _REACH
    has_spread = SPREAD in target.free
    if has_spread:
        knots = low[:, None] + (high - low)[:, None] * share
    else:
        knots = top[:, None] + np.array([0.0, 1.0])
    mode, jet = conditional_at(target, peak.point, knots)
    root = _root(-jet.hessian[:, places][:, :, places])
    mode, root = (part.reshape(*knots.shape, *part.shape[1:]) for part in (mode, root))
    return [
        Ridge(places, has_spread, knots[pool], mode[pool], root[pool])
        for pool in range(target.n_pools)
    ]


def _root(curvature: Array) -> Array:
    """Lower triangular root of the inverse curvature, made positive definite where it is not."""
    eigenvalues, vectors = np.linalg.eigh(curvature)
    size = np.abs(eigenvalues)
    largest = np.max(size, axis=1, initial=0.0, keepdims=True)
    size = np.maximum(size, _DEFINITE * largest + 1e-300)
    covariance = np.einsum("nik,nk,njk->nij", vectors, 1.0 / size, vectors)
    return np.linalg.cholesky(covariance)
