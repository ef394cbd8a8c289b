"""The revenue of one further visit: nothing, or a log-normal amount.

That of several visits is a sum of log-normal amounts, whose law has no closed form.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.distributions.beta_lognormal import mean_and_square
from hbpipe.model.distributions.product import Products
from hbpipe.model.family import Array, Description
from hbpipe.model.integration.sampling import Conditional, NodeValues, Predictive

#: A shape of p that is as good as certain.
_CERTAIN = 1e15


def single_visit(exposure: Any) -> None:
    """Refuse to predict anything but one visit.

    Raises
    ------
    FitError
        If an exposure is not 1.
    """
    if not np.all(np.asarray(exposure) == 1.0):
        raise FitError(
            "the revenue of several visits is a sum of log-normal amounts, which has no closed "
            "form",
            where={"family": "hurdle_lognormal", "exposure": float(np.max(exposure))},
            expected="an exposure of 1: one further visit",
            remedy="predict one visit, or simulate from the posteriors of conversion and basket",
        )


def describe_visit(
    bought: Array,
    weight: Array,
    location: Array,
    scale: Array,
    moments: tuple[Array, Array],
    levels: Any,
) -> Description:
    """Describe the revenue of one visit of ``J`` stores.

    Parameters
    ----------
    bought
        (J,) probability of a purchase.
    weight, location, scale
        (J, L) mixture of normal laws of the log amount.
    moments
        (J,) mean and sd.
    levels
        (Q,).
    """
    one = np.ones((len(bought), 1))
    amounts = Products(one, _CERTAIN * one, one, weight, location, scale)
    nothing = 1.0 - bought

    def cdf(points: Any) -> Array:
        at = np.broadcast_to(np.asarray(points, np.float64), bought.shape)
        return np.where(at >= 0, nothing + bought * amounts.cdf(at), 0.0)

    wanted = np.atleast_1d(np.asarray(levels, np.float64))
    quantiles = np.zeros((len(bought), len(wanted)))
    for column, level in enumerate(wanted):
        rows = np.flatnonzero(nothing < level)
        left = (level - nothing[rows]) / bought[rows]
        quantiles[rows, column] = amounts.take(rows).quantile(left)
    return Description(*moments, quantiles, cdf)


def predict(found: Conditional, nodes: NodeValues, exposure: Array) -> Predictive:
    """Predict one further visit of ``J`` stores at ``S`` nodes."""
    single_visit(exposure)
    a, b, location, scale = (values[..., 0] for values in found.parameters)
    noise = nodes["basket_noise"]
    # θ has the mean amount in it: what one amount varies by has its median half of σ² lower.
    log_amount, sd = location - 0.5 * noise, np.sqrt(np.square(scale) + noise)
    bought = a / (a + b)
    _, square = _visit_moments(bought, log_amount, sd)
    mean, exists = found.mean[..., 0], found.has_mean

    def mixed(weight: Array, levels: Array) -> Description:
        chance = np.sum(weight * bought, axis=1)
        # Given a purchase, a node counts by the chance that it had given it.
        share = weight * bought / chance[:, None]
        centre = np.sum(weight * mean, axis=1)
        variance = np.sum(weight * square, axis=1) - np.square(centre)
        moments = [centre, np.sqrt(np.maximum(variance, 0.0))]
        if exists is not None:
            moments = [np.where(exists, values, np.inf) for values in moments]
        return describe_visit(chance, share, log_amount, sd, (moments[0], moments[1]), levels)

    return Predictive(mean, np.maximum(square - np.square(mean), 0.0), mixed, exists)


def _visit_moments(bought: Array, location: Array, sd: Array) -> tuple[Array, Array]:
    """E X and E X² of the revenue of a visit."""
    mean, square = mean_and_square(
        np.full_like(bought, _CERTAIN), np.ones_like(bought), location, sd
    )
    return bought * mean, bought * square


def predict_visit(bought: Array, location: Array, sd: Array, levels: Any) -> Description:
    """Describe the revenue of one visit at known hyperparameters; laws of any shape (J, ...)."""
    bought, location, sd = np.broadcast_arrays(bought, location, sd)
    mean, square = _visit_moments(bought, location, sd)
    flat = [np.ravel(values) for values in (bought, location, sd)]
    moments = mean, np.sqrt(square - np.square(mean))
    one = np.ones((bought.size, 1))
    found = describe_visit(
        flat[0], one, flat[1][:, None], flat[2][:, None], (mean.ravel(), moments[1].ravel()), levels
    )

    def cdf(points: Any) -> Array:
        at = np.broadcast_to(np.asarray(points, np.float64), bought.shape)
        return found.cdf(at.ravel()).reshape(bought.shape)

    quantiles = found.quantiles.reshape(*bought.shape, -1)
    return Description(*moments, quantiles, cdf)
