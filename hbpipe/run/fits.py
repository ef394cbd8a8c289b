"""The fits of a night: pools found and sketched on workers, hyperparameters fitted in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.config import Inference
from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded
from hbpipe.model.family import Array, Codes, Statistics
from hbpipe.model.fit import PoolFits, fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.overdispersion import Overdispersion
from hbpipe.model.pooling import CompletePooling, complete_pooling, log_likelihood_no_pooling
from hbpipe.model.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.run import parameters
from hbpipe.run.tree import Pool, Tree, pool_codes, pool_label

if TYPE_CHECKING:
    from hbpipe.run.nested import Groups


@dataclass(frozen=True)
class UnitPriors:
    """What the units of a metric are shrunk to: what a worker must know of their pools.

    Parameters
    ----------
    levels, pools
        The levels that tell pools apart, and the pools in the order of every array over them. Of
        a metric with nested levels they are the finest groups.
    nodes, hyperparameters
        The posterior of each pool's hyperparameters, and point estimates, name -> (G, ...).
    complete
        All units of a pool as one; of nested groups all units of their root.
    divisor
        What the sizes of each pool's units were divided by, (G,); None where nothing was.
    """

    levels: tuple[str, ...]
    pools: list[Pool]
    nodes: AnyNodes
    hyperparameters: dict[str, Array]
    complete: CompletePooling
    divisor: Array | None


@dataclass(frozen=True)
class MetricFit:
    """The fits of one metric: ``pools`` in the order of every array over pools.

    With nested levels ``groups`` has what is known of the groups below the pools, and ``nodes``
    stands for the units of a new group of each pool.
    """

    metric: Metric
    tree: Tree
    fits: PoolFits
    nodes: AnyNodes
    drift: list[float | None]
    complete: CompletePooling
    #: Log likelihood of each pool when every unit has its own θ, (G,); NaN where there is none.
    no_pooling: Array
    overdispersion: Overdispersion | None = None
    #: What the sizes of each pool's units were divided by, (G,); None where nothing was.
    divisor: Array | None = None
    groups: Groups | None = None

    @property
    def pools(self) -> list[Pool]:
        """The pools, by the values of their levels."""
        return self.tree.pools

    @property
    def priors(self) -> UnitPriors:
        """What the units are shrunk to."""
        if self.groups is not None:
            return self.groups.priors(self)
        return UnitPriors(
            self.tree.pool_by,
            self.pools,
            self.nodes,
            self.fits.hyperparameters,
            self.complete,
            self.divisor,
        )

    @property
    def labels(self) -> list[str]:
        """Return a readable name of each pool."""
        return [pool_label(pool) for pool in self.pools]

    @property
    def integrated(self) -> NDArray[np.bool_]:
        """(G,) False where the chains that integrate over the hyperparameters disagree."""
        if isinstance(self.nodes, SampledNodes):
            return self.nodes.converged
        return np.ones(len(self.pools), np.bool_)


def compress_shard(
    folded: Folded,
    metric: Metric,
    levels: Sequence[str],
    pool_by: Sequence[str],
    pools: list[Pool],
    divisor: Array | None = None,
) -> Any:
    """Make the sketch of one shard: all that the likelihood of its stores depends on."""
    codes = pool_codes(folded, levels, pool_by, pools)
    statistics = effective(metric, folded.statistics[metric.name], codes, divisor)
    return metric.model.compress(statistics, codes, len(pools))


def effective(
    metric: Metric, statistics: Statistics, codes: Codes, divisor: Array | None
) -> Statistics:
    """Divide the sizes of units, whose pools are ``codes`` (U,), by their overdispersion (G,)."""
    law = metric.model.dispersion
    if divisor is None or law is None:
        return statistics
    return law.thin(statistics, divisor[codes])


def fit_metric(
    metric: Metric,
    sketch: Any,
    tree: Tree,
    inference: Inference,
    before: dict[str, dict[str, float]],
    overdispersion: Overdispersion | None = None,
    divisor: Array | None = None,
) -> MetricFit:
    """Fit every pool of a metric in one batch, and integrate over what the fits leave open.

    ``sketch`` is that of all shards, of sizes that were divided by ``divisor``; ``before`` holds
    the last release's hyperparameters by pool label, for the drift.
    """
    fits = fit_pools(
        metric.model,
        sketch,
        estimator=inference.estimator,
        fixed=metric.fixed or None,
        hyperprior=metric.hyperprior,
    )
    nodes = integrate_pools(fits, uncertainty=inference.uncertainty)
    drift = drifts(metric, tree.pools, fits, before)
    return MetricFit(
        metric,
        tree,
        # The sketch has served; where it lies on workers, this frees their memory.
        replace(fits, sketch=None),
        nodes,
        drift,
        complete_pooling(fits),
        log_likelihood_no_pooling(fits),
        overdispersion,
        divisor,
    )


def drifts(
    metric: Metric, pools: list[Pool], fits: PoolFits, before: dict[str, dict[str, float]]
) -> list[float | None]:
    """Twice the log likelihood lost by keeping the last release's hyperparameters, by pool.

    Without change it is about chi-squared with one degree per hyperparameter.
    """
    family, terms = fits.model, metric.term_names
    last = [before.get(pool_label(pool), {}) for pool in pools]
    wanted = {name: fits.hyperparameters[name] for name in family.hyperparameters}
    needed = parameters.labels(wanted, terms)
    known = [needed <= row.keys() for row in last]
    if not any(known):
        return [None] * len(pools)
    rows = [row if complete else {} for row, complete in zip(last, known, strict=True)]
    old = {name: parameters.rebuild(name, values, terms, rows) for name, values in wanted.items()}
    coordinates = np.clip(family.to_coordinates(old), *family.bounds)
    kept = family.log_marginal(fits.sketch, coordinates)[0]
    now = family.log_marginal(fits.sketch, fits.coordinates)[0]
    return [float(2 * (now[g] - kept[g])) if known[g] else None for g in range(len(pools))]
