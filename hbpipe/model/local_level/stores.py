"""Levels of the last day at nodes of the hyperparameters."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.distributions.mixture import Mixture
from hbpipe.model.family import Array, Description, Statistics
from hbpipe.model.integration.sampling import Conditional, NodeValues, Predictive, Sampling
from hbpipe.model.local_level.filtering import filtered
from hbpipe.model.local_level.target import drift_target
from hbpipe.model.marginal.local_level import DailySketch

#: A law without any width is given so much.
_LEAST_SD = 1e-150


def conditional(statistics: Statistics, nodes: NodeValues) -> Conditional:
    """Give normal laws of the level of the last day, for ``J`` stores at ``S`` nodes.

    What is left open of μ at a node moves the mean by the share that the filter has kept of it.
    """
    n, mean = (np.asarray(statistics[name], np.float64)[:, None] for name in ("n", "mean"))
    found = filtered(n, mean, nodes["mu"], nodes["odds"], nodes["signal_ratio"])
    own = np.square(nodes["sigma"]) * found.variance
    return _conditional(found.mean, own + found.share**2 * nodes["mu_variance"], found.share, nodes)


def deviation(statistics: Statistics, nodes: NodeValues) -> Conditional:
    """Return the same of the level less μ, which moves it by the rest of the share."""
    n, mean = (np.asarray(statistics[name], np.float64)[:, None] for name in ("n", "mean"))
    apart = mean - nodes["mu"][:, None]
    found = filtered(n, apart, np.zeros(1), nodes["odds"], nodes["signal_ratio"])
    own = np.square(nodes["sigma"]) * found.variance
    variance = own + np.square(1.0 - found.share) * nodes["mu_variance"]
    law = _conditional(found.mean, variance, found.share, nodes)
    return replace(law, prior_mean=np.zeros_like(law.mean))


def _conditional(mean: Array, variance: Array, share: Array, nodes: NodeValues) -> Conditional:
    mean, variance = mean[..., None], variance[..., None]
    return Conditional(
        law=NORMAL,
        parameters=(mean, np.maximum(np.sqrt(variance), _LEAST_SD)),
        mean=mean,
        variance=variance,
        weight=1.0 - share[..., None],
        prior_mean=np.broadcast_to(nodes["mu"][None, :, None], mean.shape),
    )


def predict(found: Conditional, nodes: NodeValues, exposure: Array) -> Predictive:
    """Predict the mean of ``exposure`` (J,) further values of the last day."""
    noise = np.square(nodes["sigma"]) / np.asarray(exposure, np.float64)[:, None]
    mean, variance = found.mean[..., 0], found.variance[..., 0] + noise

    def mixed(weight: Array, levels: Array) -> Description:
        mixture = Mixture(NORMAL, np.broadcast_to(weight, mean.shape), (mean, np.sqrt(variance)))
        centre, whole = mixture.moments()

        def cdf(points: Any) -> Array:
            return mixture.cdf(np.broadcast_to(np.asarray(points, np.float64), centre.shape))

        return Description(centre, np.sqrt(whole), mixture.quantiles(levels), cdf)

    return Predictive(mean, variance, mixed)


def representatives(sketch: DailySketch) -> dict[str, NDArray[Any]]:
    """Give the smallest and the largest store, the one farthest out, and one without values."""
    rows = sketch.rows
    mean = np.sum(rows["n"] * rows["mean"], axis=1) / rows["size"]
    farthest = np.argmax(np.abs(mean - np.median(mean)))
    chosen = [int(np.argmin(rows["size"])), int(np.argmax(rows["size"])), int(farthest)]
    return {
        name: np.concatenate([rows[name][chosen], np.zeros_like(rows[name][:1])])
        for name in ("n", "mean", "m2")
    }


def integrable(sketch: DailySketch, held: Array) -> NDArray[np.bool_]:
    """Whether σ is kept from 0 and ∞, (G,): values differ within days, or days of one value."""
    between = sketch.evidence(np.zeros(sketch.n_pools)).squares
    single = (sketch.n_values == sketch.n_days) & (sketch.rows.sum(between) > 0)
    return np.asarray((sketch.within > 0) | single | ~np.isnan(held[:, 3]))


def drifting_sampling(family: str) -> Sampling:
    """Return the slot ``sampling`` of the family of this name."""
    return Sampling(
        target=partial(drift_target, family),
        conditional=conditional,
        deviation=deviation,
        predict=predict,
        integrable=integrable,
        representatives=representatives,
    )
