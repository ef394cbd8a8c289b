"""Moments of levels that drift: where fits begin, and what days cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from hbpipe.model.estimation.moments import ratio, weighted_mean
from hbpipe.model.family import Array, Degeneracy
from hbpipe.model.gaussian import one_store
from hbpipe.model.local_level.algebra import LOG_SIGMA_BOUND, RATIO_BOUND
from hbpipe.model.marginal.local_level import LOG_SIGMA, RATIO, DailySketch
from hbpipe.model.marginal.means import location_moments
from hbpipe.model.numerics.grouped import Rows

#: σ² of values that do not vary; its square is still a number.
_LEAST_VARIANCE = 1e-100


def successive_differences(
    estimator: Callable[[Rows, Array], tuple[Array, Array]], sketch: DailySketch, held: Array
) -> Array:
    """σ² within days, q from the steps between days, (μ, τ²) from what days say of the first.

    A step over g days between means of n and n' values has the variance σ² (1/n + 1/n' + g q):
    q = Σ w (Δ²/σ² − 1/n − 1/n')/Σ w g with w = 1/(1/n + 1/n') (von Neumann et al. 1941).
    """
    sigma_squared = _sigma_squared(sketch, held)
    q = np.where(np.isnan(held[:, RATIO]), _steps(sketch, sigma_squared), held[:, RATIO])
    rows, variance = _estimates(sketch, np.clip(q, 0.0, RATIO_BOUND), sigma_squared)
    mu, spread = estimator(rows, variance)
    return np.stack([mu, spread, q, _log_sd(sigma_squared)], axis=-1)


def _estimates(sketch: DailySketch, q: Array, sigma_squared: Array) -> tuple[Rows, Array]:
    """Estimates of the first day's level with their sampling variances."""
    rows, found = sketch.rows, sketch.evidence(q)
    columns = {"n": rows["stores"], "mean": found.mean, "m2": np.zeros(len(rows))}
    # Without any variation estimates have no noise; a tiny one avoids 0/0.
    positive = np.where(sigma_squared > 0, sigma_squared, _LEAST_VARIANCE)
    return Rows(rows.n_pools, rows.pool, columns), positive[rows.pool] / found.size


def _steps(sketch: DailySketch, sigma_squared: Array) -> Array:
    rows = sketch.rows
    unit = np.where(sigma_squared > 0, sigma_squared, 1.0)[rows.pool]
    excess, length = np.zeros(len(rows)), np.zeros(len(rows))
    last = np.zeros((3, len(rows)))  # values, mean and day of the latest day with values
    for day, (n, mean) in enumerate(zip(rows["n"].T, rows["mean"].T, strict=True)):
        pair = (n > 0) & (last[0] > 0)
        noise = np.where(pair, 1.0 / np.where(pair, n, 1.0) + 1.0 / np.where(pair, last[0], 1.0), 1)
        excess += np.where(pair, np.square(mean - last[1]) / unit / noise - 1.0, 0.0)
        length += np.where(pair, (day - last[2]) / noise, 0.0)
        last = np.where(n > 0, np.stack([n, mean, np.full(len(n), float(day))]), last)
    return ratio(rows.sum(excess), rows.sum(length))


def _sigma_squared(sketch: DailySketch, held: Array) -> Array:
    """Held σ², or the mean square within days, or within stores, or of all values."""
    found = ratio(sketch.within, sketch.n_values - sketch.n_days)
    for fallback in (_within_stores(sketch), _total_variance(sketch)[2]):
        found = np.where(found > 0, found, fallback)
    free = np.isnan(held[:, LOG_SIGMA])
    return np.where(free, found, np.exp(2.0 * np.where(free, 0.0, held[:, LOG_SIGMA])))


def _within_stores(sketch: DailySketch) -> Array:
    return ratio(_squares(sketch), sketch.n_values - sketch.n_groups)


def _squares(sketch: DailySketch) -> Array:
    """Squares of the values about their store's mean, (G,)."""
    static = sketch.evidence(np.zeros(sketch.n_pools))
    return sketch.rows.sum(sketch.rows["within"] + static.squares)


def _log_sd(variance: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.clip(0.5 * np.log(variance), -LOG_SIGMA_BOUND, LOG_SIGMA_BOUND)


def _total_variance(sketch: DailySketch) -> tuple[Array, Array, Array]:
    """Mean of the store means, their variance, and the mean square of all values about it."""
    rows, _ = _estimates(sketch, np.zeros(sketch.n_pools), np.ones(sketch.n_pools))
    together = location_moments(rows)
    _, _, squares = weighted_mean(rows, sketch.rows["size"])
    total = ratio(_squares(sketch) + squares, sketch.n_values)
    return together["mean"], ratio(together["m2"], together["n"]), total


def scale(sketch: DailySketch) -> Array:
    """Sd and variance of a value; a step as large as the noise of a day; one unit of log σ."""
    _, between, total = _total_variance(sketch)
    size = np.maximum(between, total)
    size = np.where(size > 0, size, 1.0)
    day = np.minimum(np.where(sketch.n_values > 0, ratio(sketch.n_days, sketch.n_values), 1.0), 1.0)
    return np.stack([np.sqrt(size), size, day, np.ones_like(size)], axis=-1)


def degeneracies(sketch: DailySketch) -> tuple[Degeneracy, ...]:
    """No value; no store with two values; no variation; no store with two days; a single store."""
    stores, freedom = sketch.n_groups, sketch.n_values - sketch.n_groups
    mean, between, total = _total_variance(sketch)
    zero, open_ = np.zeros(sketch.n_pools), np.full(sketch.n_pools, np.nan)
    no_estimate = partial(Degeneracy, identified=False)
    constant = (sketch.n_values > sketch.n_days) & (sketch.within == 0)
    return (
        no_estimate(
            "no_data",
            stores == 0,
            limit=np.zeros((sketch.n_pools, 4)),
            found="no store has a value",
            remedy="leave this pool out, or fix mu, tau, signal_ratio and sigma",
        ),
        no_estimate(
            "sigma_unidentified",
            (freedom == 0) & (stores > 0),
            limit=np.stack([mean, zero, zero, _log_sd(total)], axis=-1),
            found="no store has two values, so sigma, drift and tau cannot be told apart",
            remedy="hold sigma (fixed={'sigma': ...}), widen the window, or give a proper "
            "hyperprior for sigma and estimator='map'",
            unless=("tau", "sigma"),
        ),
        no_estimate(
            "no_variation_within",
            (freedom > 0) & (constant | (_squares(sketch) == 0)),
            limit=np.stack([mean, between, zero, zero - LOG_SIGMA_BOUND], axis=-1),
            found="the values of every day of a store are equal, so sigma has no estimate above 0",
            remedy="hold sigma (fixed={'sigma': ...}) or widen the window",
            unless=("sigma",),
        ),
        Degeneracy(
            "one_day",
            (sketch.n_days == stores) & (stores > 0),
            limit=np.stack([open_, open_, zero, open_], axis=-1),
            identified=True,
            found="no store has values on two days, so nothing is known of how levels drift",
            remedy="widen the window, or fix signal_ratio",
            unless=("signal_ratio",),
        ),
        one_store(stores == 1, np.stack([open_, zero, open_, open_], axis=-1), has="values"),
    )
