"""Sketches that are a table of rows, each of which stands for some stores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.numerics.grouped import Rows


@dataclass(frozen=True)
class RowSketch:
    """What sketches with ``rows`` share; ``stores`` names the column that counts stores."""

    stores: ClassVar[str] = "n"

    rows: Rows

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return self.rows.n_pools

    @property
    def n_rows(self) -> int:
        """Rows of the table."""
        return len(self.rows)

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with data in each pool, (G,)."""
        return self.rows.sum(self.rows[self.stores]).astype(np.int64)
