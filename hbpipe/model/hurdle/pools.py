"""The hyperparameters of pools of ``hurdle_lognormal``, from the grids of its two families.

The likelihood is a product and so are the hyperpriors, so each part is integrated as its own family
is, and a node of the pool is a node of each: its weight is the product of theirs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hbpipe.model.family import Array, Family
from hbpipe.model.geometry import geometry_of
from hbpipe.model.hurdle.hyperprior import split
from hbpipe.model.hurdle.parts import basket, conversion
from hbpipe.model.hurdle.stores import FIELDS
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.integration.sampled_nodes import PoolNodes, SampledNodes
from hbpipe.model.integration.thinning import thinned
from hbpipe.model.marginal.hurdle_lognormal import BASKET, CONVERSION, HurdleSketch
from hbpipe.model.marginal.normal import NormalSketch
from hbpipe.model.update.shrink import NodeTable

#: From the least to the most that a method makes of the hyperparameters.
_METHODS = ("plug_in", "first_order", "integrated", "unidentified")
#: Nodes of a part that together weigh less are left out.
_NEGLIGIBLE = 1e-6
#: σ moves θ by itself, by ½ σ²: nodes of it at each spread.
_SIGMAS = 3


def product_pools(
    family: Family,
    sketch: HurdleSketch,
    coordinates: Array,
    *,
    held: Array,
    hyperprior: Any,
    uncertainty: str,
    enough: float,
) -> SampledNodes:
    """Posterior of the hyperparameters of ``G`` pools, as pairs of nodes.

    Parameters are those of :func:`hbpipe.model.integrate.hyperposterior`; ``enough`` is the
    curvature on which ``auto`` decides, for each part by itself.

    Raises
    ------
    FitError
        As there.
    """
    from hbpipe.model.integrate import hyperposterior  # it asks this module

    found = []
    parts = (conversion(), sketch.conversion, CONVERSION), (basket(), sketch.basket, BASKET)
    for (part, own, place), spec in zip(parts, split(hyperprior), strict=True):
        nodes = hyperposterior(
            part,
            own,
            coordinates[:, place],
            held=held[:, place],
            hyperprior=spec,
            uncertainty=uncertainty,
        )
        assert isinstance(nodes, Nodes)
        found.append(nodes)
    bought, paid = found
    pools = [
        _pair(bought.select(g), paid.select(g), sketch.basket.select(g), held[int(g[0]), BASKET])
        for g in np.arange(len(coordinates))[:, None]
    ]
    groups = sketch.n_groups
    named = [replace(pool, n_groups=int(n)) for pool, n in zip(pools, groups, strict=True)]
    return SampledNodes(family.name, tuple(named))


def _pair(bought: Nodes, paid: Nodes, sketch: NormalSketch, held: Array) -> PoolNodes:
    """Pair the nodes of one pool."""
    method = max((str(bought.method[0]), str(paid.method[0])), key=_METHODS.index)
    (weight_p, of_p), (weight_m, of_m) = _nodes(bought, 1), _nodes(paid, _SIGMAS)
    of_m["shift_variance"] = np.full(len(weight_m), _shift_variance(paid, sketch, held))
    first, second = (n.ravel() for n in np.indices((len(weight_p), len(weight_m))))
    values = {f"conversion_{name}": of_p[name][first] for name in FIELDS}
    values |= {f"basket_{name}": of_m[name][second] for name in FIELDS}
    # Where hyperparameters are taken as known, they are.
    known = ~np.isnan(held) | (method in ("plug_in", "unidentified"))
    return PoolNodes(
        method,
        np.stack([first, second], axis=1).astype(np.float64),
        np.outer(weight_p, weight_m).ravel(),
        values
        | {
            "conversion": first,
            "basket": second,
            "shift_variance": of_m["shift_variance"][second],
            "tau_known": np.full(len(second), known[1]),
            "sigma_known": np.full(len(second), known[2]),
        },
        0,
        curvature=float(np.fmin(bought.curvature[0], paid.curvature[0])),
    )


def _nodes(nodes: Nodes, least: int) -> tuple[Array, dict[str, Array]]:
    """Weights and fields, (K,) each, of the nodes of one pool that carry weight."""
    large = bool(nodes.is_large[0])
    some = nodes.collapse() if large else thinned(nodes, geometry_of(nodes.family), least)
    rows = NodeTable.of(some, _NEGLIGIBLE).nodes
    kept = np.flatnonzero(rows.weight[0] > 0)
    fields = {
        name: np.broadcast_to(getattr(rows, name), rows.weight.shape)[0, kept] for name in FIELDS
    }
    return rows.weight[0, kept] / np.sum(rows.weight[0, kept]), fields


def _shift_variance(nodes: Nodes, sketch: NormalSketch, held: Array) -> float:
    """Return the variance of ½ σ² that is left within a node.

    In a large pool that of the inner nodes, put together; of ``first_order`` that of a σ with the
    degrees of freedom within stores, whose logarithm has the variance 1/(2 (N − J)).
    """
    if not np.isnan(held[2]) or nodes.method[0] in ("plug_in", "unidentified"):
        return 0.0
    if nodes.method[0] == "first_order":
        freedom = float(sketch.n_values[0]) - float(sketch.n_groups[0])
        return float(nodes.noise[0, 0, 0]) ** 2 / (2.0 * max(freedom, 1.0))
    if not nodes.is_large[0]:
        return 0.0
    centre = nodes.collapse().noise
    return float(np.sum(nodes.weight * np.square(nodes.noise - centre)) / 4.0)
