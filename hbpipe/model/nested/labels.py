"""Labels of nested groups, such as the region "north" of chain 7, and their numbers.

A group is known by its whole path, so two chains may both have a region "north".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.names import suggestion


@dataclass(frozen=True, eq=False)
class Level:
    """The groups of one level.

    Parameters
    ----------
    name
        What the level is called.
    distinct
        (D,) labels that occur, sorted.
    keys
        (G,) parent's number × D + place of the label, ascending; a group's place is its number.
    """

    name: str
    distinct: NDArray[Any]
    keys: NDArray[np.int64]

    @property
    def labels(self) -> NDArray[Any]:
        """The label of each group, (G,)."""
        return self.distinct[self.keys % len(self.distinct)]

    @property
    def parents(self) -> NDArray[np.int64]:
        """The number of each group's parent, (G,)."""
        return self.keys // len(self.distinct)

    def find(self, parents: NDArray[np.int64], labels: NDArray[Any]) -> NDArray[np.int64]:
        """Return the numbers of groups (J,), −1 where the group or its parent is not known."""
        place = np.minimum(np.searchsorted(self.distinct, labels), len(self.distinct) - 1)
        key = parents * len(self.distinct) + place
        number = np.minimum(np.searchsorted(self.keys, key), len(self.keys) - 1)
        known = (self.distinct[place] == labels) & (self.keys[number] == key) & (parents >= 0)
        return np.where(known, number, -1)


@dataclass(frozen=True, eq=False)
class Labels:
    """The groups of every level, coarse to fine."""

    levels: tuple[Level, ...]

    @classmethod
    def of(cls, nesting: Mapping[str, Any], stores: int) -> Labels:
        """Give the groups that occur their numbers.

        Parameters
        ----------
        nesting
            name of a level -> (J,) label of each store's group, coarse to fine.
        stores
            ``J``.

        Raises
        ------
        FitError
            If there is no level.
        StatisticsError
            If labels are not whole numbers or text, one for each store.
        """
        if not isinstance(nesting, Mapping) or not nesting:
            raise FitError(
                f"nesting is {nesting!r}",
                expected="the levels by name, coarse to fine, with a label for each store",
                remedy='write for example nesting={"chain": chains, "region": regions}',
            )
        levels, parents = [], np.zeros(stores, np.int64)
        for name, values in nesting.items():
            distinct, place = np.unique(_checked(name, values, stores), return_inverse=True)
            keys, parents = np.unique(parents * len(distinct) + place, return_inverse=True)
            levels.append(Level(str(name), distinct, keys))
        return cls(tuple(levels))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the levels."""
        return tuple(level.name for level in self.levels)

    def find(self, nesting: Any, stores: int) -> list[NDArray[np.int64]]:
        """Return the number of each store's group at every level, (J,) each, −1 where new.

        Raises
        ------
        FitError
            If the levels are not those of the fit.
        StatisticsError
            If labels are not of the same kind as those of the fit, one for each store.
        """
        given = tuple(nesting) if isinstance(nesting, Mapping) else ()
        if given != self.names:
            raise FitError(
                f"the stores have the levels {', '.join(map(repr, given)) or 'none'}",
                expected=f"nesting with {', '.join(self.names)}, as in the fit",
                remedy=suggestion(given[0] if given else "", self.names),
            )
        found, parents = [], np.zeros(stores, np.int64)
        for level in self.levels:
            labels = _checked(level.name, nesting[level.name], stores)
            if labels.dtype.kind != level.distinct.dtype.kind:
                raise _wrong(
                    level.name, labels, f"labels like {level.distinct[0]!r}, as in the fit"
                )
            parents = level.find(parents, labels)
            found.append(parents)
        return found


def _checked(name: str, values: Any, stores: int) -> NDArray[Any]:
    """Return labels as integers or text, (J,)."""
    labels = np.asarray(values)
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.ravel()):
        labels = labels.astype(np.str_)
    if labels.dtype.kind in "iu":
        labels = labels.astype(np.int64)
    if labels.shape != (stores,) or labels.dtype.kind not in "iU":
        raise _wrong(name, labels, f"{stores} whole numbers or texts, one for each store")
    return labels


def _wrong(name: str, labels: NDArray[Any], expected: str) -> StatisticsError:
    return StatisticsError(
        f"found labels of type {labels.dtype} and shape {labels.shape}",
        where={"level": name},
        expected=expected,
        remedy="pass one label for each store; give missing ones a label of their own",
    )
