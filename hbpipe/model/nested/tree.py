"""Groups within groups: the regions of every chain, the chains of a platform."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Codes
from hbpipe.model.numerics.grouped import Rows


@dataclass(frozen=True)
class Forest:
    """Nested levels of groups under ``R`` roots.

    Parameters
    ----------
    levels
        Coarse to fine. Each has one row per group, sorted by parent: ``pool`` is the place of its
        parent in the level above (of its root, at the first), ``number`` the group's own number
        as the caller counts.
    """

    levels: tuple[Rows, ...]

    @classmethod
    def of(cls, parents: Sequence[Codes], n_roots: int = 1) -> Forest:
        """Sort groups by parent, level by level.

        Parameters
        ----------
        parents
            Coarse to fine, for each level (G,) the number of each group's parent: of its root at
            the first level, of a group of the level above at the others.
        n_roots
            The number of roots.
        """
        levels: list[Rows] = []
        count, place = n_roots, np.arange(n_roots)
        for codes in parents:
            above = place[np.asarray(codes)]
            order = np.argsort(above, kind="stable")
            levels.append(Rows(count, above[order], {"number": order}))
            count, place = len(order), np.empty(len(order), np.int64)
            place[order] = np.arange(count)
        return cls(tuple(levels))

    @property
    def n_roots(self) -> int:
        """The number of roots, ``R``."""
        return self.levels[0].n_pools

    @property
    def finest(self) -> NDArray[np.int64]:
        """Numbers of the groups of the last level, in the order of the tree."""
        return np.asarray(self.levels[-1]["number"])

    def roots(self) -> list[NDArray[np.int64]]:
        """Return the root of each group, level by level."""
        found = [self.levels[0].pool]
        for level in self.levels[1:]:
            found.append(found[-1][level.pool])
        return found

    def select(self, roots: Codes) -> tuple[Forest, NDArray[np.int64]]:
        """Cut out the trees of these roots, renumbered from 0; a root may occur more than once.

        Returns
        -------
        The trees, whose groups keep their numbers, and for each of their finest groups its place
        in this forest.
        """
        chosen, levels = np.asarray(roots, np.int64), []
        for level in self.levels:
            places = np.arange(len(level))
            cut = Rows(level.n_pools, level.pool, {**level.columns, "place": places}).select(chosen)
            chosen = cut["place"]
            levels.append(Rows(cut.n_pools, cut.pool, {"number": cut["number"]}))
        return Forest(tuple(levels)), chosen
