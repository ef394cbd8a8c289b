"""Values with a variance per store, shrunk: x_ij ~ N(θ_j, σ_j²), both unknown.

    θ_j | σ_j² ~ N(μ, σ_j²/κ),   σ_j² ~ scaled-inverse-χ²(d₀, s₀²)

Coordinates (μ, φ = 1/κ, x = 1/d₀, log s₀), so that stores of equal means (φ = 0) and of equal
variances (x = 0, the family ``normal`` with τ² = φσ²) are ordinary points. The algebra is in
``inverse_gamma/algebra.py``, the likelihood in ``marginal/normal_inverse_gamma.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.dispersion import VALUES
from hbpipe.model.distributions.laws import STUDENT_T
from hbpipe.model.estimation.moments import hedges, paule_mandel, ratio, weighted_mean
from hbpipe.model.family import (
    Array,
    Codes,
    Coordinate,
    Degeneracy,
    Description,
    Family,
    Hyperparameters,
    Prior,
    Role,
    Statistic,
    Statistics,
)
from hbpipe.model.inverse_gamma.algebra import (
    LOG_S0_BOUND,
    NAMES,
    X_BOUND,
    from_coordinates,
    log_normaliser,
    prior,
    student,
    to_coordinates,
    update,
)
from hbpipe.model.inverse_gamma.hyperpriors import SPACE
from hbpipe.model.inverse_gamma.sampling import variance_sampling
from hbpipe.model.inverse_gamma.variances import powers_at_no_variance, spread_of_variances
from hbpipe.model.marginal.means import LOG_2PI, location_moments
from hbpipe.model.marginal.normal_inverse_gamma import LOG_S0, VarianceSketch, X, log_marginal
from hbpipe.model.numerics.grouped import Rows, fold_moments, moments_of


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Count, mean and centred sum of squares of each store, in two passes."""
    return moments_of(np.asarray(events["value"], np.float64), codes, n_stores)


def raw(statistics: Statistics) -> Array:
    """Mean of a store's own values; NaN without any."""
    return np.where(np.asarray(statistics["n"]) > 0, statistics["mean"], np.nan)


def raw_sd(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Sd of that mean by the store's own variance; ∞ where its values do not vary."""
    n = np.asarray(statistics["n"], np.float64)
    known = (n > 1) & (statistics["m2"] > 0)
    variance = statistics["m2"] / np.where(known, n * (n - 1.0), 1.0)
    return np.where(known, np.sqrt(variance), np.inf)


def log_base_measure(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """−½ log 2π for each value."""
    return -0.5 * LOG_2PI * np.asarray(statistics["n"], np.float64)


def describe(posterior: Prior, quantiles: Any) -> Description:
    """Mean, sd, quantiles and cdf of the store's θ: Student's t."""
    return STUDENT_T.describe(*student(posterior), quantiles)


def predict(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict the mean of ``exposure`` further values; 1 is a single new value."""
    return STUDENT_T.describe(*student(posterior, exposure), quantiles)


def simulate(
    rng: np.random.Generator,
    hyperparameters: Hyperparameters,
    n_stores: int,
    size: int | NDArray[Any],
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
    """Draw ``size`` values per store."""
    mu, kappa, d0, s0_squared = (hyperparameters[name] for name in NAMES)
    sigma = np.sqrt(s0_squared * d0 / rng.chisquare(d0, n_stores))
    theta = rng.normal(mu, sigma / np.sqrt(kappa))
    codes = np.repeat(np.arange(n_stores), size)
    return {"value": rng.normal(theta[codes], sigma[codes])}, codes, theta


def _means(sketch: VarianceSketch) -> Rows:
    """Store means as estimates: ``n`` (stores), ``mean``, ``m2`` = 0, and the sizes."""
    rows = sketch.rows
    columns = {
        "n": rows["stores"],
        "mean": rows["mean"],
        "m2": np.zeros(len(rows)),
        "size": rows["n"].astype(np.float64),
    }
    return Rows(rows.n_pools, rows.pool, columns)


def _variances(sketch: VarianceSketch) -> tuple[Array, Array, Array]:
    """Mean square within stores (0 without any), variance of their means, and both together."""
    rows, means = sketch.rows, _means(sketch)
    within = rows.sum(rows["stores"] * rows["m2"])
    together = location_moments(means)
    _, _, squares = weighted_mean(means, means["size"])
    return (
        ratio(within, sketch.n_values - sketch.n_groups),
        ratio(together["m2"], together["n"]),
        ratio(within + squares, sketch.n_values),
    )


def _log_sd(variance: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.clip(0.5 * np.log(variance), -LOG_S0_BOUND, LOG_S0_BOUND)


def common_variance(sketch: VarianceSketch, held: Array) -> Array:
    """Analysis of variance: x = 0, s₀² the mean square within stores, (μ, φ) from the means."""
    within, _, total = _variances(sketch)
    x, log_s0 = np.zeros(sketch.n_pools), _log_sd(np.where(within > 0, within, total))
    return _from_variances(sketch, held, x, log_s0)


def separate_variances(
    estimator: Callable[[Rows, Array], tuple[Array, Array]], sketch: VarianceSketch, held: Array
) -> Array:
    """Estimate (x, s₀²) from the logarithms of the sample variances, then (μ, φ)."""
    rows = sketch.rows
    x, log_s0 = spread_of_variances(estimator, rows, held[:, X])
    varying = rows.sum(rows["m2"] * (rows["n"] >= 2)) > 0
    fallback = common_variance(sketch, held)
    x, log_s0 = np.where(varying, x, 0.0), np.where(varying, log_s0, fallback[:, LOG_S0])
    return _from_variances(sketch, held, x, log_s0)


def _from_variances(sketch: VarianceSketch, held: Array, x: Array, log_s0: Array) -> Array:
    """Moments of the store means, given the law of the variances.

    With w = n/E[σ² | M2], E[σ² | M2] = (d₀ s₀² + M2)/(d₀ + n − 3), the terms w (x̄ − μ)² of
    Q = Σ w (x̄ − μ̂)² have expectation 1 + nφ, so φ = (Q − J + 1)/(Σn − Σwn/Σw), as DerSimonian and
    Laird (1986).
    """
    x, log_s0 = (
        np.where(np.isnan(held[:, i]), estimate, held[:, i])
        for i, estimate in ((X, np.minimum(x, X_BOUND)), (LOG_S0, log_s0))
    )
    means, m2 = _means(sketch), sketch.rows["m2"]
    size, at = means["size"], x[means.pool]
    expected = (np.exp(2.0 * log_s0)[means.pool] + at * m2) / (1.0 + at * (size - 3.0))
    weight = size / expected
    total, mu, squares = weighted_mean(means, weight)
    scale = sketch.n_values - ratio(means.sum(weight * size * means["n"]), total)
    stores = sketch.n_groups
    phi = np.where(stores > 1, ratio(squares - (stores - 1.0), scale), 0.0)
    return np.stack([mu, phi, x, log_s0], axis=-1)


def scale(sketch: VarianceSketch) -> Array:
    """Sd of a value; spread of the means over that within stores; 0.2; one unit of log s₀."""
    within, between, total = _variances(sketch)
    size = np.sqrt(np.maximum(between, total))
    one = np.ones(sketch.n_pools)
    phi = 1.0 + ratio(between, within)
    return np.stack([np.where(size > 0, size, 1.0), phi, 0.2 * one, one], axis=-1)


def degeneracies(sketch: VarianceSketch) -> tuple[Degeneracy, ...]:
    """No value; no or too little variation within stores; a single store."""
    stores = sketch.n_groups
    zero, open_ = np.zeros(sketch.n_pools), np.full(sketch.n_pools, np.nan)
    return (
        Degeneracy(
            "no_data",
            stores == 0,
            limit=np.zeros((sketch.n_pools, 4)),
            identified=False,
            found="no store has a value",
            remedy="leave this pool out, or fix mu, kappa, d0 and s0_squared",
        ),
        *_without_variance(sketch),
        Degeneracy(
            "one_store",
            stores == 1,
            limit=np.stack([open_, zero, zero, open_], axis=-1),
            identified=True,
            found="a single store has values, so nothing is known of how stores differ",
            remedy="pool it with other stores, fix kappa and d0, or give proper hyperpriors for "
            "them and estimator='map'",
            unless=("mu",),
        ),
    )


def _without_variance(sketch: VarianceSketch) -> tuple[Degeneracy, ...]:
    """No store with two values; equal values in every store, or in stores that outweigh others."""
    freedom = sketch.n_values - sketch.n_groups
    _, _, total = _variances(sketch)
    mean = location_moments(_means(sketch))["mean"]
    zero, open_ = np.zeros(sketch.n_pools), np.full(sketch.n_pools, np.nan)
    no_estimate = partial(
        Degeneracy,
        limit=np.stack([mean, zero, zero, _log_sd(total)], axis=-1),
        identified=False,
    )
    return (
        no_estimate(
            "sigma_unidentified",
            (freedom == 0) & (sketch.n_groups > 0),
            found="no store has two values, so variances within and between cannot be told apart",
            remedy="hold kappa or s0_squared, widen the window, or give proper hyperpriors for "
            "them and estimator='map'",
            unless=("kappa", "s0_squared"),
        ),
        no_estimate(
            "no_variation_within",
            (freedom > 0) & (sketch.rows.sum(sketch.rows["m2"]) == 0),
            found="the values within every store are equal, so s0_squared has no estimate above 0",
            remedy="hold s0_squared or widen the window",
            unless=("s0_squared",),
        ),
        no_estimate(
            "equal_values",
            np.minimum(*powers_at_no_variance(sketch.rows)) < 0,
            limit=np.stack([open_, open_, zero, open_], axis=-1),
            found="stores whose values are all equal outweigh the others, so the likelihood grows "
            "without end as s0_squared goes to 0",
            remedy="leave these stores out, hold d0 or s0_squared, or use the family normal",
            unless=("d0", "s0_squared"),
        ),
    )


FAMILY = Family(
    name="normal_inverse_gamma",
    kernel_version=1,
    roles=(Role("value"),),
    statistics=(
        Statistic("n", "int64", "moments", lowest=0.0),
        Statistic("mean", "float64", "moments"),
        Statistic("m2", "float64", "moments", lowest=0.0, needs="n", needs_above=1.0),
    ),
    hyperparameters=NAMES,
    coordinates=(
        Coordinate("mu", -np.inf, np.inf, "mu"),
        Coordinate("relative_spread", 0.0, np.inf, "kappa", spread=True),
        Coordinate("inverse_d0", 0.0, X_BOUND, "d0"),
        Coordinate("log_s0", -LOG_S0_BOUND, LOG_S0_BOUND, "s0_squared"),
    ),
    summarise=summarise,
    fold=fold_moments,
    compress=VarianceSketch.of,
    merge_sketches=VarianceSketch.merged,
    moments={
        "smyth": partial(separate_variances, hedges),
        "paule_mandel": partial(separate_variances, paule_mandel),
        "anova": common_variance,
    },
    scale=scale,
    degeneracies=degeneracies,
    log_marginal=log_marginal,
    from_coordinates=from_coordinates,
    to_coordinates=to_coordinates,
    update=update,
    prior=prior,
    log_normaliser=log_normaliser,
    log_base_measure=log_base_measure,
    describe=describe,
    predict=predict,
    simulate=simulate,
    sample_size="n",
    empty_exposure=False,
    raw=raw,
    raw_sd=raw_sd,
    sampling=variance_sampling("normal_inverse_gamma"),
    named=SPACE,
    dispersion=VALUES,
)
