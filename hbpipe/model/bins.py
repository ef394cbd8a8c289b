"""Few nodes in place of many points: weighted points put together in bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array

#: Bins along the first key, along the second within each of these, and so on, by number of keys.
SIZES = {0: (1,), 1: (48,), 2: (24, 8), 3: (20, 4, 4), 4: (16, 4, 3, 2)}
#: A key whose sd is less than this needs no bins.
_SHARP = 0.05


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
        """Sort points by the first key and cut, then each part by the second, and so on.

        A bin's share of the weight falls towards the ends, as the steps of a cosine do, so that
        tails are resolved.

        Parameters
        ----------
        keys
            Logarithms, (S,) each. Those that hardly vary do not count, nor more than four.
        weight
            (S,), adding to one.
        """
        used = [key for key in keys if _sd(key, weight) > _SHARP][: max(SIZES)]
        sizes, number = SIZES[len(used)], np.zeros(len(weight), np.int64)
        for key, size in zip(used, sizes, strict=False):
            number = _cut(number, key, weight, size)
        outer, inner = sizes[0], int(np.prod(sizes[1:]))
        order = np.argsort(number, kind="stable")
        mass = np.asarray(np.bincount(number, weight, outer * inner), np.float64)
        number = number[order]
        share = weight[order] / np.where(mass > 0, mass, 1.0)[number]
        return cls((outer, inner), order, number, share, mass.reshape(outer, inner))

    @property
    def source(self) -> NDArray[np.int64]:
        """For each bin (K L,) where its values come from: itself, or where it is empty another."""
        own = np.arange(self.weight.size)
        return np.where(np.isin(own, self.number), own, self.number[0])

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
        """Average a number for each point over each bin, (S,) -> (K, L)."""
        size = self.shape[0] * self.shape[1]
        sums = np.bincount(self.number, self.share * values[self.order], size)
        return np.asarray(sums[self.source].reshape(self.shape))


def _sd(key: Array, weight: Array) -> float:
    away = key - np.sum(weight * key)
    return float(np.sqrt(np.sum(weight * away**2)))


def _cut(number: NDArray[np.int64], key: Array, weight: Array, size: int) -> NDArray[np.int64]:
    """Cut each bin into ``size`` by the rank of its points in weight."""
    edges = 0.5 * (1.0 - np.cos(np.pi * np.arange(1, size) / size))
    order = np.lexsort((key, number))
    mass = np.bincount(number, weight)
    begin = np.cumsum(mass) - mass
    middle = np.cumsum(weight[order]) - 0.5 * weight[order] - begin[number[order]]
    rank = middle / np.where(mass > 0, mass, 1.0)[number[order]]
    finer = np.empty(len(number), np.int64)
    finer[order] = number[order] * size + np.searchsorted(edges, rank)
    return finer
