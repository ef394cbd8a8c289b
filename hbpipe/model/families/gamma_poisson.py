"""Counts in an exposure: y_j ~ Poisson(θ_j E_j), θ_j ~ Gamma(shape, rate).

Coordinates (log of the mean rate m = shape/rate, κ = 1/shape). κ is the squared coefficient of
variation of θ, and κ = 0, the Poisson limit, is an ordinary point. With z = m E, the log marginal
of a store (negative binomial; Lawless 1987, *Canadian Journal of Statistics* 15) is

    R(1, κ; y) + y log z − (y + 1/κ) log(1 + κ z) − log y!,   R(1, κ; y) = Σ_{k<y} log(1 + kκ).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.errors import FitError
from hbpipe.model import rates
from hbpipe.model.discrete import count_quantiles, negative_binomial_cdf
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
from hbpipe.model.grouped import Rows, float_sums, fold_sums, group, integer_sums, stack
from hbpipe.model.rates import RateSums, merge_rate_sums, rate_sums
from hbpipe.model.rising import RisingCounts, log1p_ratio

#: A log rate of ±230 is a rate of 1e∓100: the bound only serves data without a count.
_LOG_BOUND = 230.0
_KAPPA_BOUND = 1e8
#: Shape reported in place of infinity where κ = 0.
MAX_SHAPE = 1e15


@dataclass(frozen=True)
class PoissonSketch:
    """Distinct counts, distinct exposures with stores and counts, sums for the moments; lossless.

    ``exposures`` has the columns ``exposure``, ``stores`` and ``count``. ``log_factorial`` is
    Σ log y!, (G,).
    """

    counts: RisingCounts
    exposures: Rows
    rates: RateSums
    log_factorial: Array

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return len(self.log_factorial)

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with an exposure in each pool, (G,)."""
        return self.rates.stores.astype(np.int64)

    def select(self, pools: Codes) -> PoissonSketch:
        """Return the sketch of some pools."""
        return PoissonSketch(
            self.counts.select(pools),
            self.exposures.select(pools),
            self.rates.select(pools),
            self.log_factorial[pools],
        )


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Add up counts and exposures of each store.

    Events need not carry an exposure: where it is the number of days in the window, it is 0 here
    and filled in when the window is folded.
    """
    exposure = np.zeros(n_stores)
    if "exposure" in events:
        exposure = float_sums(events["exposure"], codes, n_stores)
    return {"count": integer_sums(events["count"], codes, n_stores), "exposure": exposure}


def compress(statistics: Statistics, pools: Codes, n_pools: int) -> PoissonSketch:
    """Count distinct values; stores without exposure drop out."""
    exposure = np.asarray(statistics["exposure"], np.float64)
    seen = exposure > 0
    pool, exposure = np.asarray(pools)[seen], exposure[seen]
    count = np.asarray(statistics["count"])[seen]
    rows, inverse = group(pool, exposure, n_pools)
    columns = {
        "exposure": rows["key"],
        "stores": np.bincount(inverse, minlength=len(rows.pool)).astype(np.float64),
        "count": np.bincount(inverse, count, len(rows.pool)),
    }
    return PoissonSketch(
        RisingCounts.of(pool, count, n_pools),
        Rows(n_pools, rows.pool, columns),
        rate_sums(pool, count.astype(np.float64), exposure, n_pools),
        float_sums(special.gammaln(count + 1.0), pool, n_pools),
    )


def merge_sketches(sketches: Sequence[PoissonSketch]) -> PoissonSketch:
    """Add up sketches of disjoint stores."""
    pool, columns = stack([sketch.exposures for sketch in sketches])
    rows, inverse = group(pool, columns.pop("exposure"), sketches[0].n_pools)
    sums = {name: float_sums(part, inverse, len(rows.pool)) for name, part in columns.items()}
    return PoissonSketch(
        RisingCounts.merged([sketch.counts for sketch in sketches]),
        Rows(rows.n_pools, rows.pool, {"exposure": rows["key"], **sums}),
        merge_rate_sums([sketch.rates for sketch in sketches]),
        np.sum([sketch.log_factorial for sketch in sketches], axis=0),
    )


def log_marginal(sketch: PoissonSketch, coordinates: Array) -> Derivatives:
    """Log probability of the counts, Σ (y log E − log y!) included."""
    log_mean, kappa = coordinates[:, 0], coordinates[:, 1]
    rising = sketch.counts(np.ones(sketch.n_pools), kappa)
    rows = sketch.exposures
    log_z = log_mean[rows.pool] + np.log(rows["exposure"])
    z = np.exp(log_z)
    u = kappa[rows.pool] * z
    y, stores = rows["count"], rows["stores"]
    # log(1 + κz)/κ = z ℓ(κz) has a limit at κ = 0.
    ell, ell_u, ell_uu = log1p_ratio(u)
    share = 1.0 / (1.0 + u)
    residual = (y - stores * z) * share

    value = rising.value - sketch.log_factorial
    value += rows.sum(y * (log_z - u * ell) - stores * z * ell)
    gradient = np.stack(
        [rows.sum(residual), rising.d_phi - rows.sum(z * (y * share + stores * z * ell_u))], axis=-1
    )
    mixed = -rows.sum(residual * z * share)
    hessian = np.stack(
        [
            -rows.sum((stores * z + residual * u) * share),
            mixed,
            mixed,
            rising.d_phi_phi + rows.sum(z**2 * (y * share**2 - stores * z * ell_uu)),
        ],
        axis=-1,
    )
    return value, gradient, hessian.reshape(-1, 2, 2)


def _located(mean: Array, kappa: Array) -> Array:
    """(m, κ) → coordinates; a mean of 0 goes to the bound."""
    with np.errstate(divide="ignore"):
        log_mean = np.log(mean)
    return np.stack([np.clip(log_mean, -_LOG_BOUND, _LOG_BOUND), kappa], axis=-1)


def _moments(
    estimator: Callable[[RateSums], tuple[Array, Array]], sketch: PoissonSketch, held: Array
) -> Array:
    """Put an estimator of (m, κ) into coordinates."""
    return _located(*estimator(sketch.rates))


def scale(sketch: PoissonSketch) -> Array:
    """One unit of log rate; the largest moment estimate of κ, or 1."""
    raw, weighted = (
        estimate(sketch.rates)[1] for estimate in (rates.raw_intensities, rates.exposure_weighted)
    )
    return np.stack([np.ones(sketch.n_pools), np.maximum(1.0, np.maximum(raw, weighted))], axis=-1)


def degeneracies(sketch: PoissonSketch) -> tuple[Degeneracy, ...]:
    """No exposure; no count; a single store."""
    stores, counts = sketch.n_groups, sketch.counts.total()
    pooled = _located(sketch.rates.pooled, np.zeros(sketch.n_pools))
    remedy = "pool these stores with others, or give proper hyperpriors for mean and shape"
    return (
        Degeneracy(
            "no_data",
            stores == 0,
            np.zeros_like(pooled),
            identified=False,
            found="no store has an exposure",
            remedy="leave this pool out, or fix mean and shape",
        ),
        Degeneracy(
            "no_counts",
            counts == 0,
            pooled,
            identified=True,
            found="every count is 0, so the mean rate is estimated as 0",
            remedy=remedy,
            unless=("mean",),
        ),
        Degeneracy(
            "one_store",
            stores == 1,
            pooled,
            identified=True,
            found="a single store has an exposure, so the spread between stores is unknown",
            remedy=remedy,
            unless=("mean",),
        ),
    )


def from_coordinates(coordinates: Array) -> dict[str, Array]:
    """(log m, κ) → shape, rate, mean; finite where κ = 0."""
    log_mean, kappa = coordinates[..., 0], coordinates[..., 1]
    shape = 1.0 / np.maximum(kappa, 1.0 / MAX_SHAPE)
    mean = np.exp(log_mean)
    return {"shape": shape, "rate": shape / mean, "mean": mean}


def to_coordinates(hyperparameters: Hyperparameters) -> Array:
    """Shape and rate together, or mean and shape or one of them → (log m, κ)."""
    given = {name: np.asarray(value, np.float64) for name, value in hyperparameters.items()}
    shape = given.get("shape", np.asarray(np.nan))
    if "shape" in given and "rate" in given:
        log_mean = np.log(shape) - np.log(given["rate"])
    elif "rate" in given:
        raise FitError(
            "rate alone cannot be held: it fixes neither the mean nor the shape",
            expected="shape and rate, or mean, or shape",
            remedy="name the shape too, or hold mean or shape instead",
        )
    else:
        log_mean = np.log(given.get("mean", np.asarray(np.nan)))
    return np.stack(np.broadcast_arrays(log_mean, 1.0 / shape), axis=-1)


def prior(hyperparameters: Hyperparameters) -> Prior:
    """Gamma(shape, rate), from these or from mean and shape."""
    shape = np.asarray(hyperparameters["shape"], np.float64)
    rate = hyperparameters["rate"] if "rate" in hyperparameters else shape / hyperparameters["mean"]
    return {"shape": shape, "rate": np.asarray(rate, np.float64)}


def update(statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
    """Posterior Gamma(shape + y, rate + E) of each store."""
    before = prior(hyperparameters)
    return {
        "shape": before["shape"] + np.asarray(statistics["count"]),
        "rate": before["rate"] + np.asarray(statistics["exposure"], np.float64),
    }


def log_normaliser(prior: Prior) -> Array:
    """Log normaliser: log Γ(shape) − shape log rate."""
    return np.asarray(special.gammaln(prior["shape"]) - prior["shape"] * np.log(prior["rate"]))


def log_base_measure(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Log base measure: y log E − log y!, which is 0 for an absent store."""
    count = np.asarray(statistics["count"], np.float64)
    log_power = special.xlogy(count, statistics["exposure"])
    return np.asarray(log_power - special.gammaln(count + 1.0))


def describe(posterior: Prior, quantiles: Any) -> Description:
    """Mean, sd, quantiles and cdf of the store's rate θ."""
    shape, rate = np.broadcast_arrays(posterior["shape"], posterior["rate"])
    levels = np.atleast_1d(np.asarray(quantiles, np.float64))

    def cdf(points: Any) -> Array:
        return np.asarray(special.gammainc(shape, np.maximum(points, 0.0) * rate))

    return Description(
        mean=shape / rate,
        sd=np.sqrt(shape) / rate,
        quantiles=special.gammaincinv(shape[..., None], levels) / rate[..., None],
        cdf=cdf,
    )


def predict(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict the count in a further ``exposure``: negative binomial."""
    shape, rate, future = np.broadcast_arrays(
        posterior["shape"], posterior["rate"], np.asarray(exposure, np.float64)
    )
    mean = shape * (future / rate)
    sd = np.sqrt(mean * (1.0 + future / rate))
    probability = rate / (rate + future)

    def cdf(points: Any) -> Array:
        return negative_binomial_cdf(points, shape, probability)

    levels = np.atleast_1d(np.asarray(quantiles, np.float64))
    return Description(mean, sd, count_quantiles(levels, cdf, mean, sd), cdf)


def simulate(
    rng: np.random.Generator,
    hyperparameters: Hyperparameters,
    n_stores: int,
    size: int | NDArray[Any],
    exposure: float = 1.0,
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
    """Draw ``size`` events per store: the count in one spell of the given exposure each."""
    before = prior(hyperparameters)
    theta = rng.gamma(before["shape"], 1.0 / before["rate"], n_stores)
    codes = np.repeat(np.arange(n_stores), size)
    events = {"count": rng.poisson(theta[codes] * exposure)}
    return {**events, "exposure": np.full(len(codes), float(exposure))}, codes, theta


FAMILY = Family(
    name="gamma_poisson",
    kernel_version=1,
    roles=(Role("count", whole=True, lowest=0.0), Role("exposure", lowest=0.0)),
    statistics=(
        Statistic("count", "int64", "sum", lowest=0.0, needs="exposure"),
        Statistic("exposure", "float64", "sum", lowest=0.0),
    ),
    hyperparameters=("shape", "rate", "mean"),
    coordinates=(
        Coordinate("log_mean", -_LOG_BOUND, _LOG_BOUND, "mean"),
        Coordinate("kappa", 0.0, _KAPPA_BOUND, "shape", spread=True),
    ),
    summarise=summarise,
    fold=fold_sums,
    compress=compress,
    merge_sketches=merge_sketches,
    moments={
        "exposure_weighted": partial(_moments, rates.exposure_weighted),
        "raw_rates": partial(_moments, rates.raw_intensities),
        "noise_corrected": partial(_moments, rates.corrected_intensities),
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
)
