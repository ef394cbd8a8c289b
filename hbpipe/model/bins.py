"""Few nodes in place of many points: weighted points put together in bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array

#: Bins along the first and, within each of its bins, the second key.
OUTER, INNER = 24, 6


@dataclass(frozen=True)
class Bins:
    """``S`` weighted points in ``K`` × ``L`` bins.

    Parameters
    ----------
    shape
        (K, L).
    order
        (S,) the points, bin by bin.
    number
        (S,) the number k L + l of the bin of each point, in that order.
    share
        (S,) the weight of each point within its bin, in that order.
    weight
        (K, L) the weight of each bin; they add to one.
    """

    shape: tuple[int, int]
    order: NDArray[np.int64]
    number: NDArray[np.int64]
    share: Array
    weight: Array

    @classmethod
    def of(cls, keys: Sequence[Array], weight: Array) -> Bins:
        """Sort points by the first key and cut, then each part by the second, if there are two.

        A bin's share of the weight falls towards the ends, as the steps of a cosine do, so that
        tails are resolved.

        Parameters
        ----------
        keys
            One or two, (S,) each.
        weight
            (S,), adding to one.
        """
        outer = min(OUTER, len(weight))
        inner = min(INNER, len(weight)) if len(keys) > 1 else 1
        number = _cut(keys[0], weight, outer) * inner
        if inner > 1:
            for first in range(0, outer * inner, inner):
                inside = np.flatnonzero(number == first)
                number[inside] += _cut(keys[1][inside], weight[inside], inner)
        order = np.argsort(number, kind="stable")
        mass = np.bincount(number, weight, outer * inner)
        number = number[order]
        share = weight[order] / np.where(mass > 0, mass, 1.0)[number]
        return cls((outer, inner), order, number, share, mass.reshape(outer, inner))

    def add(self, sums: Array, part: slice, values: Array) -> None:
        """Add the values of some points, taken in order, to the averages of their bins.

        Parameters
        ----------
        sums
            (K L, ...), changed in place; zeros at first.
        part
            Which points.
        values
            (points, ...).
        """
        number, share = self.number[part], self.share[part]
        present, first = np.unique(number, return_index=True)
        shared = share.reshape(-1, *(1,) * (values.ndim - 1)) * values
        sums[present] += np.add.reduceat(shared, first, axis=0)

    def average(self, values: Array) -> Array:
        """Average a number for each point over each bin, (S,) -> (K, L); 0 where there is none."""
        size = self.shape[0] * self.shape[1]
        sums = np.bincount(self.number, self.share * values[self.order], size)
        return np.asarray(sums.reshape(self.shape))


def _cut(key: Array, weight: Array, bins: int) -> NDArray[np.int64]:
    """Bin of each point, by its rank in weight."""
    order = np.argsort(key, kind="stable")
    before = np.cumsum(weight[order]) - 0.5 * weight[order]
    edges = 0.5 * (1.0 - np.cos(np.pi * np.arange(1, bins) / bins))
    out = np.empty(len(key), np.int64)
    out[order] = np.searchsorted(edges, before / max(float(np.sum(weight)), 1e-300))
    return out
