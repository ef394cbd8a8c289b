"""Successes out of trials: y_j ~ Binomial(n_j, θ_j), θ_j ~ Beta(α, β).

Coordinates (logit of the mean μ = α/(α + β), φ = 1/(1 + α + β)). φ is the correlation of two
trials of one store, and φ = 0, the binomial limit, is an ordinary point. With a = μ(1 − φ) and
b = (1 − μ)(1 − φ), the log marginal of a store is (Griffiths 1973, *Biometrics* 29)

    log C(n, y) + R(a, φ; y) + R(b, φ; n − y) − R(1 − φ, φ; n),   R(a, φ; m) = Σ_{k<m} log(a + kφ).
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
from hbpipe.model.discrete import beta_binomial_cdf, beta_binomial_quantiles
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
from hbpipe.model.grouped import float_sums, fold_sums, integer_sums
from hbpipe.model.moments import ratio
from hbpipe.model.quantiles import beta_quantiles
from hbpipe.model.rates import RateSums, merge_rate_sums, rate_sums
from hbpipe.model.rising import RisingCounts, RisingSums

#: A logit of 30 is a mean of 1e-13: the bound only serves data without a success, or a failure.
_LOGIT_BOUND = 30.0
_PHI_BOUND = 1.0 - 1e-6
#: α + β reported in place of infinity where φ = 0.
MAX_CONCENTRATION = 1e15


@dataclass(frozen=True)
class BinomialSketch:
    """Distinct successes, failures and trials with counts, and sums for the moments; lossless.

    ``log_choose`` is Σ log C(n, y), (G,).
    """

    successes: RisingCounts
    failures: RisingCounts
    trials: RisingCounts
    rates: RateSums
    log_choose: Array

    @property
    def n_pools(self) -> int:
        """The number of pools."""
        return len(self.log_choose)

    @property
    def n_groups(self) -> NDArray[np.int64]:
        """Stores with at least one trial in each pool, (G,)."""
        return self.rates.stores.astype(np.int64)

    def select(self, pools: Codes) -> BinomialSketch:
        """Return the sketch of some pools."""
        return BinomialSketch(
            self.successes.select(pools),
            self.failures.select(pools),
            self.trials.select(pools),
            self.rates.select(pools),
            self.log_choose[pools],
        )


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Add up successes and trials of each store, exactly."""
    return {name: integer_sums(events[name], codes, n_stores) for name in ("successes", "trials")}


def compress(statistics: Statistics, pools: Codes, n_pools: int) -> BinomialSketch:
    """Count distinct values; stores without trials drop out."""
    seen = np.asarray(statistics["trials"]) > 0
    pool = np.asarray(pools)[seen]
    y, n = np.asarray(statistics["successes"])[seen], np.asarray(statistics["trials"])[seen]
    return BinomialSketch(
        RisingCounts.of(pool, y, n_pools),
        RisingCounts.of(pool, n - y, n_pools),
        RisingCounts.of(pool, n, n_pools),
        rate_sums(pool, y.astype(np.float64), n.astype(np.float64), n_pools),
        float_sums(_log_choose(n, y), pool, n_pools),
    )


def merge_sketches(sketches: Sequence[BinomialSketch]) -> BinomialSketch:
    """Add up sketches of disjoint stores."""
    return BinomialSketch(
        RisingCounts.merged([sketch.successes for sketch in sketches]),
        RisingCounts.merged([sketch.failures for sketch in sketches]),
        RisingCounts.merged([sketch.trials for sketch in sketches]),
        merge_rate_sums([sketch.rates for sketch in sketches]),
        np.sum([sketch.log_choose for sketch in sketches], axis=0),
    )


def _log_choose(n: NDArray[Any], y: NDArray[Any]) -> Array:
    return np.asarray(
        special.gammaln(n + 1.0) - special.gammaln(y + 1.0) - special.gammaln(n - y + 1.0)
    )


def log_marginal(sketch: BinomialSketch, coordinates: Array) -> Derivatives:
    """Log probability of the successes, binomial coefficients included."""
    logit, phi = coordinates[:, 0], coordinates[:, 1]
    mean, rest = special.expit(logit), special.expit(-logit)
    successes = sketch.successes(mean * (1.0 - phi), phi)
    failures = sketch.failures(rest * (1.0 - phi), phi)
    trials = sketch.trials(1.0 - phi, phi)

    value = sketch.log_choose + successes.value + failures.value - trials.value
    by_successes = _by_coordinates(successes, mean, rest, phi)
    by_failures = _by_coordinates(failures, rest, mean, phi)
    # The failures see the logit of 1 − μ, which is −logit μ.
    gradient = by_successes[0] + by_failures[0] * [-1.0, 1.0]
    hessian = by_successes[1] + by_failures[1] * [[1.0, -1.0], [-1.0, 1.0]]
    gradient[:, 1] -= trials.d_phi - trials.d_a
    hessian[:, 1, 1] -= trials.d_a_a - 2.0 * trials.d_a_phi + trials.d_phi_phi
    return value, gradient, hessian


def _by_coordinates(sums: RisingSums, mean: Array, rest: Array, phi: Array) -> tuple[Array, Array]:
    """Differentiate R(μ(1 − φ), φ) in (logit μ, φ), given the derivatives in its arguments."""
    slope = mean * rest
    a_logit, a_phi = slope * (1.0 - phi), -mean
    gradient = np.stack([sums.d_a * a_logit, sums.d_phi + sums.d_a * a_phi], axis=-1)
    logit_logit = sums.d_a_a * a_logit**2 + sums.d_a * a_logit * (rest - mean)
    mixed = sums.d_a_a * a_logit * a_phi + sums.d_a_phi * a_logit - sums.d_a * slope
    phi_phi = sums.d_a_a * a_phi**2 + 2.0 * sums.d_a_phi * a_phi + sums.d_phi_phi
    hessian = np.stack([logit_logit, mixed, mixed, phi_phi], axis=-1).reshape(-1, 2, 2)
    return gradient, hessian


def _located(mean: Array, phi: Array) -> Array:
    """(μ, φ) → coordinates; a mean of 0 or 1 goes to the bound."""
    with np.errstate(divide="ignore"):
        logit = special.logit(mean)
    return np.stack([np.clip(logit, -_LOGIT_BOUND, _LOGIT_BOUND), phi], axis=-1)


def _moments(
    estimator: Callable[[RateSums], tuple[Array, Array]], sketch: BinomialSketch, held: Array
) -> Array:
    """Put an estimator of (μ, φ) into coordinates."""
    return _located(*estimator(sketch.rates))


def scale(sketch: BinomialSketch) -> Array:
    """One unit of logit, half the range of φ."""
    return np.tile([1.0, 0.5], (sketch.n_pools, 1))


def degeneracies(sketch: BinomialSketch) -> tuple[Degeneracy, ...]:
    """No trial; only failures or only successes; one trial per store; a single store."""
    successes, trials = sketch.successes.total(), sketch.trials.total()
    stores = sketch.n_groups
    zero = np.zeros(sketch.n_pools)
    pooled = _located(ratio(successes, trials), zero)
    remedy = "pool these stores with others, or give proper hyperpriors for mean and concentration"
    return (
        Degeneracy(
            "no_data",
            stores == 0,
            np.zeros_like(pooled),
            identified=False,
            found="no store has a trial",
            remedy="leave this pool out, or fix mean and concentration",
        ),
        Degeneracy(
            "no_successes",
            successes == 0,
            pooled,
            identified=True,
            found="there is no success in any store, so the mean is estimated as 0",
            remedy=remedy,
            unless=("mean",),
        ),
        Degeneracy(
            "no_failures",
            sketch.failures.total() == 0,
            pooled,
            identified=True,
            found="there is no failure in any store, so the mean is estimated as 1",
            remedy=remedy,
            unless=("mean",),
        ),
        Degeneracy(
            "one_store",
            stores == 1,
            pooled,
            identified=True,
            found="a single store has trials, so the spread between stores is unknown",
            remedy=remedy,
            unless=("mean",),
        ),
        Degeneracy(
            "one_trial_each",
            trials == stores,
            np.stack([np.full(sketch.n_pools, np.nan), zero], axis=-1),
            identified=False,
            found="no store has more than one trial, so their spread is not identified",
            remedy="fix the concentration, give a proper hyperprior for it, or widen the window",
        ),
    )


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
    return _log_choose(np.asarray(statistics["trials"]), np.asarray(statistics["successes"]))


def describe(posterior: Prior, quantiles: Any) -> Description:
    """Mean, sd, quantiles and cdf of the store's θ."""
    alpha, beta = np.broadcast_arrays(posterior["alpha"], posterior["beta"])
    total = alpha + beta
    mean = alpha / total
    levels = np.atleast_1d(np.asarray(quantiles, np.float64))

    def cdf(points: Any) -> Array:
        return np.asarray(special.betainc(alpha, beta, np.clip(points, 0.0, 1.0)))

    return Description(
        mean=mean,
        sd=np.sqrt(mean * (beta / total) / (total + 1.0)),
        quantiles=beta_quantiles(alpha[..., None], beta[..., None], levels),
        cdf=cdf,
    )


def predict(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict the successes of ``exposure`` further trials: Beta-Binomial.

    The cost grows with the number of trials, since its cdf has no closed form.
    """
    alpha, beta, n = np.broadcast_arrays(
        posterior["alpha"], posterior["beta"], np.asarray(exposure, np.float64)
    )
    total = alpha + beta
    mean = n * alpha / total
    return Description(
        mean=mean,
        sd=np.sqrt(mean * (beta / total) * ((total + n) / (total + 1.0))),
        quantiles=beta_binomial_quantiles(
            np.atleast_1d(np.asarray(quantiles, np.float64)), n, alpha, beta
        ),
        cdf=lambda points: beta_binomial_cdf(points, n, alpha, beta),
    )


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
    compress=compress,
    merge_sketches=merge_sketches,
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
    sample_size="trials",
)
