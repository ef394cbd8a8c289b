"""Sketches of all shards: merged here where they are small, left on the workers where not.

The likelihood of most families depends on a table much smaller than its stores. That of a
regression does not: nearly every store has a design of its own, so its rows stay with the workers
and what is summed over them, value, gradient and Hessian, comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Codes, Family
from hbpipe.run.engine import Engine, Task


class ShardedRows:
    """A table of :mod:`hbpipe.model.numerics.parts`, each part on the worker that made it.

    What is computed of the parts comes back in the order of the shards, so the bits of a sum
    depend on the shards and on nothing that happened to them.

    Parameters
    ----------
    parts
        Tasks of the shards' sketches, whose ``rows`` are the parts.
    lengths
        (G,) rows of each pool, in all parts.
    pools
        Which pools these are, of those of the parts; None for all of them in their order.
    """

    def __init__(
        self,
        engine: Engine,
        parts: Sequence[Task],
        lengths: NDArray[np.int64],
        pools: Codes | None = None,
    ) -> None:
        self._engine, self._parts = engine, parts
        self._lengths, self._pools = lengths, pools

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return len(self._lengths if self._pools is None else self._pools)

    def __len__(self) -> int:
        lengths = self._lengths if self._pools is None else self._lengths[self._pools]
        return int(lengths.sum())

    def select(self, pools: Codes) -> ShardedRows:
        """Return the rows of these pools, renumbered from 0; a pool may occur more than once."""
        chosen = np.asarray(pools) if self._pools is None else self._pools[pools]
        return ShardedRows(self._engine, self._parts, self._lengths, chosen)

    def each(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return ``function(rows, *arguments)`` of each part, computed where the part lies."""
        return self._engine.gather(
            [
                self._engine.submit(
                    _apply, part, self._pools, function, arguments, label=f"sums of shard {shard}"
                )
                for shard, part in enumerate(self._parts)
            ]
        )


def _apply(
    sketch: Any, pools: Codes | None, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Any:
    rows = sketch.rows if pools is None else sketch.rows.select(pools)
    return function(rows, *arguments)


def join_sketches(engine: Engine, family: Family, sketches: Sequence[Task]) -> Any:
    """Return the sketch of all shards from the tasks that make each shard's.

    Of a family that does not compress, everything but the rows is merged here; a single shard is
    taken as it is.
    """
    if family.compresses or len(sketches) == 1:
        found = engine.gather(sketches)
        return found[0] if len(found) == 1 else family.merge_sketches(found)
    heads = engine.gather(
        [engine.submit(_head, sketch, label="totals of a shard") for sketch in sketches]
    )
    merged = family.merge_sketches([head for head, _ in heads])
    lengths = np.sum([length for _, length in heads], axis=0)
    return replace(merged, rows=ShardedRows(engine, sketches, lengths))


def _head(sketch: Any) -> tuple[Any, NDArray[np.int64]]:
    """Return a sketch without its rows, and how many each pool has."""
    rows = sketch.rows
    columns = {name: values[:0] for name, values in rows.columns.items()}
    empty = replace(rows, pool=rows.pool[:0], columns=columns)
    return replace(sketch, rows=empty), np.bincount(rows.pool, minlength=rows.n_pools)
