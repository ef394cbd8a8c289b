"""Values with a common within-store sd: x_ij ~ N(θ_j, σ²), θ_j ~ N(μ, τ²), σ unknown.

Coordinates (μ, τ², log σ), so that τ² = 0 is an ordinary point. From n, mean and M2 of each store
(Searle, Casella and McCulloch 1992, *Variance Components*, section 3.7), with V = σ² + n τ²,

    −½ [N log 2π + Σ (n − 1) log σ² + Σ M2/σ² + Σ log V + Σ n (x̄ − μ)²/V].

V in place of τ² + σ²/n makes a store without values an ordinary store that adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import (
    Array,
    Codes,
    Coordinate,
    Degeneracy,
    Derivatives,
    Description,
    Family,
    Hyperparameters,
    Prior,
    Role,
    Statistic,
    Statistics,
)
from hbpipe.model.gaussian import (
    LOG_2PI,
    RowVariance,
    describe_normal,
    location_moments,
    log_density_of_means,
    log_normaliser_normal,
    log_restriction_of_means,
    mean_rows,
    merge_mean_rows,
    update_normal,
)
from hbpipe.model.grouped import Rows, float_sums, fold_moments, moments_of
from hbpipe.model.moments import (
    dersimonian_laird,
    hedges,
    lesson,
    paule_mandel,
    ratio,
    weighted_mean,
)

#: σ between 1e-33 and 1e33: derivatives, with σ⁻⁶ in them, are still numbers.
_LOG_SIGMA_BOUND = 75.0


@dataclass(frozen=True)
class NormalSketch:
    """Store means by pool and distinct n, and the squares within stores; lossless.

    ``rows`` has ``size`` (the n of a store), ``n`` (stores), ``mean`` and ``m2`` of their means.
    ``within`` is Σ M2, (G,).
    """

    rows: Rows
    within: Array

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return self.rows.n_pools

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with at least one value in each pool, (G,)."""
        return self.rows.sum(self.rows["n"]).astype(np.int64)

    @property
    def n_values(self) -> Array:
        """Values of all stores in each pool, (G,)."""
        return self.rows.sum(self.rows["n"] * self.rows["size"])

    def select(self, pools: Codes) -> NormalSketch:
        """Return the sketch of some pools."""
        return NormalSketch(self.rows.select(pools), self.within[pools])


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Count, mean and centred sum of squares of each store, in two passes."""
    return moments_of(np.asarray(events["value"], np.float64), codes, n_stores)


def compress(statistics: Statistics, pools: Codes, n_pools: int) -> NormalSketch:
    """Group stores of equal n; stores without values drop out."""
    size = np.asarray(statistics["n"], np.float64)
    seen = size > 0
    pool = np.asarray(pools)[seen]
    means = np.asarray(statistics["mean"], np.float64)[seen]
    m2 = np.asarray(statistics["m2"], np.float64)[seen]
    return NormalSketch(mean_rows(pool, size[seen], means, n_pools), float_sums(m2, pool, n_pools))


def merge_sketches(sketches: Sequence[NormalSketch]) -> NormalSketch:
    """Add up sketches of disjoint stores."""
    return NormalSketch(
        merge_mean_rows([sketch.rows for sketch in sketches]),
        np.sum([sketch.within for sketch in sketches], axis=0),
    )


def _variance(sketch: NormalSketch, coordinates: Array) -> RowVariance:
    """V = σ² + n τ² and its derivatives in (τ², log σ)."""
    rows = sketch.rows
    sigma_squared = np.exp(2.0 * coordinates[rows.pool, 2])
    total = sigma_squared + rows["size"] * coordinates[rows.pool, 1]
    return RowVariance(
        total, {1: rows["size"], 2: 2.0 * sigma_squared}, {(2, 2): 4.0 * sigma_squared}
    )


def log_marginal(sketch: NormalSketch, coordinates: Array) -> Derivatives:
    """Log density of all values, −½ log 2π per value included."""
    variance = _variance(sketch, coordinates)
    rows = sketch.rows
    value, gradient, hessian = log_density_of_means(rows, rows["size"], coordinates[:, 0], variance)
    log_sigma = coordinates[:, 2]
    freedom = sketch.n_values - sketch.n_groups
    scaled = sketch.within * np.exp(-2.0 * log_sigma)
    value += -freedom * log_sigma - 0.5 * scaled - 0.5 * LOG_2PI * sketch.n_values
    gradient[:, 2] += scaled - freedom
    hessian[:, 2, 2] -= 2.0 * scaled
    return value, gradient, hessian


def log_restriction(sketch: NormalSketch, coordinates: Array) -> Derivatives:
    """Turn the likelihood into the restricted one."""
    variance = _variance(sketch, coordinates)
    return log_restriction_of_means(sketch.rows, sketch.rows["size"], variance)


def _sigma_squared(sketch: NormalSketch, held: Array) -> Array:
    """Give the held σ², or the mean square within stores, or of all values where that is 0."""
    free = np.isnan(held[:, 2])
    within = ratio(sketch.within, sketch.n_values - sketch.n_groups)
    within = np.where(within > 0, within, _total_variance(sketch)[2])
    return np.where(free, within, np.exp(2.0 * np.where(free, 0.0, held[:, 2])))


def _log_sigma(sigma_squared: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.clip(0.5 * np.log(sigma_squared), -_LOG_SIGMA_BOUND, _LOG_SIGMA_BOUND)


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
    least = np.full(sketch.n_pools, -_LOG_SIGMA_BOUND)
    remedy = (
        "hold sigma (fixed={'sigma': ...}), give a proper hyperprior for it, or widen the window"
    )
    return (
        Degeneracy(
            "no_data",
            stores == 0,
            np.stack([zero, zero, zero], axis=-1),
            identified=False,
            found="no store has a value",
            remedy="leave this pool out, or fix mu, tau and sigma",
        ),
        Degeneracy(
            "sigma_unidentified",
            (freedom == 0) & (stores > 0),
            np.stack([mean, zero, _log_sigma(total)], axis=-1),
            identified=False,
            found="no store has two values, so sigma and tau cannot be told apart",
            remedy=remedy,
            unless=("tau", "sigma"),
        ),
        Degeneracy(
            "no_variation_within",
            (freedom > 0) & (sketch.within == 0),
            np.stack([mean, between, least], axis=-1),
            identified=False,
            found="the values within every store are equal, so sigma has no estimate above 0",
            remedy=remedy,
            unless=("sigma",),
        ),
        Degeneracy(
            "one_store",
            stores == 1,
            np.stack([open_, zero, open_], axis=-1),
            identified=True,
            found="a single store has values, so the spread between stores is unknown",
            remedy="pool it with other stores, fix tau, or give a proper hyperprior for tau",
            unless=("mu",),
        ),
    )


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


def prior(hyperparameters: Hyperparameters) -> Prior:
    """N(mu, tau²); a posterior has the same two names."""
    return {
        "mu": np.asarray(hyperparameters["mu"], np.float64),
        "tau": np.asarray(hyperparameters["tau"], np.float64),
    }


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
    return describe_normal(posterior["mu"], posterior["tau"], quantiles)


def predict(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict the mean of ``exposure`` further values; 1 is a single new value."""
    noise = np.square(hyperparameters["sigma"]) / np.asarray(exposure, np.float64)
    sd = np.sqrt(np.square(posterior["tau"]) + noise)
    return describe_normal(posterior["mu"], sd, quantiles)


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


FAMILY = Family(
    name="normal",
    kernel_version=1,
    roles=(Role("value"),),
    statistics=(
        Statistic("n", "int64", "moments", lowest=0.0),
        Statistic("mean", "float64", "moments"),
        Statistic("m2", "float64", "moments", lowest=0.0),
    ),
    hyperparameters=("mu", "tau", "sigma"),
    coordinates=(
        Coordinate("mu", -np.inf, np.inf, "mu"),
        Coordinate("tau_squared", 0.0, np.inf, "tau", spread=True),
        Coordinate("log_sigma", -_LOG_SIGMA_BOUND, _LOG_SIGMA_BOUND, "sigma"),
    ),
    summarise=summarise,
    fold=fold_moments,
    compress=compress,
    merge_sketches=merge_sketches,
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
    prior=prior,
    log_normaliser=log_normaliser_normal,
    log_base_measure=log_base_measure,
    describe=describe,
    predict=predict,
    simulate=simulate,
    log_restriction=log_restriction,
    sample_size="n",
)
