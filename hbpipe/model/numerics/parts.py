"""Tables of rows by pool that may lie in parts elsewhere, and sums over all parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from hbpipe.model.family import Array, Codes


class Table(Protocol):
    """Some rows for each of ``G`` pools: ``grouped.Rows``, or parts of them that lie elsewhere."""

    @property
    def n_pools(self) -> int:
        """The number of pools."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def select(self, pools: Codes) -> Table:
        """Return the rows of these pools, renumbered from 0; a pool may occur more than once."""

    def each(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return ``function(rows, *arguments)`` of each part, in the order of the parts.

        The function travels to where the rows are: one at the top of a module.
        """


def total(parts: Sequence[Array]) -> Array:
    """Add up what the parts of a table gave, in their order."""
    return np.asarray(sum(parts[1:], parts[0]))
