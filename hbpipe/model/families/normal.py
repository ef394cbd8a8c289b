"""Values with a common within-store sd: x_ij ~ N(θ_j, σ²), θ_j ~ N(μ, τ²), σ unknown.

Coordinates (μ, τ², log σ), so that τ² = 0 is an ordinary point. The likelihood is in
``marginal/normal.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.dispersion import VALUES
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
    Codes,
    Coordinate,
    Degeneracy,
    Description,
    Family,
    Hyperparameters,
    Prior,
    Regression,
    Role,
    Statistic,
    Statistics,
)
from hbpipe.model.gaussian import (
    log_normaliser_normal,
    normal_geometry,
    normal_prior,
    one_store,
    update_normal,
)
from hbpipe.model.geometry import LOCATION, NOISE, SPREAD, log_of_spread, lower_median
from hbpipe.model.marginal.means import LOG_2PI, location_moments
from hbpipe.model.marginal.normal import (
    NormalSketch,
    location_message,
    log_marginal,
    log_no_pooling,
    log_restriction,
    pearson,
)
from hbpipe.model.numerics.grouped import Rows, fold_moments, moments_of
from hbpipe.model.numerics.jets import exp

#: σ between 1e-33 and 1e33: derivatives, with σ⁻⁶ in them, are still numbers.
_LOG_SIGMA_BOUND = 75.0


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Count, mean and centred sum of squares of each store, in two passes."""
    return moments_of(np.asarray(events["value"], np.float64), codes, n_stores)


def update(statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
    """Posterior N(mu, tau²) of each store: precision weighting (BDA3, eq. 5.17)."""
    return update_normal(
        np.asarray(statistics["mean"], np.float64),
        np.asarray(statistics["n"], np.float64) / np.square(hyperparameters["sigma"]),
        hyperparameters["mu"],
        hyperparameters["tau"],
    )


def log_base_measure(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Σ log N(x; 0, σ²) of the values of a store, which is 0 for an absent one."""
    sigma = np.asarray(hyperparameters["sigma"], np.float64)
    n = np.asarray(statistics["n"], np.float64)
    squares = statistics["m2"] + n * np.square(statistics["mean"])
    return -n * (0.5 * LOG_2PI + np.log(sigma)) - 0.5 * squares / np.square(sigma)


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


def simulate(
    rng: np.random.Generator,
    hyperparameters: Hyperparameters,
    n_stores: int,
    size: int | NDArray[Any],
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
    """Draw ``size`` values per store."""
    theta = rng.normal(hyperparameters["mu"], hyperparameters["tau"], n_stores)
    codes = np.repeat(np.arange(n_stores), size)
    return {"value": rng.normal(theta[codes], hyperparameters["sigma"])}, codes, theta


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
        return np.clip(0.5 * np.log(sigma_squared), -_LOG_SIGMA_BOUND, _LOG_SIGMA_BOUND)


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
            limit=np.stack([mean, between, zero - _LOG_SIGMA_BOUND], axis=-1),
            found="the values within every store are equal, so sigma has no estimate above 0",
            # The likelihood has a pole at σ = 0, which few hyperpriors outweigh.
            remedy="hold sigma (fixed={'sigma': ...}) or widen the window",
            unless=("sigma",),
        ),
        one_store(stores == 1, np.stack([open_, zero, open_], axis=-1), has="values"),
    )


def sizes(statistics: Statistics) -> tuple[Array, Array]:
    """Values and mean of each store."""
    n = np.asarray(statistics["n"], np.float64)
    return n, np.where(n > 0, statistics["mean"], 0.0)


def integrable(sketch: NormalSketch) -> NDArray[np.bool_]:
    """Whether σ is kept from 0 and ∞: values differ within stores, or single values differ."""
    stores = sketch.n_groups
    single = sketch.n_values == stores
    between = location_moments(sketch.rows)["m2"]
    return np.asarray((sketch.within > 0) | (single & (stores > 1) & (between > 0)))


FAMILY = Family(
    name="normal",
    kernel_version=1,
    roles=(Role("value"),),
    statistics=(
        Statistic("n", "int64", "moments", lowest=0.0),
        Statistic("mean", "float64", "moments"),
        Statistic("m2", "float64", "moments", lowest=0.0, needs="n", needs_above=1.0),
    ),
    hyperparameters=("mu", "tau", "sigma"),
    coordinates=(
        Coordinate("mu", -np.inf, np.inf, "mu"),
        Coordinate("tau_squared", 0.0, np.inf, "tau", spread=True),
        Coordinate("log_sigma", -_LOG_SIGMA_BOUND, _LOG_SIGMA_BOUND, "sigma"),
    ),
    summarise=summarise,
    fold=fold_moments,
    compress=NormalSketch.of,
    merge_sketches=NormalSketch.merged,
    moments={
        "anova": anova,
        "paule_mandel": partial(_from_means, paule_mandel),
        "hedges": partial(_from_means, hedges),
        "dersimonian_laird": partial(_from_means, dersimonian_laird),
        "lesson": partial(_from_means, lesson),
    },
    scale=scale,
    degeneracies=degeneracies,
    log_marginal=log_marginal,
    from_coordinates=from_coordinates,
    to_coordinates=to_coordinates,
    update=update,
    prior=normal_prior,
    log_normaliser=log_normaliser_normal,
    log_base_measure=log_base_measure,
    describe=describe,
    predict=predict,
    simulate=simulate,
    log_restriction=log_restriction,
    log_no_pooling=log_no_pooling,
    location_message=location_message,
    sample_size="n",
    empty_exposure=False,
    dispersion=VALUES,
    regression=Regression("identity", pearson),
    geometry=normal_geometry(
        has_noise=True,
        sizes=sizes,
        median_size=lambda sketch: lower_median(sketch.rows, "size", "n"),
        coordinates=lambda w: [w[LOCATION], exp(w[SPREAD] + 2.0 * w[NOISE]), w[NOISE]],
        log_spread=lambda held, w: w[NOISE] * -2.0 + log_of_spread(held),
        given_spread=NormalSketch.given_spread,
        integrable=integrable,
    ),
)
