"""What families of values with a common, unknown within-store sd share.

Coordinates (μ, τ², log σ), so that τ² = 0 is an ordinary point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.estimation.moments import (
    dersimonian_laird,
    hedges,
    lesson,
    paule_mandel,
    ratio,
    weighted_mean,
)
from hbpipe.model.family import (
    Array,
    Coordinate,
    Degeneracy,
    Description,
    Hyperparameters,
    Prior,
    Statistics,
)
from hbpipe.model.gaussian import normal_geometry, one_store
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, Geometry, log_of_spread, lower_median
from hbpipe.model.marginal.means import location_moments
from hbpipe.model.marginal.normal import NormalSketch
from hbpipe.model.numerics.grouped import Rows
from hbpipe.model.numerics.jets import exp

#: σ between 1e-33 and 1e33: derivatives, with σ⁻⁶ in them, are still numbers.
LOG_SIGMA_BOUND = 75.0


def describe(posterior: Prior, quantiles: Any) -> Description:
    """Mean, sd, quantiles and cdf of the store's θ."""
    return NORMAL.describe(posterior["mu"], posterior["tau"], quantiles)


def predict(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict the mean of ``exposure`` further values; 1 is a single new value."""
    noise = np.square(hyperparameters["sigma"]) / np.asarray(exposure, np.float64)
    sd = np.sqrt(np.square(posterior["tau"]) + noise)
    return NORMAL.describe(posterior["mu"], sd, quantiles)


def from_coordinates(coordinates: Array) -> dict[str, Array]:
    """(μ, τ², log σ) → mu, tau, sigma."""
    return {
        "mu": coordinates[..., 0],
        "tau": np.sqrt(coordinates[..., 1]),
        "sigma": np.exp(coordinates[..., 2]),
    }


def to_coordinates(hyperparameters: Hyperparameters) -> Array:
    """Mu, tau, sigma → (μ, τ², log σ), NaN for those that are missing."""
    mu, tau, sigma = (
        np.asarray(hyperparameters.get(name, np.nan), np.float64) for name in ("mu", "tau", "sigma")
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack(np.broadcast_arrays(mu, np.square(tau), np.log(sigma)), axis=-1)


def anova(sketch: NormalSketch, held: Array) -> Array:
    """Analysis of variance: σ² = MSW, τ² = (MSB − MSW)/n₀, n₀ = (N − Σn²/N)/(J − 1).

    Searle, Casella and McCulloch (1992), section 3.6; μ is the mean of all values.
    """
    rows, stores = sketch.rows, sketch.n_groups
    total, mu, squares = weighted_mean(rows, rows["size"])
    sigma_squared = _sigma_squared(sketch, held)
    n0 = ratio(total - ratio(rows.sum(rows["n"] * rows["size"] ** 2), total), stores - 1.0)
    spread = ratio(ratio(squares, stores - 1.0) - sigma_squared, n0)
    return np.stack([mu, spread, _log_sigma(sigma_squared)], axis=-1)


def _from_means(
    estimator: Callable[[Rows, Array], tuple[Array, Array]], sketch: NormalSketch, held: Array
) -> Array:
    """Treat σ² as known, at its held value or MSW, and estimate (μ, τ²) from the store means."""
    sigma_squared = _sigma_squared(sketch, held)
    # Without any variation within stores the means have no noise; a tiny one avoids 0/0.
    positive = np.where(sigma_squared > 0, sigma_squared, np.finfo(np.float64).tiny)
    rows = sketch.rows
    mu, spread = estimator(rows, positive[rows.pool] / rows["size"])
    return np.stack([mu, spread, _log_sigma(sigma_squared)], axis=-1)


def _sigma_squared(sketch: NormalSketch, held: Array) -> Array:
    """Give the held σ², or the mean square within stores, or of all values where that is 0."""
    free = np.isnan(held[:, 2])
    within = ratio(sketch.within, sketch.n_values - sketch.n_groups)
    within = np.where(within > 0, within, _total_variance(sketch)[2])
    return np.where(free, within, np.exp(2.0 * np.where(free, 0.0, held[:, 2])))


def _log_sigma(sigma_squared: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.clip(0.5 * np.log(sigma_squared), -LOG_SIGMA_BOUND, LOG_SIGMA_BOUND)


def _total_variance(sketch: NormalSketch) -> tuple[Array, Array, Array]:
    """Mean of the store means, their variance, and the mean square of all values about it."""
    rows = sketch.rows
    together = location_moments(rows)
    between = ratio(together["m2"], together["n"])
    _, _, squares = weighted_mean(rows, rows["size"])
    return together["mean"], between, ratio(sketch.within + squares, sketch.n_values)


def scale(sketch: NormalSketch) -> Array:
    """Sd and variance of a value, both sources of spread together; one unit of log σ."""
    _, between, total = _total_variance(sketch)
    size = np.maximum(between, total)
    size = np.where(size > 0, size, 1.0)
    return np.stack([np.sqrt(size), size, np.ones_like(size)], axis=-1)


def degeneracies(sketch: NormalSketch) -> tuple[Degeneracy, ...]:
    """No value; no store with two values; no variation within stores; a single store."""
    stores, freedom = sketch.n_groups, sketch.n_values - sketch.n_groups
    mean, between, total = _total_variance(sketch)
    zero, open_ = np.zeros(sketch.n_pools), np.full(sketch.n_pools, np.nan)
    open_ended = partial(
        Degeneracy,
        identified=False,
    )
    return (
        Degeneracy(
            "no_data",
            stores == 0,
            limit=np.stack([zero, zero, zero], axis=-1),
            identified=False,
            found="no store has a value",
            remedy="leave this pool out, or fix mu, tau and sigma",
        ),
        open_ended(
            "sigma_unidentified",
            (freedom == 0) & (stores > 0),
            limit=np.stack([mean, zero, _log_sigma(total)], axis=-1),
            found="no store has two values, so sigma and tau cannot be told apart",
            remedy="hold sigma (fixed={'sigma': ...}), widen the window, or give a proper "
            "hyperprior for sigma and estimator='map'",
            unless=("tau", "sigma"),
        ),
        open_ended(
            "no_variation_within",
            (freedom > 0) & (sketch.within == 0),
            limit=np.stack([mean, between, zero - LOG_SIGMA_BOUND], axis=-1),
            found="the values within every store are equal, so sigma has no estimate above 0",
            # The likelihood has a pole at σ = 0, which few hyperpriors outweigh.
            remedy="hold sigma (fixed={'sigma': ...}) or widen the window",
            unless=("sigma",),
        ),
        one_store(stores == 1, np.stack([open_, zero, open_], axis=-1), has="values"),
    )


def integrable(sketch: NormalSketch) -> NDArray[np.bool_]:
    """Whether σ is kept from 0 and ∞: values differ within stores, or single values differ."""
    stores = sketch.n_groups
    single = sketch.n_values == stores
    between = location_moments(sketch.rows)["m2"]
    return np.asarray((sketch.within > 0) | (single & (stores > 1) & (between > 0)))


COORDINATES = (
    Coordinate("mu", -np.inf, np.inf, "mu"),
    Coordinate("tau_squared", 0.0, np.inf, "tau", spread=True),
    Coordinate("log_sigma", -LOG_SIGMA_BOUND, LOG_SIGMA_BOUND, "sigma"),
)
MOMENTS: Mapping[str, Callable[[Any, Array], Array]] = {
    "anova": anova,
    "paule_mandel": partial(_from_means, paule_mandel),
    "hedges": partial(_from_means, hedges),
    "dersimonian_laird": partial(_from_means, dersimonian_laird),
    "lesson": partial(_from_means, lesson),
}


def geometry(sizes: Callable[[Statistics], tuple[Array, Array]]) -> Geometry:
    """Return the geometry for stores whose size and mean ``sizes`` gives, (J,) each."""
    return normal_geometry(
        has_noise=True,
        sizes=sizes,
        median_size=lambda sketch: lower_median(sketch.rows, "size", "n"),
        coordinates=lambda w: [w[LOCATION], exp(w[SPREAD] + 2.0 * w[NOISE]), w[NOISE]],
        log_spread=lambda held, w: w[NOISE] * -2.0 + log_of_spread(held),
        given_spread=lambda sketch, log_spread: sketch.given_spread(log_spread),
        integrable=integrable,
    )
