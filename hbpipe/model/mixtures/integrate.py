"""The posterior of the hyperparameters of pools of which some have a mixture and others one law.

Pools with a mixture are sampled. Those with one law are integrated as the family itself is, on its
grid, and the nodes of the grid are taken as nodes with one component.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Codes, Family
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.integration.sampled_nodes import PoolNodes, SampledNodes
from hbpipe.model.integration.sampled_pools import sample_pools
from hbpipe.model.integration.sampling import Sampling
from hbpipe.model.mixtures.coordinates import WEIGHT
from hbpipe.model.mixtures.sketch import MixtureSketch
from hbpipe.model.mixtures.stores import slots
from hbpipe.model.mixtures.target import mixture_target
from hbpipe.model.update.shrink import mixture_table


def sampling(base: Family) -> Sampling:
    """Return the slot ``sampling`` of mixtures of a family's laws."""
    return Sampling(
        target=partial(mixture_target, base),
        representatives=partial(_representatives, base),
        **slots(base),
    )


def integrate(
    base: Family,
    family: Family,
    sketch: MixtureSketch,
    coordinates: Array,
    *,
    held: Array,
    hyperprior: Any,
    uncertainty: str,
    enough: float,
) -> SampledNodes:
    """Integrate ``G`` pools; parameters are those of ``sample_pools``.

    A pool whose estimate gives the second component no stores has a single law.

    Raises
    ------
    FitError
        As ``sample_pools``.
    """
    options: dict[str, Any] = {"hyperprior": hyperprior, "uncertainty": uncertainty}
    alone = (coordinates[:, WEIGHT] == 0) & np.isnan(held).all(axis=1)
    found: dict[int, PoolNodes] = {}
    for pools, of in ((np.flatnonzero(alone), True), (np.flatnonzero(~alone), False)):
        if not len(pools):
            continue
        some = sketch if len(pools) == sketch.n_pools else sketch.select(pools)
        at, known = coordinates[pools], held[pools]
        if of:
            parts = single_law_pools(base, some, at, options)
        else:
            parts = list(sample_pools(family, some, at, held=known, enough=enough, **options).pools)
        found |= dict(zip(pools.tolist(), parts, strict=True))
    return SampledNodes(family.name, tuple(found[pool] for pool in range(len(coordinates))))


def single_law_pools(
    base: Family, sketch: MixtureSketch, coordinates: Array, options: dict[str, Any]
) -> list[PoolNodes]:
    """Integrate pools with one law on the family's own grid."""
    from hbpipe.model.integrate import hyperposterior  # it asks for the integral of a mixture here

    own = coordinates[:, : len(base.coordinates)]
    nodes = hyperposterior(base, sketch.whole, own, held=np.full(own.shape, np.nan), **options)
    assert isinstance(nodes, Nodes)
    return [_of_grid(nodes.select(np.array([pool]))) for pool in range(len(own))]


def _of_grid(nodes: Nodes) -> PoolNodes:
    """Take the nodes that limits of stores need as nodes of one component."""
    table = mixture_table(nodes)
    rows = table.nodes
    weight = rows.weight[0]
    used = weight > 0
    shape = (1, len(weight))

    def column(values: Array) -> Array:
        return np.broadcast_to(values, shape)[0, used, None]

    method = str(nodes.method[0])
    return PoolNodes(
        method=method,
        points=np.empty((int(used.sum()), 0)),
        weight=weight[used],
        values={
            "mu": column(rows.location),
            "spread": column(rows.spread),
            "proportion": np.ones((int(used.sum()), 1)),
            "location_variance": column(rows.location_variance),
            "spread_variance": column(rows.spread_variance),
            "covariance": column(rows.covariance),
        },
        n_groups=int(nodes.n_groups[0]),
        curvature=float(nodes.curvature[0]),
    )


def _representatives(base: Family, sketch: MixtureSketch) -> dict[str, NDArray[Any]]:
    """Give the median and the largest store, and those of the least and the greatest estimate.

    Not one without data: its limits are those of the rarer component's tail, of which no number
    of points tells the last digits.
    """
    statistics = sketch.statistics
    size, raw = geometry_of(base).sizes(statistics)
    middle = np.argsort(size, kind="stable")[len(size) // 2]
    chosen: Codes = np.array([middle, np.argmax(size), np.argmin(raw), np.argmax(raw)], np.int64)
    return {name: values[chosen] for name, values in statistics.items()}
