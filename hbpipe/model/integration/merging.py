"""Fewer outer nodes: neighbouring spreads put together, where no limits of θ are wanted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hbpipe.model.family import Array
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.numerics.grouped import float_sums

#: What a merged node has the averages of.
AVERAGED = ("spread", "location", "location_variance", "noise")


def merged(nodes: Nodes, count: int) -> Nodes:
    """Put neighbouring outer nodes together, those at the ends in smaller parts.

    The parts' weights fall towards the ends as the steps of a cosine do. ``nodes`` are collapsed,
    (G, K, 1); the result is (G, count, 1).
    """
    weight = nodes.weight[:, :, 0]
    middle = np.clip(np.cumsum(weight, axis=1) - 0.5 * weight, 0.0, 1.0)
    part = np.minimum(np.floor(count * np.arccos(1.0 - 2.0 * middle) / np.pi), count - 1)
    code = (np.arange(len(weight))[:, None] * count + part.astype(np.int64)).ravel()

    def add(values: Array) -> Array:
        return float_sums(np.ravel(weight * values), code, len(weight) * count).reshape(-1, count)

    total = add(np.ones_like(weight))
    known = np.where(total > 0, total, 1.0)
    # What has no weight repeats the pool's average: every formula stays finite there.
    averages: dict[str, Any] = {
        name: np.where(total > 0, add(values) / known, np.sum(weight * values, axis=1)[:, None])
        for name, values in ((name, getattr(nodes, name)[:, :, 0]) for name in AVERAGED)
    }
    centre = np.take_along_axis(averages["location"], part.astype(np.int64), axis=1)
    between = add((nodes.location[:, :, 0] - centre) ** 2) / known
    averages["location_variance"] = averages["location_variance"] + between
    averages["weight"] = total
    return replace(nodes, **{name: values[:, :, None] for name, values in averages.items()})
