"""Normal estimates with known sampling variances: est_j ~ N(θ_j, v_j), θ_j ~ N(μ, τ²).

The model of eight schools and of meta-analysis. Coordinates (μ, τ²), so that τ² = 0 is an
ordinary point. A store without an estimate has variance ∞.

Log marginal (Rubin 1981; Gelman et al., BDA3, eq. 5.17): Σ log N(est_j; μ, v_j + τ²).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.dispersion import ESTIMATES
from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.estimation.moments import dersimonian_laird, hedges, lesson, paule_mandel
from hbpipe.model.family import (
    Array,
    Codes,
    Coordinate,
    Degeneracy,
    Derivatives,
    Description,
    Family,
    Hyperparameters,
    Pearson,
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
from hbpipe.model.geometry import LOCATION, SPREAD, log_of_spread, lower_median
from hbpipe.model.marginal.given_spread import NormalGivenSpread
from hbpipe.model.marginal.means import (
    LOG_2PI,
    RowVariance,
    location_moments,
    log_density_of_means,
    log_restriction_of_means,
    mean_rows,
    merge_mean_rows,
    message_of_means,
    pearson_of_means,
    regroup_mean_rows,
)
from hbpipe.model.marginal.row_sketch import RowSketch
from hbpipe.model.nested.messages import Message
from hbpipe.model.numerics.grouped import Rows, fold_precision
from hbpipe.model.numerics.jets import exp


@dataclass(frozen=True)
class EstimateSketch(RowSketch):
    """Estimates by pool and distinct sampling variance; lossless."""

    def select(self, pools: Codes) -> EstimateSketch:
        """Return the sketch of some pools."""
        return EstimateSketch(self.rows.select(pools))

    def given_spread(self, log_spread: Array) -> NormalGivenSpread:
        """Return the likelihood at given A = τ²: V = v + A."""
        rows, none = self.rows, np.zeros(self.n_pools)
        variance = rows["size"] + np.exp(log_spread)[rows.pool]
        stores = self.n_groups.astype(np.float64)
        return NormalGivenSpread.of(rows, 1.0, variance, none, stores)

    def regroup(self, parents: Codes, n_parents: int) -> EstimateSketch:
        """Return the sketch of larger pools: pool ``g`` is a part of ``parents[g]``."""
        return EstimateSketch(regroup_mean_rows(self.rows, parents, n_parents))


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Merge the estimates of each store by precision."""
    return fold_precision(events, codes, n_stores)


def compress(statistics: Statistics, pools: Codes, n_pools: int) -> EstimateSketch:
    """Group stores of equal variance; stores without an estimate drop out."""
    variance = np.asarray(statistics["variance"], np.float64)
    known = np.isfinite(variance)
    estimate = np.asarray(statistics["estimate"], np.float64)[known]
    return EstimateSketch(mean_rows(np.asarray(pools)[known], variance[known], estimate, n_pools))


def merge_sketches(sketches: Sequence[EstimateSketch]) -> EstimateSketch:
    """Add up sketches of disjoint stores."""
    return EstimateSketch(merge_mean_rows([sketch.rows for sketch in sketches]))


def _variance(sketch: EstimateSketch, coordinates: Array) -> RowVariance:
    rows = sketch.rows
    total = rows["size"] + coordinates[rows.pool, 1]
    return RowVariance(total, {1: np.ones(len(total))}, {})


def log_marginal(sketch: EstimateSketch, coordinates: Array) -> Derivatives:
    """Log density of the estimates, −½ log 2π per store included."""
    variance = _variance(sketch, coordinates)
    value, gradient, hessian = log_density_of_means(sketch.rows, 1.0, coordinates[:, 0], variance)
    return value - 0.5 * LOG_2PI * sketch.n_groups, gradient, hessian


def location_message(sketch: EstimateSketch, coordinates: Array, *, derivatives: bool) -> Message:
    """Return the likelihood of each pool as a function of its mean; 2π included."""
    variance = _variance(sketch, coordinates)
    variance = variance if derivatives else variance.values()
    message = message_of_means(sketch.rows, 1.0, variance, 2 if derivatives else 0)
    stores = sketch.n_groups.astype(np.float64)
    return replace(message, peak=message.peak - 0.5 * LOG_2PI * stores)


def log_restriction(sketch: EstimateSketch, coordinates: Array) -> Derivatives:
    """Turn the likelihood into the restricted one."""
    return log_restriction_of_means(sketch.rows, 1.0, _variance(sketch, coordinates))


def log_no_pooling(sketch: EstimateSketch, held: Array) -> Array:
    """Log density of the estimates where every store has its own θ, its estimate, (G,)."""
    rows = sketch.rows
    return -0.5 * rows.sum(rows["n"] * (LOG_2PI + np.log(rows["size"])))


def pearson(sketch: EstimateSketch, coordinates: Array) -> Pearson:
    """Squares of the estimates about μ in units of v + τ²."""
    return pearson_of_means(sketch.rows, 1.0, coordinates[:, 0], _variance(sketch, coordinates))


def update(statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
    """Posterior N(mu, tau²) of each store: precision weighting (BDA3, eq. 5.17)."""
    variance = np.asarray(statistics["variance"], np.float64)
    return update_normal(
        np.asarray(statistics["estimate"], np.float64),
        1.0 / variance,
        hyperparameters["mu"],
        hyperparameters["tau"],
    )


def log_base_measure(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Log density at θ = 0, log N(est; 0, v), which is 0 for an absent store."""
    variance = np.asarray(statistics["variance"], np.float64)
    known = np.isfinite(variance)
    finite = np.where(known, variance, 1.0)
    density = -0.5 * (LOG_2PI + np.log(finite) + statistics["estimate"] ** 2 / finite)
    return np.where(known, density, 0.0)


def describe(posterior: Prior, quantiles: Any) -> Description:
    """Mean, sd, quantiles and cdf of the store's θ."""
    return NORMAL.describe(posterior["mu"], posterior["tau"], quantiles)


def predict(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict a new estimate of the store; ``exposure`` is its sampling variance."""
    sd = np.sqrt(np.square(posterior["tau"]) + np.asarray(exposure, np.float64))
    return NORMAL.describe(posterior["mu"], sd, quantiles)


def simulate(
    rng: np.random.Generator,
    hyperparameters: Hyperparameters,
    n_stores: int,
    size: int | NDArray[Any],
    variance: float = 1.0,
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
    """Draw ``size`` independent estimates per store, each with the given sampling variance."""
    theta = rng.normal(hyperparameters["mu"], hyperparameters["tau"], n_stores)
    codes = np.repeat(np.arange(n_stores), size)
    estimate = rng.normal(theta[codes], np.sqrt(variance))
    return {"estimate": estimate, "variance": np.full(len(codes), variance)}, codes, theta


def from_coordinates(coordinates: Array) -> dict[str, Array]:
    """(μ, τ²) → mu, tau."""
    return {"mu": coordinates[..., 0], "tau": np.sqrt(coordinates[..., 1])}


def to_coordinates(hyperparameters: Hyperparameters) -> Array:
    """Mu, tau → (μ, τ²), NaN for the one that is missing."""
    mu = np.asarray(hyperparameters.get("mu", np.nan), np.float64)
    tau = np.asarray(hyperparameters.get("tau", np.nan), np.float64)
    return np.stack(np.broadcast_arrays(mu, np.square(tau)), axis=-1)


def _moments(
    estimator: Callable[[Rows, Array], tuple[Array, Array]], sketch: EstimateSketch, held: Array
) -> Array:
    """Put an estimator of (μ, τ²) into coordinates; held values do not change its weights."""
    return np.stack(estimator(sketch.rows, sketch.rows["size"]), axis=-1)


def scale(sketch: EstimateSketch) -> Array:
    """Sd and variance of a typical estimate, both sources of spread together."""
    rows = sketch.rows
    together = location_moments(rows)
    stores = np.maximum(together["n"], 1)
    size = (together["m2"] + rows.sum(rows["n"] * rows["size"])) / stores
    size = np.where(size > 0, size, 1.0)
    return np.stack([np.sqrt(size), size], axis=-1)


def degeneracies(sketch: EstimateSketch) -> tuple[Degeneracy, ...]:
    """No store at all; a single store, which cannot differ from others."""
    stores, zero = sketch.n_groups, np.zeros(sketch.n_pools)
    mean = location_moments(sketch.rows)["mean"]
    return (
        Degeneracy(
            "no_data",
            stores == 0,
            limit=np.stack([zero, zero], axis=-1),
            identified=False,
            found="no store has an estimate",
            remedy="leave this pool out, or fix mu and tau",
        ),
        one_store(stores == 1, np.stack([mean, zero], axis=-1), has="an estimate"),
    )


def sizes(statistics: Statistics) -> tuple[Array, Array]:
    """Precision and estimate of each store."""
    precision = 1.0 / np.asarray(statistics["variance"], np.float64)
    return precision, np.where(precision > 0, statistics["estimate"], 0.0)


FAMILY = Family(
    name="normal_known_variance",
    kernel_version=1,
    roles=(Role("estimate"), Role("variance", lowest=0.0, exclusive=True)),
    statistics=(
        Statistic("estimate", "float64", "precision"),
        Statistic(
            "variance", "float64", "precision", lowest=0.0, exclusive=True, absent=float("inf")
        ),
    ),
    hyperparameters=("mu", "tau"),
    coordinates=(
        Coordinate("mu", -np.inf, np.inf, "mu"),
        Coordinate("tau_squared", 0.0, np.inf, "tau", spread=True),
    ),
    summarise=summarise,
    fold=fold_precision,
    compress=compress,
    merge_sketches=merge_sketches,
    moments={
        "paule_mandel": partial(_moments, paule_mandel),
        "hedges": partial(_moments, hedges),
        "dersimonian_laird": partial(_moments, dersimonian_laird),
        "lesson": partial(_moments, lesson),
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
    dispersion=ESTIMATES,
    log_no_pooling=log_no_pooling,
    location_message=location_message,
    regression=Regression("identity", pearson),
    geometry=normal_geometry(
        has_noise=False,
        sizes=sizes,
        median_size=lambda sketch: 1.0 / lower_median(sketch.rows, "size", "n"),
        coordinates=lambda w: [w[LOCATION], exp(w[SPREAD])],
        log_spread=lambda held, w: w[LOCATION] * 0.0 + log_of_spread(held),
        given_spread=EstimateSketch.given_spread,
    ),
)
