"""Fits with nested levels: each pool with the groups below it, by the levels between them.

A pool is fitted by a worker, from the sketches of its finest groups. What is known of a group at
any depth is said by nodes of the units below it: units of a group that is new, of the next level;
for the finest groups their own units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.config import Inference
from hbpipe.data.quantities import Metric
from hbpipe.errors import FitError
from hbpipe.model.family import Array, Codes
from hbpipe.model.fit import fit_pools
from hbpipe.model.integration.drawing import Drawn
from hbpipe.model.integration.nodes import Nodes, combine_pools
from hbpipe.model.nested.levels import NestedNodes
from hbpipe.model.nested.weights import group_weights
from hbpipe.model.nesting import NestedFits, fit_nested, integrate_nested, own_values
from hbpipe.model.overdispersion import Overdispersion
from hbpipe.model.pooling import CompletePooling, complete_pooling, log_likelihood_no_pooling
from hbpipe.run.engine import Engine
from hbpipe.run.inference.drift import drifts
from hbpipe.run.inference.fits import MetricFit, UnitPriors
from hbpipe.run.inference.tree import Pool, Tree, pool_label
from hbpipe.run.inference.typical import NewStores


@dataclass(frozen=True)
class Groups:
    """What is known of the nested groups of a metric, depth by depth, the pools at 0.

    Parameters
    ----------
    nodes, hyperparameters
        Of the units below each group of a depth, and point estimates, name -> (G,).
    weight
        For each nested level (G,) how much each group's own data decide about its mean.
    drawn
        How each pool's hyperparameters were integrated.
    """

    nodes: list[Nodes]
    hyperparameters: list[dict[str, Array]]
    weight: list[Array]
    drawn: list[Drawn]

    def priors(self, found: MetricFit) -> UnitPriors:
        """Return what units are shrunk to: the finest groups."""
        root, complete = found.tree.roots(found.tree.depth), found.complete
        return UnitPriors(
            family=found.metric.model,
            levels=found.tree.levels,
            pools=found.tree.finest,
            nodes=self.nodes[-1],
            hyperparameters=self.hyperparameters[-1],
            complete=CompletePooling(
                complete.estimate[root],
                complete.sd[root],
                complete.log_likelihood[root],
                complete.parameters[root],
            ),
            divisor=None if found.divisor is None else found.divisor[root],
            at_boundary=found.fits.boundary[root],
        )


@dataclass(frozen=True)
class Root:
    """What is known of one pool with the groups below it; without sketches, which have served.

    Parameters
    ----------
    fits, nodes
        Of the pool.
    weight
        For each nested level (G,) how much each group's own data decide about its mean.
    drift
        Of its hyperparameters since the last release.
    """

    fits: NestedFits
    nodes: NestedNodes
    weight: list[Array]
    drift: float | None


def fit_groups(
    engine: Engine,
    metric: Metric,
    sketch: Any,
    whole: Any,
    tree: Tree,
    inference: Inference,
    before: dict[str, dict[str, float]],
    overdispersion: Overdispersion | None = None,
    divisor: Array | None = None,
) -> MetricFit:
    """Fit every pool of a metric with the groups below it, and integrate: a task for each pool.

    ``sketch`` is that of the finest groups, ``whole`` that of the pools, which no and complete
    pooling are about; the rest is as in :func:`hbpipe.run.inference.fits.fit_metric`.
    """
    labels = [pool_label(key) for key in tree.pools]
    roots = engine.gather(
        [
            engine.submit(
                fit_root,
                metric,
                key,
                sketch.select(tree.members(pool)[-1]),
                _parents(tree, pool),
                tree.nest_by,
                inference,
                {label: before[label]} if label in before else {},
                label=f"fit of {metric.name} in {label}",
            )
            for pool, (key, label) in enumerate(zip(tree.pools, labels, strict=True))
        ]
    )
    groups = _join_nodes(tree, roots)
    alone = fit_pools(metric.model, whole, fixed=own_values(metric.model, metric.fixed))
    return MetricFit(
        metric,
        tree,
        _join_fits([root.fits for root in roots]),
        groups.nodes[0],
        [root.drift for root in roots],
        complete_pooling(alone),
        NewStores(np.arange(len(tree.pools))),
        log_likelihood_no_pooling(alone),
        overdispersion,
        divisor,
        groups=groups,
    )


def _parents(tree: Tree, pool: int) -> list[Codes]:
    """Return the number of each group's parent in a pool, level by level."""
    return [
        tree.parents[depth][here] - above[0]
        for depth, (above, here) in enumerate(pairwise(tree.members(pool)))
    ]


def fit_root(
    metric: Metric,
    pool: Pool,
    sketch: Any,
    parents: Sequence[Codes],
    levels: Sequence[str],
    inference: Inference,
    before: dict[str, dict[str, float]],
) -> Root:
    """Fit one pool from the sketch of its finest groups, and integrate."""
    try:
        fits = fit_nested(
            metric.model,
            sketch,
            parents,
            levels,
            estimator=inference.estimator,
            fixed=metric.fixed or None,
            hyperprior=metric.hyperprior,
        )
        nodes = integrate_nested(fits, uncertainty=inference.uncertainty)
    except FitError as error:
        raise error.at(metric=metric.name, pool=pool_label(pool)) from None
    (drift,) = drifts(metric.term_names, [pool], fits, before)
    stores = np.array([int(np.sum(fits.groups.n_groups))])
    kept = replace(fits, n_groups=stores, sketch=None, parents=(), groups=None, placing=None)
    return Root(kept, nodes, group_weights(fits, nodes.drawn), drift)


def _join_nodes(tree: Tree, roots: Sequence[Root]) -> Groups:
    """Put what is known of the groups of all pools together, depth by depth."""
    nodes = [root.nodes for root in roots]
    members = [tree.members(pool) for pool in range(len(tree.pools))]
    joined, point = [], []
    for depth, keys in enumerate(tree.keys):
        cuts = [_places(found, depth) for found in nodes]
        numbers = [of_pool[depth] for of_pool in members]
        parts = [found.nodes.select(cut) for found, cut in zip(nodes, cuts, strict=True)]
        joined.append(combine_pools(list(zip(numbers, parts, strict=True)), len(keys)))
        values = [found.hyperparameters for found in nodes]
        point.append({name: _stack(name, values, cuts) for name in values[0]})
    weights = zip(*(root.weight for root in roots), strict=True)
    return Groups(
        nodes=joined,
        hyperparameters=point,
        weight=[np.concatenate(of_level) for of_level in weights],
        drawn=[found.drawn for found in nodes],
    )


def _stack(
    name: str, values: Sequence[dict[str, Array]], cuts: Sequence[NDArray[np.int64]]
) -> Array:
    return np.concatenate([one[name][cut] for one, cut in zip(values, cuts, strict=True)])


def _places(found: NestedNodes, depth: int) -> NDArray[np.int64]:
    """Return which pools of one root's nodes stand for the groups of a depth."""
    if depth == len(found.levels):
        return np.arange(found.first[0])
    return np.arange(found.first[depth], found.first[depth + 1])


def _join_fits(fits: Sequence[NestedFits]) -> NestedFits:
    """Put the fits of single pools together; pools may have had fewer starts than others."""
    first, parts = fits[0], [vars(found) for found in fits]
    joined: dict[str, Any] = {}
    for name, value in vars(first).items():
        if name in ("status", "at_bound"):
            joined[name] = tuple(one for part in parts for one in part[name])
        elif isinstance(value, np.ndarray) and name != "start_values":
            joined[name] = np.concatenate([part[name] for part in parts])
    names, starts = first.hyperparameters, max(len(found.start_values) for found in fits)
    joined |= {
        "hyperparameters": {n: np.concatenate([f.hyperparameters[n] for f in fits]) for n in names},
        "start_values": np.hstack([_padded(found.start_values, starts) for found in fits]),
    }
    return replace(first, **joined)


def _padded(values: Array, rows: int) -> Array:
    return np.pad(values, ((0, rows - len(values)), (0, 0)), constant_values=np.nan)
