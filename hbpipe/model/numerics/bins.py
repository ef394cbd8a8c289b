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
    number, share
        (S,) the number k L + l of each point's bin, and the point's weight within it.
    weight
        (K, L) the weight of each bin; they add to one.
    """

    shape: tuple[int, int]
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
        outer, inner = sizes[0], int(np.prod(sizes[1:], dtype=np.int64))
        mass = np.asarray(np.bincount(number, weight, outer * inner), np.float64)
        share = weight / np.where(mass > 0, mass, 1.0)[number]
        return cls((outer, inner), number, share, mass.reshape(outer, inner))

    def empty(self, *shape: int) -> Array:
        """Return sums to :meth:`add` to, zeros (K L, ...)."""
        return np.zeros((self.weight.size, *shape))

    def add(self, sums: Array, part: slice, values: Array) -> None:
        """Add the values of some points, (points, ...), to the averages of their bins, in place."""
        order = np.argsort(self.number[part], kind="stable")
        present, first = np.unique(self.number[part][order], return_index=True)
        share = self.share[part][order].reshape(-1, *(1,) * (values.ndim - 1))
        sums[present] += np.add.reduceat(share * values[order], first, axis=0)

    def filled(self, sums: Array) -> Array:
        """Return averages (K L, ...) with those of another bin in place of an empty one's."""
        own = np.arange(self.weight.size)
        source = np.where(np.isin(own, self.number), own, self.number[0])
        return np.asarray(sums[source])

    def average(self, values: Array) -> Array:
        """Average a number for each point over each bin, (S,) -> (K, L)."""
        sums = self.empty()
        self.add(sums, slice(None), values)
        return self.filled(sums).reshape(self.shape)


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
