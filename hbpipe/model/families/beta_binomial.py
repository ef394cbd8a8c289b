"""Successes out of trials: y_j ~ Binomial(n_j, θ_j), θ_j ~ Beta(α, β).

Coordinates (logit of the mean μ = α/(α + β), φ = 1/(1 + α + β)). φ is the correlation of two
trials of one store, and φ = 0, the binomial limit, is an ordinary point. The likelihood is in
``marginal/beta_binomial.py``.
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
from hbpipe.model.dispersion import TRIALS
from hbpipe.model.distributions.discrete import describe_beta_binomial
from hbpipe.model.distributions.laws import BETA
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
from hbpipe.model.marginal.beta_binomial import (
    BinomialSketch,
    log_choose,
    log_marginal,
    log_no_pooling,
    log_probability,
    pearson,
)
from hbpipe.model.numerics.grouped import fold_sums, integer_sums
from hbpipe.model.numerics.jets import Jet, exp, log, log1p_exp

#: A logit of 30 is a mean of 1e-13: the bound only serves data without a success, or a failure.
_LOGIT_BOUND = 30.0
_PHI_BOUND = 1.0 - 1e-6
#: α + β reported in place of infinity where φ = 0.
MAX_CONCENTRATION = 1e15
#: The largest log spread at which φ = A/(1 + A) is a number below 1.
_LARGEST_SPREAD = 33.0


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Add up successes and trials of each store, exactly."""
    return {name: integer_sums(events[name], codes, n_stores) for name in ("successes", "trials")}


def prior(hyperparameters: Hyperparameters) -> Prior:
    """Beta(alpha, beta), from these or from mean and concentration."""
    given = hyperparameters
    if "alpha" in given:
        alpha, beta = given["alpha"], given["beta"]
    else:
        alpha = np.multiply(given["mean"], given["concentration"])
        beta = np.multiply(np.subtract(1.0, given["mean"]), given["concentration"])
    return {"alpha": np.asarray(alpha, np.float64), "beta": np.asarray(beta, np.float64)}


def update(statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
    """Posterior Beta(alpha + y, beta + n − y) of each store."""
    before = prior(hyperparameters)
    y, n = np.asarray(statistics["successes"]), np.asarray(statistics["trials"])
    return {"alpha": before["alpha"] + y, "beta": before["beta"] + (n - y)}


def log_normaliser(prior: Prior) -> Array:
    """Log of the Beta function: log B(alpha, beta)."""
    return np.asarray(special.betaln(prior["alpha"], prior["beta"]))


def log_base_measure(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Log binomial coefficient, log C(n, y)."""
    return log_choose(np.asarray(statistics["trials"]), np.asarray(statistics["successes"]))


def describe(posterior: Prior, quantiles: Any) -> Description:
    """Mean, sd, quantiles and cdf of the store's θ."""
    return BETA.describe(posterior["alpha"], posterior["beta"], quantiles)


def predict(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict the successes of ``exposure`` further trials: Beta-Binomial."""
    return describe_beta_binomial(exposure, posterior["alpha"], posterior["beta"], quantiles)


def simulate(
    rng: np.random.Generator,
    hyperparameters: Hyperparameters,
    n_stores: int,
    size: int | NDArray[Any],
    trials: int = 1,
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
    """Draw ``size`` events per store, each with the given number of trials."""
    before = prior(hyperparameters)
    theta = rng.beta(before["alpha"], before["beta"], n_stores)
    codes = np.repeat(np.arange(n_stores), size)
    successes = rng.binomial(trials, theta[codes])
    return {"successes": successes, "trials": np.full(len(codes), trials)}, codes, theta


def from_coordinates(coordinates: Array) -> dict[str, Array]:
    """(logit μ, φ) → alpha, beta, mean, concentration; finite where φ = 0."""
    logit, phi = coordinates[..., 0], coordinates[..., 1]
    floor = 1.0 / (1.0 + MAX_CONCENTRATION)
    concentration = np.minimum((1.0 - phi) / np.maximum(phi, floor), MAX_CONCENTRATION)
    mean = special.expit(logit)
    return {
        "alpha": mean * concentration,
        "beta": special.expit(-logit) * concentration,
        "mean": mean,
        "concentration": concentration,
    }


def to_coordinates(hyperparameters: Hyperparameters) -> Array:
    """Alpha and beta together, or mean and concentration or one of them → (logit μ, φ)."""
    given = hyperparameters
    if "alpha" in given and "beta" in given:
        alpha, beta = (np.asarray(given[name], np.float64) for name in ("alpha", "beta"))
        logit, phi = np.log(alpha) - np.log(beta), 1.0 / (1.0 + alpha + beta)
    elif "alpha" in given or "beta" in given:
        raise FitError(
            "alpha or beta alone cannot be held: it fixes neither the mean nor the concentration",
            expected="both alpha and beta, or mean, or concentration",
            remedy="name the other one too, or hold mean or concentration instead",
        )
    else:
        logit = special.logit(np.asarray(given.get("mean", np.nan), np.float64))
        phi = 1.0 / (1.0 + np.asarray(given.get("concentration", np.nan), np.float64))
    return np.stack(np.broadcast_arrays(logit, phi), axis=-1)


def _located(mean: Array, phi: Array) -> Array:
    """(μ, φ) → coordinates; a mean of 0 or 1 goes to the bound."""
    with np.errstate(divide="ignore"):
        logit = special.logit(mean)
    return np.stack([np.clip(logit, -_LOGIT_BOUND, _LOGIT_BOUND), phi], axis=-1)


def _moments(
    estimator: Callable[[rates.RateSums], tuple[Array, Array]], sketch: BinomialSketch, held: Array
) -> Array:
    """Put an estimator of (μ, φ) into coordinates."""
    return _located(*estimator(sketch.rates))


def scale(sketch: BinomialSketch) -> Array:
    """One unit of logit, half the range of φ."""
    return np.tile([1.0, 0.5], (sketch.n_pools, 1))


def degeneracies(sketch: BinomialSketch) -> tuple[Degeneracy, ...]:
    """No trial; only failures or only successes; one trial per store; a single store."""
    successes, trials, stores = sketch.successes.total(), sketch.trials.total(), sketch.n_groups
    zero, open_ = np.zeros(sketch.n_pools), np.full(sketch.n_pools, np.nan)
    at_the_edge = partial(
        Degeneracy,
        limit=_located(ratio(successes, trials), zero),
        identified=True,
        remedy="pool these stores with others, or give proper hyperpriors for mean and "
        "concentration and estimator='map'",
        unless=("mean",),
    )
    return (
        Degeneracy(
            "no_data",
            stores == 0,
            limit=np.stack([zero, zero], axis=-1),
            identified=False,
            found="no store has a trial",
            remedy="leave this pool out, or fix mean and concentration",
        ),
        at_the_edge(
            status="no_successes",
            pools=successes == 0,
            found="there is no success in any store, so the mean is estimated as 0",
        ),
        at_the_edge(
            status="no_failures",
            pools=sketch.failures.total() == 0,
            found="there is no failure in any store, so the mean is estimated as 1",
        ),
        at_the_edge(
            status="one_store",
            pools=stores == 1,
            found="a single store has trials, so the spread between stores is unknown",
        ),
        Degeneracy(
            "one_trial_each",
            trials == stores,
            limit=np.stack([open_, zero], axis=-1),
            identified=False,
            found="no store has more than one trial, so their spread is not identified",
            remedy="fix the concentration, or give it a proper hyperprior and estimator='map'",
        ),
    )


def sizes(statistics: Statistics) -> tuple[Array, Array]:
    """Trials and raw rate of each store."""
    trials = np.asarray(statistics["trials"], np.float64)
    return trials, ratio(np.asarray(statistics["successes"], np.float64), trials)


def _coordinates(working: Point) -> Point:
    line, spread = working
    # φ must stay below 1: beyond this, counts are all or nothing and the likelihood is flat.
    below = Jet(np.minimum(spread.value, _LARGEST_SPREAD), spread.gradient, spread.hessian)
    return [line, exp(-log1p_exp(-below))]


def _named(working: Point) -> Named:
    line, spread = working
    mean, rest = exp(-log1p_exp(-line)), exp(-log1p_exp(line))
    named = {"mean": mean, "mean_complement": rest, "concentration": (size := exp(-spread))}
    return named | {"alpha": mean * size, "beta": rest * size}


def _named_at(coordinates: Point) -> Named:
    line, phi = coordinates[0], inside(coordinates[1])
    return _named([line, log(phi) - log(1.0 - phi)])


def _log_slope(working: Point) -> Jet:
    """Log |∂μ/∂ℓ| = log μ(1 − μ)."""
    return -log1p_exp(working[LOCATION]) - log1p_exp(-working[LOCATION])


GEOMETRY = Geometry(
    law=BETA,
    variance=(0.0, 1.0, -1.0),
    has_noise=False,
    mean=special.expit,
    sizes=sizes,
    median_size=lambda sketch: lower_median(sketch.trials.counts, "value", "count"),
    coordinates=_coordinates,
    log_spread=lambda held, w: w[LOCATION] * 0.0 + (log_of_spread(held) - np.log1p(-held)),
    given_spread=BinomialSketch.given_spread,
    named=_named,
    named_at=_named_at,
    log_jacobian={
        "mean": _log_slope,
        "concentration": minus_log_spread,
        "alpha": lambda w: _log_slope(w) - w[SPREAD],
        "beta": minus_log_spread,
    },
    parametrisations=(("mean", "concentration"), ("alpha", "beta")),
    defaults={
        "mean": lambda c: (Term("mean", "beta", (0.5, 0.5)),),
        "concentration": lambda c: (Term("concentration", "uniform_shrinkage", (1.0 / c,)),),
    },
    # p(α, β) ∝ (α + β)^(−5/2): Gelman et al., BDA3, section 5.3.
    joint={"bda3": (("alpha", "beta"), (Term("concentration", "power", (-2.5,)),))},
)


FAMILY = Family(
    name="beta_binomial",
    kernel_version=1,
    roles=(
        Role("successes", whole=True, lowest=0.0, at_most="trials"),
        Role("trials", whole=True, lowest=0.0),
    ),
    statistics=(
        Statistic("successes", "int64", "sum", lowest=0.0, at_most="trials"),
        Statistic("trials", "int64", "sum", lowest=0.0),
    ),
    hyperparameters=("alpha", "beta", "mean", "concentration"),
    coordinates=(
        Coordinate("logit_mean", -_LOGIT_BOUND, _LOGIT_BOUND, "mean"),
        Coordinate("phi", 0.0, _PHI_BOUND, "concentration", spread=True),
    ),
    summarise=summarise,
    fold=fold_sums,
    compress=BinomialSketch.of,
    merge_sketches=BinomialSketch.merged,
    moments={
        "kleinman": partial(_moments, rates.kleinman),
        "raw_rates": partial(_moments, rates.raw_proportions),
        "noise_corrected": partial(_moments, rates.corrected_proportions),
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
    log_no_pooling=log_no_pooling,
    sample_size="trials",
    dispersion=TRIALS,
    regression=Regression("logit", pearson, log_probability),
    geometry=GEOMETRY,
)
