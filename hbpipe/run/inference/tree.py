"""Pools, and the nested groups below them: which there are, and who belongs to whom."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.units import encode
from hbpipe.data.window import Folded
from hbpipe.model.family import Codes

#: The values of the levels of a pool or group, coarse to fine; empty where there are none.
Pool = tuple[Any, ...]


@dataclass(frozen=True)
class Tree:
    """The pools of a metric, at depth 0, and the groups of each nested level below.

    Parameters
    ----------
    pool_by, nest_by
        Names of levels, coarse to fine.
    keys
        For each depth the pools or groups there, by the values of all their levels, ascending;
        the number of a group is its place.
    """

    pool_by: tuple[str, ...]
    nest_by: tuple[str, ...]
    keys: tuple[list[Pool], ...]

    @classmethod
    def of(
        cls,
        paths: Iterable[Pool],
        levels: Sequence[str],
        pool_by: Sequence[str],
        nest_by: Sequence[str],
    ) -> Tree:
        """Build the tree from all that occurs, ``paths`` of values of ``levels``."""
        chosen = [levels.index(name) for name in (*pool_by, *nest_by)]
        finest = {tuple(path[place] for place in chosen) for path in paths}
        lengths = range(len(pool_by), len(chosen) + 1)
        keys = tuple(sorted({path[:length] for path in finest}) for length in lengths)
        return cls(tuple(pool_by), tuple(nest_by), keys)

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels that tell the finest groups apart."""
        return (*self.pool_by, *self.nest_by)

    @property
    def pools(self) -> list[Pool]:
        """The pools, each fitted by itself."""
        return self.keys[0]

    @property
    def finest(self) -> list[Pool]:
        """What units belong to: the groups of the last nested level, or the pools."""
        return self.keys[-1]

    @property
    def depth(self) -> int:
        """The number of nested levels."""
        return len(self.nest_by)

    @cached_property
    def parents(self) -> tuple[Codes, ...]:
        """For each nested level (G,) the number of each group's parent."""
        found = []
        for above, here in pairwise(self.keys):
            numbers = {key: number for number, key in enumerate(above)}
            found.append(np.array([numbers[key[:-1]] for key in here], np.int64))
        return tuple(found)

    def roots(self, depth: int) -> Codes:
        """Return the number of the pool of each group of a depth, (G,)."""
        found = np.arange(len(self.pools))
        for parents in self.parents[:depth]:
            found = found[parents]
        return found

    def members(self, pool: int) -> list[NDArray[np.int64]]:
        """Return the numbers of a pool's groups, depth by depth; they stand side by side."""
        return [np.flatnonzero(self.roots(depth) == pool) for depth in range(self.depth + 1)]


@cache  # every row of every table about pools asks
def pool_label(pool: Pool) -> str:
    """Name a pool: its levels' values, or ``all``."""
    return " / ".join(str(value) for value in pool) if pool else "all"


def find_pools(folded: Folded, levels: Sequence[str], pool_by: Sequence[str]) -> list[Pool]:
    """List the pools of one shard."""
    if not pool_by:
        return [()] if folded.n else []
    columns = [folded.keys[levels.index(name)] for name in pool_by]
    distinct = pa.table(columns, names=list(pool_by)).group_by(list(pool_by), use_threads=False)
    return [tuple(row.values()) for row in distinct.aggregate([]).to_pylist()]


def pool_codes(
    folded: Folded, levels: Sequence[str], pool_by: Sequence[str], pools: list[Pool]
) -> NDArray[np.int64]:
    """Return the number of each unit's pool, (U,)."""
    return number_pools([folded.keys[levels.index(name)] for name in pool_by], folded.n, pools)


def number_pools(
    keys: Sequence[pa.Array | pa.ChunkedArray], rows: int, pools: list[Pool]
) -> NDArray[np.int64]:
    """Return the number of the pool that each row's ``keys`` name, (R,); -1 where it is none."""
    if not keys:
        return np.zeros(rows, np.int64)
    encoded = [encode(key) for key in keys]
    joint = np.zeros(rows, np.int64)
    for level in encoded:
        joint = joint * len(level.values) + level.codes
    numbers = {pool: number for number, pool in enumerate(pools)}
    present, first, inverse = np.unique(joint, return_index=True, return_inverse=True)
    values = [level.values.take(pa.array(level.codes[first])).to_pylist() for level in encoded]
    of_present = [numbers.get(pool, -1) for pool in zip(*values, strict=True)]
    return np.array(of_present, np.int64)[inverse] if len(present) else joint
