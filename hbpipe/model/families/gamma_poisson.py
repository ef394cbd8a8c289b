"""Counts in an exposure: y_j ~ Poisson(θ_j E_j), θ_j ~ Gamma(shape, rate).

Coordinates (log of the mean rate m = shape/rate, κ = 1/shape). κ is the squared coefficient of
variation of θ, and κ = 0, the Poisson limit, is an ordinary point. The likelihood is in
``marginal/gamma_poisson.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.errors import FitError
from hbpipe.model.densities import Term
from hbpipe.model.dispersion import COUNTS
from hbpipe.model.distributions.discrete import describe_negative_binomial
from hbpipe.model.distributions.laws import GAMMA
from hbpipe.model.estimation import rates
from hbpipe.model.estimation.moments import ratio
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
from hbpipe.model.geometry import (
    LOCATION,
    SPREAD,
    Geometry,
    Named,
    Point,
    inside,
    log_of_spread,
    lower_median,
    minus_log_spread,
)
from hbpipe.model.marginal.gamma_poisson import (
    PoissonSketch,
    log_marginal,
    log_no_pooling,
    log_probability,
    pearson,
)
from hbpipe.model.numerics.grouped import float_sums, fold_sums, integer_sums
from hbpipe.model.numerics.jets import exp, log

#: A log rate of ±230 is a rate of 1e∓100: the bound only serves data without a count.
_LOG_BOUND = 230.0
_KAPPA_BOUND = 1e8
#: Shape reported in place of infinity where κ = 0.
MAX_SHAPE = 1e15


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
    return GAMMA.describe(posterior["shape"], posterior["rate"], quantiles)


def predict(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict the count in a further ``exposure``: negative binomial."""
    return describe_negative_binomial(posterior["shape"], posterior["rate"], exposure, quantiles)


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


def _located(mean: Array, kappa: Array) -> Array:
    """(m, κ) → coordinates; a mean of 0 goes to the bound."""
    with np.errstate(divide="ignore"):
        log_mean = np.log(mean)
    return np.stack([np.clip(log_mean, -_LOG_BOUND, _LOG_BOUND), kappa], axis=-1)


def _moments(
    estimator: Callable[[rates.RateSums], tuple[Array, Array]], sketch: PoissonSketch, held: Array
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
    stores, zero = sketch.n_groups, np.zeros(sketch.n_pools)
    at_the_edge = partial(
        Degeneracy,
        limit=_located(sketch.rates.pooled, zero),
        identified=True,
        remedy="pool these stores with others, or give proper hyperpriors for mean and shape "
        "and estimator='map'",
        unless=("mean",),
    )
    return (
        Degeneracy(
            "no_data",
            stores == 0,
            limit=np.stack([zero, zero], axis=-1),
            identified=False,
            found="no store has an exposure",
            remedy="leave this pool out, or fix mean and shape",
        ),
        at_the_edge(
            status="no_counts",
            pools=sketch.counts.total() == 0,
            found="every count is 0, so the mean rate is estimated as 0",
        ),
        at_the_edge(
            status="one_store",
            pools=stores == 1,
            found="a single store has an exposure, so the spread between stores is unknown",
        ),
    )


def sizes(statistics: Statistics) -> tuple[Array, Array]:
    """Exposure and raw rate of each store."""
    exposure = np.asarray(statistics["exposure"], np.float64)
    return exposure, ratio(np.asarray(statistics["count"], np.float64), exposure)


def _named(working: Point) -> Named:
    line, spread = working
    return {"mean": exp(line), "rate": exp(-spread), "shape": exp(line - spread)}


def _named_at(coordinates: Point) -> Named:
    line, kappa = coordinates[0], inside(coordinates[1])
    return _named([line, log(kappa) + line])


GEOMETRY = Geometry(
    law=GAMMA,
    variance=(0.0, 1.0, 0.0),
    has_noise=False,
    mean=np.exp,
    sizes=sizes,
    median_size=lambda sketch: lower_median(sketch.exposures, "exposure", "stores"),
    coordinates=lambda w: [w[LOCATION], exp(w[SPREAD] - w[LOCATION])],
    log_spread=lambda held, w: w[LOCATION] + log_of_spread(held),
    given_spread=PoissonSketch.given_spread,
    named=_named,
    named_at=_named_at,
    log_jacobian={
        "mean": lambda w: w[LOCATION],
        "rate": minus_log_spread,
        "shape": lambda w: w[LOCATION] - w[SPREAD],
    },
    parametrisations=(("mean", "rate"), ("mean", "shape"), ("shape", "rate")),
    defaults={
        "mean": lambda c: (Term("mean", "power", (-0.5,)),),
        "rate": lambda c: (Term("rate", "uniform_shrinkage", (1.0 / c,)),),
    },
    joint={
        "shape^-1.5 rate^-1": (
            ("shape", "rate"),
            (Term("shape", "power", (-1.5,)), Term("rate", "power", (-1.0,))),
        )
    },
)


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
    compress=PoissonSketch.of,
    merge_sketches=PoissonSketch.merged,
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
    dispersion=COUNTS,
    log_no_pooling=log_no_pooling,
    regression=Regression("log", pearson, log_probability),
    geometry=GEOMETRY,
)
