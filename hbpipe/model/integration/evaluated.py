"""What stores must know of points, each point computed once.

Importance sampling asks for the limits of stores again and again, each time for points that begin
like those before. The value of a point does not depend on the others, so what is there is kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from hbpipe.model.family import Array
from hbpipe.model.integration.sampling import HyperTarget


@dataclass
class Evaluated:
    """The ``nodes`` of a target, remembered for the points last asked for."""

    target: HyperTarget
    _points: Array | None = field(default=None, repr=False)
    _values: dict[str, Array] = field(default_factory=dict, repr=False)

    def __call__(self, points: Array) -> dict[str, Array]:
        """Return what :meth:`HyperTarget.nodes` does, for points (S, V)."""
        known = self._points
        shared = 0 if known is None else min(len(known), len(points))
        if known is None or not np.array_equal(known[:shared], points[:shared]):
            self._points, self._values = points, self.target.nodes(points)
        elif shared < len(points):
            more = self.target.nodes(points[shared:])
            self._values = {
                name: np.concatenate([values, more[name]]) for name, values in self._values.items()
            }
            self._points = points
        return {name: values[: len(points)] for name, values in self._values.items()}
