"""Posteriors of very many stores put on a lattice of laws, of which there are few.

Where the hyperparameters of a large pool are as good as known, each posterior is one law of two
parameters, and its cdf at any point is smooth in them. So a store becomes sixteen lattice points
with the weights of cubic interpolation (Lagrange's, four by four), and what stores are compared
with comes from the lattice points with the sums of these weights.

The lattice is in the law's centre on the line, spaced by a share of its sd, and in the logarithm
of that sd. It is fixed: it does not depend on the stores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.laws import BETA, GAMMA, Law, Parameters
from hbpipe.model.family import Array

#: Steps of the lattice: in sds, and in the logarithm of the sd. A cdf is within 3e-5.
_STEP, _LOG_STEP = 0.15, 0.15
#: Narrower laws, in spreads of the pool, are as good as this: their cdf moves by less than 1e-4 of
#: the pool's.
_NARROWEST = 0.02
#: Stores farther than so many spreads from the pool's median stay as they are.
_FARTHEST = 40.0
#: Weights are whole multiples of its inverse, so that sums are exact in any order.
_WHOLE = 2.0**26
#: Stores at a time, whose arrays should stay in the processor's cache.
_BLOCK = 2**15


def lattice_of(law: Law, parameters: Parameters, count: Array) -> tuple[Parameters, Array]:
    """Return laws that stand for ``count`` (J,) stores each of parameters (J,), and their weights.

    These are the points of the lattice beside stores, and the stores that it does not reach.
    """
    lattice = _Lattice.of(law, parameters)
    points, weight = lattice.sums(count)
    alone = np.flatnonzero(~lattice.inside)
    # In an order of their own: sums of densities are not exact.
    alone = alone[np.lexsort((lattice.level[alone], lattice.centre[alone]))]
    laws = zip(lattice.laws(points), parameters, strict=True)
    both = tuple(np.concatenate([shared, own[alone]]) for shared, own in laws)
    return both, np.concatenate([weight, count[alone]])


@dataclass(frozen=True)
class _Lattice:
    """A lattice for the stores of a pool.

    Level ``l`` has laws of the sd exp(−``levels[l]``), at whole multiples of the step from
    ``first[l]`` on, numbered from ``start[l]``. ``centre`` and ``level`` (J,) are the coordinates
    of the stores, ``inside`` those that it reaches.
    """

    law: Law
    centre: Array
    level: Array
    inside: NDArray[np.bool_]
    lowest: int
    first: NDArray[np.int64]
    start: NDArray[np.int64]
    size: int

    @staticmethod
    def of(law: Law, parameters: Parameters) -> _Lattice:
        """Place the stores of one pool, with parameters (J,) each."""
        centre, sd = _coordinates(law, parameters)
        low, median, high = np.quantile(centre, [0.25, 0.5, 0.75], method="lower")
        spread = max((high - low) / 1.35, 1e-9 * abs(float(median)), 1e-250)
        inside = np.abs(centre - median) <= _FARTHEST * spread
        level = -np.log(np.maximum(sd, _NARROWEST * spread))
        place = np.floor(level[inside] / _LOG_STEP).astype(np.int64)
        lowest = int(place.min()) - 1
        levels = np.arange(lowest, int(place.max()) + 3)
        step = _STEP * np.exp(-_LOG_STEP * levels)
        ends = centre[inside].min(), centre[inside].max()
        first = np.floor(ends[0] / step).astype(np.int64) - 1
        length = np.floor(ends[1] / step).astype(np.int64) + 3 - first
        start = np.cumsum(length) - length
        return _Lattice(law, centre, level, inside, lowest, first, start, int(length.sum()))

    def sums(self, count: Array) -> tuple[NDArray[np.int64], Array]:
        """Return the points that have stores beside them, and the sums of their weights.

        ``count`` (J,) says how many each store stands for.
        """
        total, used = np.zeros(self.size), np.zeros(self.size, np.bool_)
        for rows, at, weight in self._shares():
            total += np.bincount(at.ravel(), (weight * count[rows]).ravel(), self.size)
            used[at] = True
        points = np.flatnonzero(used)
        return points, total[points]

    def laws(self, points: NDArray[np.int64]) -> Parameters:
        """Parameters of the laws at some points of the lattice."""
        row = np.searchsorted(self.start, points, side="right") - 1
        sd = np.exp(-_LOG_STEP * (self.lowest + row))
        centre = _STEP * sd * (self.first[row] + points - self.start[row])
        return _parameters(self.law, centre, sd)

    def _shares(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Array]]:
        """Yield stores, the points (16, R) that each belongs to, and its weights there."""
        every = np.flatnonzero(self.inside)
        for begin in range(0, len(every), _BLOCK):
            rows = every[begin : begin + _BLOCK]
            place = self.level[rows] / _LOG_STEP
            base = np.floor(place)
            across = _cubic(place - base)
            points, weights = [], []
            for offset in range(4):
                row = base.astype(np.int64) + offset - 1 - self.lowest
                step = _STEP * np.exp(-_LOG_STEP * (self.lowest + row))
                along = self.centre[rows] / step
                left = np.floor(along)
                at = self.start[row] + left.astype(np.int64) - self.first[row] - 1
                for number, share in enumerate(_cubic(along - left)):
                    points.append(at + number)
                    weights.append(np.rint(across[offset] * share * _WHOLE) / _WHOLE)
            yield rows, np.stack(points), np.stack(weights)


def _cubic(t: Array) -> tuple[Array, Array, Array, Array]:
    """Lagrange's weights of the points −1, 0, 1 and 2 at t."""
    before, after, far = t + 1.0, t - 1.0, t - 2.0
    return (
        -t * after * far / 6.0,
        before * after * far / 2.0,
        -before * t * far / 2.0,
        before * t * after / 6.0,
    )


def _coordinates(law: Law, parameters: Parameters) -> tuple[Array, Array]:
    """Return about the centre of a law on its line, and about its sd there."""
    first, second = parameters
    if law is BETA:
        return np.log(first) - np.log(second), np.sqrt(1.0 / first + 1.0 / second)
    if law is GAMMA:
        return np.log(first) - np.log(second), 1.0 / np.sqrt(first)
    return first, second


def _parameters(law: Law, centre: Array, sd: Array) -> Parameters:
    """Return the law with these coordinates."""
    size = sd**-2.0
    if law is BETA:
        return size * (1.0 + np.exp(centre)), size * (1.0 + np.exp(-centre))
    if law is GAMMA:
        return size, size * np.exp(-centre)
    return centre, sd
