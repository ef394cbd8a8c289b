"""The posterior of the hyperparameters of pools by sampling, pool by pool.

Mode and curvature come first. First order stops there; integration goes on to importance
sampling and, where its weights are not to be trusted, to Markov chains.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Family
from hbpipe.model.integration.drawing import Density, draw, drawn_nodes
from hbpipe.model.integration.evaluated import Evaluated
from hbpipe.model.integration.line import line_nodes
from hbpipe.model.integration.sampled_nodes import STEP, PoolNodes, SampledNodes
from hbpipe.model.integration.sampling import HyperTarget, Sampling
from hbpipe.model.numerics.importance import Limits
from hbpipe.model.numerics.modes import Mode, find_mode, marginal_mode
from hbpipe.model.update.sampled_stores import StorePosterior

#: Levels of the limits that have to settle.
_LEVELS = np.array([0.025, 0.975])
#: Where a family names no stores, mean ± 2 sd of the hyperparameters have to settle, to four times
#: as much of their sd: of a store's variance only a part comes from them.
_PART = 4.0


def sample_pools(
    family: Family,
    sketch: Any,
    coordinates: Array,
    *,
    held: Array,
    hyperprior: Any,
    uncertainty: str,
    enough: float,
) -> SampledNodes:
    """Posterior of the hyperparameters of ``G`` pools of a family with ``sampling``.

    Parameters are those of :func:`hbpipe.model.integrate.hyperposterior`; ``enough`` is the
    curvature in every log sd between stores from which on ``auto`` takes first order.

    Raises
    ------
    FitError
        As there, or where a log posterior is not a number.
    """
    sampling = family.sampling
    assert isinstance(sampling, Sampling)
    usable = sampling.integrable(sketch, held)
    known = uncertainty == "plug_in" or not np.isnan(held).any()
    estimate = np.where(np.isnan(held), coordinates, held)
    pools = []
    for pool in range(len(coordinates)):
        one = sketch.select(np.array([pool]))
        try:
            if known or not usable[pool]:
                # Of data that determine nothing the estimate is all that there is; on a line the
                # location has been integrated over its own hyperprior, so it is held too.
                free = usable[pool] and not sampling.on_a_line
                given = held[pool] if free else estimate[pool]
                target = sampling.target(one, None, given, estimate[pool])
                method = "plug_in" if known else "unidentified"
                pools.append(_single(target, target.start, one, method))
            else:
                target = sampling.target(one, hyperprior, held[pool], estimate[pool])
                pools.append(_infer(sampling, target, one, uncertainty, enough))
        except FitError as error:
            raise error.at(pool=pool) from error
    return SampledNodes(family.name, tuple(pools))


def _infer(
    sampling: Sampling, target: HyperTarget, sketch: Any, uncertainty: str, enough: float
) -> PoolNodes:
    if not target.names:
        return _single(target, np.empty(0), sketch, "integrated")
    density = Density(target, sketch.n_rows)
    mode = find_mode(density.far, target.start, target.spreads)
    if not np.isfinite(mode.value):
        raise FitError(
            "the log posterior of the hyperparameters is not finite where the search begins",
            where=dict(zip(target.names, target.start.tolist(), strict=True)),
            expected="a start with a density",
            remedy="give a hyperprior that allows for the estimate, or pool more stores",
        )
    curvature = _curvature(mode, target.spreads)
    if uncertainty == "first_order" or (uncertainty == "auto" and curvature >= enough):
        found = _first_order(target, density, mode, sketch)
    elif sampling.on_a_line:
        found = _on_a_line(target, density, mode, sketch)
    else:
        found = _integrated(sampling, target, density, mode, sketch)
    return replace(found, curvature=curvature)


def _curvature(mode: Mode, spreads: tuple[int, ...]) -> float:
    """κ = 1/Var(log sd), the least of all; NaN without any, 0 where the mode is not regular."""
    if not spreads:
        return np.nan
    variances = np.diag(mode.covariance)[list(spreads)]
    return float(np.min(1.0 / variances)) if mode.regular else 0.0


def _single(target: HyperTarget, point: Array, sketch: Any, method: str) -> PoolNodes:
    """One node, at the point estimate or where nothing is left to integrate."""
    points = point[None]
    return PoolNodes(
        method, points, np.ones(1), target.nodes(points), int(np.asarray(sketch.n_groups)[0])
    )


def _first_order(target: HyperTarget, density: Density, mode: Mode, sketch: Any) -> PoolNodes:
    """Nodes around the marginal mode of the log sds, for the gradients of stores' means."""
    centre = marginal_mode(density, mode, target.spreads)
    axes = STEP * mode.root.T
    points = np.concatenate([centre[None], centre + axes, centre - axes])
    single = _single(target, centre, sketch, "first_order")
    weight = np.zeros(len(points))
    weight[0] = 1.0
    return replace(single, points=points, weight=weight, values=target.nodes(points))


def _on_a_line(target: HyperTarget, density: Density, mode: Mode, sketch: Any) -> PoolNodes:
    points, weight = line_nodes(density.far, mode)
    stores_with_data = int(np.asarray(sketch.n_groups)[0])
    return PoolNodes("integrated", points, weight, target.nodes(points), stores_with_data)


def _integrated(
    sampling: Sampling, target: HyperTarget, density: Density, mode: Mode, sketch: Any
) -> PoolNodes:
    """Nodes by importance sampling, or by chains where the weights are not to be trusted."""
    # Moments of the hyperparameters do not tell whether fewer points would serve the stores.
    few = sampling.representatives is not None
    evaluated = Evaluated(target)
    drawn = draw(density, mode, _limits(sampling, evaluated, sketch), far=density.far, few=few)
    stores_with_data = int(np.asarray(sketch.n_groups)[0])
    return drawn_nodes(drawn, evaluated(drawn.points), stores_with_data)


def _limits(sampling: Sampling, evaluated: Evaluated, sketch: Any) -> Limits:
    """Choose what has to settle: limits of some stores, or moments of the hyperparameters."""
    if sampling.representatives is None:
        return _of_hyperparameters
    stores = sampling.representatives(sketch)

    def of_stores(points: Array, weight: Array) -> tuple[Array, Array]:
        conditional = sampling.conditional(stores, evaluated(points))
        posterior = StorePosterior(conditional, weight, {})
        limits = np.concatenate([posterior.mean[:, :, None], posterior.quantiles(_LEVELS)], axis=2)
        unit = np.sqrt(posterior.variance)[:, :, None]
        return limits.ravel(), np.broadcast_to(unit, limits.shape).ravel()

    return of_stores


def _of_hyperparameters(points: Array, weight: Array) -> tuple[Array, Array]:
    """Give mean ± 2 sd of the hyperparameters, and the units in which they have to settle."""
    mean = np.sum(weight[:, None] * points, axis=0)
    sd = np.sqrt(np.sum(weight[:, None] * np.square(points - mean), axis=0))
    return np.concatenate([mean - 2.0 * sd, mean + 2.0 * sd]), np.tile(_PART * sd, 2)
