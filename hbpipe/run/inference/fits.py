"""The fits of a night: pools found and sketched on workers, hyperparameters fitted in one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.config import Inference
from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded
from hbpipe.model.checks import PrecisionDependence
from hbpipe.model.covariates.design import Design
from hbpipe.model.covariates.ranks import Span, fit_by_rank
from hbpipe.model.covariates.sketch import CovariateSketch
from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Codes, Family, Statistics
from hbpipe.model.fit import PoolFits, fit_pools
from hbpipe.model.integration.sampled_nodes import AnyNodes, SampledNodes
from hbpipe.model.local_level.choice import Choice, choose
from hbpipe.model.overdispersion import Overdispersion
from hbpipe.model.pooling import CompletePooling, complete_pooling, log_likelihood_no_pooling
from hbpipe.run.engine import Engine
from hbpipe.run.inference import parameters
from hbpipe.run.inference.coding import COVARIATES, known_units
from hbpipe.run.inference.diagnosed import Diagnosed
from hbpipe.run.inference.drift import drifts, without_effect
from hbpipe.run.inference.integration import integrate_on
from hbpipe.run.inference.tree import Pool, Tree, pool_codes, pool_label
from hbpipe.run.inference.typical import Coded, NewStores

if TYPE_CHECKING:
    from hbpipe.run.inference.nested import Groups


@dataclass(frozen=True)
class UnitPriors:
    """What the units of a metric are shrunk to: what a worker must know of their pools.

    Parameters
    ----------
    family
        With as many covariates as the metric has.
    levels, pools
        The levels that tell pools apart, and the pools in the order of every array over them. Of
        a metric with nested levels they are the finest groups.
    nodes, hyperparameters
        The posterior of each pool's hyperparameters, and point estimates, name -> (G, ...).
    complete
        All units of a pool as one; of nested groups all units of their root.
    divisor
        What the sizes of each pool's units were divided by, (G,); None where nothing was.
    at_boundary
        Which pools' fits are on a bound, (G,); of nested groups those of their pools.
    span
        What of the coefficients the units of a pool determine; None where it is all.
    """

    family: Family
    levels: tuple[str, ...]
    pools: list[Pool]
    nodes: AnyNodes
    hyperparameters: dict[str, Array]
    complete: CompletePooling
    divisor: Array | None
    at_boundary: NDArray[np.bool_]
    span: Span | None = None


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
    #: Stores without data that the release describes.
    new_stores: NewStores
    #: Log likelihood of each pool when every unit has its own θ, (G,); NaN where there is none.
    no_pooling: Array
    overdispersion: Overdispersion | None = None
    #: What the sizes of each pool's units were divided by, (G,); None where nothing was.
    divisor: Array | None = None
    #: How covariates are coded; None where the prior mean is the same for all units of a pool.
    design: Design | None = None
    #: What of the coefficients each pool's units determine; None where that is all of them.
    span: Span | None = None
    size_dependence: PrecisionDependence | None = None
    #: None where the units have no predictive distribution in closed form.
    diagnosed: Diagnosed | None = None
    groups: Groups | None = None
    #: Which pools' levels move, where the metric asks.
    choice: Choice | None = None

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
            self.fits.model,
            self.tree.pool_by,
            self.pools,
            self.nodes,
            self.fits.hyperparameters,
            self.complete,
            self.divisor,
            self.fits.boundary,
            self.span,
        )

    @property
    def estimates(self) -> Estimates:
        """What a worker needs of the fits without their uncertainty, of one law to a pool."""
        fits = self.fits.single_law()
        return Estimates(fits.model, fits.hyperparameters, self.divisor)

    @property
    def parameter_terms(self) -> tuple[str, ...]:
        """The names of the numbers of a hyperparameter that is a vector or a matrix."""
        terms = self.metric.term_names if self.design is None else self.design.labels
        return parameters.terms_of(self.fits.hyperparameters, terms)

    @property
    def labels(self) -> list[str]:
        """Return a readable name of each pool."""
        return [pool_label(pool) for pool in self.pools]

    @property
    def integrated(self) -> NDArray[np.bool_]:
        """(G,) False where the chains that integrate over the hyperparameters disagree."""
        if self.groups is not None:
            return np.array([drawn.converged for drawn in self.groups.drawn])
        if isinstance(self.nodes, SampledNodes):
            return self.nodes.converged
        return np.ones(len(self.pools), np.bool_)

    @property
    def converged(self) -> NDArray[np.bool_]:
        """(G,) Whether an estimate and the integration around it are to be trusted."""
        return np.asarray(self.fits.converged & self.integrated)

    @property
    def status(self) -> list[str]:
        """How each pool ended, in one word: that of its fit, or that its chains disagree."""
        only_chains = self.fits.converged & ~self.integrated
        found = zip(only_chains, self.fits.status, strict=True)
        return ["chains_disagree" if disagree else word for disagree, word in found]


@dataclass(frozen=True)
class Estimates:
    """Point estimates of a metric's pools: name -> (G, ...), and what divides sizes, (G,)."""

    family: Family
    hyperparameters: dict[str, Array]
    divisor: Array | None


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
    statistics = effective(metric, folded.fitted(metric.name), codes, divisor)
    own, statistics = with_covariates_only(codes, statistics)
    family = metric.model
    if COVARIATES in statistics:
        family = get_family(family.name, family.size, statistics[COVARIATES].shape[1])
    return family.compress(statistics, own, len(pools))


def with_covariates_only(codes: Codes, statistics: Statistics) -> tuple[Codes, Statistics]:
    """Leave out units whose covariates are unknown: they have no prior mean."""
    known = known_units(statistics)
    if known is None or known.all():
        return codes, statistics
    return codes[known], {name: np.asarray(values)[known] for name, values in statistics.items()}


def effective(
    metric: Metric, statistics: Statistics, codes: Codes, divisor: Array | None
) -> Statistics:
    """Divide the sizes of units, whose pools are ``codes`` (U,), by their overdispersion (G,)."""
    law = metric.model.dispersion
    if divisor is None or law is None:
        return statistics
    thinned = law.thin(statistics, divisor[codes])
    if COVARIATES in statistics:
        thinned[COVARIATES] = statistics[COVARIATES]
    return thinned


def fit_metric(
    engine: Engine,
    metric: Metric,
    sketch: Any,
    tree: Tree,
    inference: Inference,
    before: dict[str, dict[str, float]],
    overdispersion: Overdispersion | None = None,
    divisor: Array | None = None,
    coded: Coded | None = None,
) -> MetricFit:
    """Fit every pool of a metric in one batch, and integrate over what the fits leave open.

    ``sketch`` is that of all shards, of sizes that were divided by ``divisor``; ``before`` holds
    the last release's hyperparameters by pool label, for the drift; ``coded`` the covariates.
    """
    design = None if coded is None else coded.design
    new_stores = NewStores(np.arange(len(tree.pools))) if coded is None else coded.new_stores
    span = _span(metric, sketch, inference)
    options = _options(metric, inference)
    choice = None if metric.dynamics is None else choose(metric.model, sketch, **options)
    if choice is not None:
        options["fixed"] = choice.hold(metric.fixed)
    fits, nodes, complete = _estimate(
        engine, family_of(metric, design), tree.pools, sketch, span, options, inference.uncertainty
    )
    labels = metric.term_names if design is None else design.labels
    terms = parameters.terms_of(fits.hyperparameters, labels)
    drift = drifts(terms, tree.pools, fits, without_effect(before, tree.pools, span, terms))
    return MetricFit(
        metric,
        tree,
        # The sketch has served; where it lies on workers, this frees their memory.
        replace(fits, sketch=None),
        nodes,
        drift,
        complete,
        new_stores if span is None else new_stores.within(span),
        log_likelihood_no_pooling(fits),
        overdispersion,
        divisor,
        design,
        span,
        choice=choice,
    )


def _options(metric: Metric, inference: Inference) -> dict[str, Any]:
    return {
        "estimator": inference.estimator,
        "fixed": metric.fixed or None,
        "hyperprior": metric.hyperprior,
    }


def _span(metric: Metric, sketch: Any, inference: Inference) -> Span | None:
    """Return what the stores of each pool determine; None where that is everything.

    A hyperprior of the coefficients determines those that the stores do not, where it has a say.
    """
    spec = metric.hyperprior
    proper = isinstance(spec, Mapping) and "coefficients" in spec
    heard = inference.estimator == "map" or inference.uncertainty != "plug_in"
    if (proper and heard) or not isinstance(sketch, CovariateSketch):
        return None
    found = Span.of(sketch)
    return None if found.determined.all() else found


def _estimate(
    engine: Engine,
    family: Family,
    pools: list[Pool],
    sketch: Any,
    span: Span | None,
    options: dict[str, Any],
    uncertainty: str,
) -> tuple[PoolFits, AnyNodes, CompletePooling]:
    if span is not None:
        ranked = fit_by_rank(family, sketch, span, **options, uncertainty=uncertainty)
        return ranked.fits, ranked.nodes, ranked.complete
    fits = fit_pools(family, sketch, **options)
    nodes = integrate_on(engine, fits, [pool_label(pool) for pool in pools], uncertainty)
    return fits, nodes, complete_pooling(fits)


def family_of(metric: Metric, design: Design | None) -> Family:
    """Return the family of a metric, with as many covariates as its design has columns."""
    family = metric.model
    return family if design is None else get_family(family.name, family.size, len(design.labels))
