"""Revenue per visit: y_j ~ Binomial(n_j, p_j), and log amounts x_ij ~ N(m_j, σ²) of those who buy.

    p_j ~ Beta(α, β),   m_j ~ N(μ, τ²),   θ_j = p_j exp(m_j + ½ σ²)

θ is what a visit brings on average: a share of visits times the mean, not the median, of a basket,
because means multiply and add up to revenue. Coordinates are those of ``beta_binomial`` and of
``normal``, whose log likelihoods add up; the laws of θ are in ``hurdle/stores.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.distributions.beta_lognormal import BETA_LOGNORMAL
from hbpipe.model.family import (
    Array,
    Codes,
    Coordinate,
    Description,
    Family,
    Hyperparameters,
    Prior,
    Role,
    Statistic,
    Statistics,
)
from hbpipe.model.hurdle.hyperprior import compile_parts
from hbpipe.model.hurdle.parts import (
    OF_BASKET,
    OF_CONVERSION,
    basket,
    conversion,
    degeneracies,
    from_coordinates,
    moments,
    scale,
    to_coordinates,
    typical,
)
from hbpipe.model.hurdle.pools import product_pools
from hbpipe.model.hurdle.stores import conditional
from hbpipe.model.hurdle.visits import predict as predict_at_nodes
from hbpipe.model.hurdle.visits import predict_visit, single_visit
from hbpipe.model.integration.sampling import StoreUpdate
from hbpipe.model.marginal.hurdle_lognormal import (
    HurdleSketch,
    basket_statistics,
    log_marginal,
    log_no_pooling,
)
from hbpipe.model.numerics.grouped import fold_moments, integer_sums, moments_of

#: Bounds of ``beta_binomial`` and ``normal``.
_LOGIT_BOUND, _PHI_BOUND, _LOG_SIGMA_BOUND = 30.0, 1.0 - 1e-6, 75.0


def summarise(
    events: Mapping[str, NDArray[Any]], codes: Codes, n_stores: int
) -> dict[str, NDArray[Any]]:
    """Count visits and purchases; mean and centred sum of squares of log amounts."""
    value = np.asarray(events["value"], np.float64)
    bought = value > 0
    amounts = moments_of(np.log(value[bought]), codes[bought], n_stores)
    trials = integer_sums(np.asarray(events["trials"]), codes, n_stores)
    return {"successes": amounts.pop("n"), "trials": trials, **amounts}


def fold(statistics: Statistics, codes: Codes, n_stores: int) -> dict[str, NDArray[Any]]:
    """Merge rows of one store: counts add up, moments of log amounts as in ``normal``."""
    amounts = fold_moments(basket_statistics(statistics), codes, n_stores)
    trials = integer_sums(np.asarray(statistics["trials"]), codes, n_stores)
    return {"successes": amounts.pop("n"), "trials": trials, **amounts}


def prior(hyperparameters: Hyperparameters) -> Prior:
    """Beta(alpha, beta) of p and N(mu, tau²) of m; sigma comes along, which θ has in it."""
    sigma = np.asarray(hyperparameters["sigma"], np.float64)
    return conversion().prior(hyperparameters) | basket().prior(hyperparameters) | {"sigma": sigma}


def update(statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
    """Posterior of (p, m) of each store: both parts by themselves."""
    bought = conversion().update(statistics, hyperparameters)
    paid = basket().update(basket_statistics(statistics), hyperparameters)
    sigma = np.asarray(hyperparameters["sigma"], np.float64)
    return bought | paid | {"sigma": np.broadcast_to(sigma, np.shape(paid["mu"])).copy()}


def log_normaliser(prior: Prior) -> Array:
    """Sum of those of both parts."""
    return conversion().log_normaliser(prior) + basket().log_normaliser(prior)


def log_base_measure(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Sum of those of both parts."""
    bought = conversion().log_base_measure(statistics, hyperparameters)
    return bought + basket().log_base_measure(basket_statistics(statistics), hyperparameters)


def describe(posterior: Prior, quantiles: Any) -> Description:
    """Mean, sd, quantiles and cdf of θ; given σ it has both moments."""
    location = posterior["mu"] + 0.5 * np.square(posterior["sigma"])
    shapes = posterior["alpha"], posterior["beta"]
    return BETA_LOGNORMAL.describe(*shapes, location, posterior["tau"], quantiles)


def predict(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict the revenue of one further visit; FitError for more."""
    single_visit(exposure)
    bought = posterior["alpha"] / (posterior["alpha"] + posterior["beta"])
    sd = np.sqrt(np.square(posterior["tau"]) + np.square(hyperparameters["sigma"]))
    return predict_visit(bought, posterior["mu"], sd, quantiles)


def simulate(
    rng: np.random.Generator,
    hyperparameters: Hyperparameters,
    n_stores: int,
    size: int | NDArray[Any],
) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64], Array]:
    """Draw ``size`` visits per store; the value of one without a purchase is 0."""
    visits, codes, p = conversion().simulate(rng, hyperparameters, n_stores, size)
    amounts, _, m = basket().simulate(rng, hyperparameters, n_stores, size)
    value = np.where(visits["successes"] > 0, np.exp(amounts["value"]), 0.0)
    theta = p * np.exp(m + 0.5 * np.square(hyperparameters["sigma"]))
    return {"value": value, "trials": visits["trials"]}, codes, theta


def raw(statistics: Statistics) -> Array:
    """Share of visits with a purchase times exp(mean + ½ M2/y) of its log amounts; NaN without any.

    The maximum of the likelihood of a store with its own σ. Without a purchase it is 0.
    """
    y, n = (np.asarray(statistics[name], np.float64) for name in ("successes", "trials"))
    some = np.maximum(y, 1.0)
    with np.errstate(over="ignore"):
        amount = np.exp(statistics["mean"] + 0.5 * statistics["m2"] / some)
    share = y / np.where(n > 0, n, 1.0)
    return np.where(n > 0, np.where(y > 0, share * amount, 0.0), np.nan)


def raw_sd(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Sd of p̂ exp(x̄ + ½ σ²) by the delta method at the pool's σ; ∞ without a purchase."""
    y, n = (np.asarray(statistics[name], np.float64) for name in ("successes", "trials"))
    some, sigma = np.maximum(y, 1.0), np.square(hyperparameters["sigma"])
    missed = np.maximum(n - y, 0.5) / np.maximum(n, 1.0)
    with np.errstate(over="ignore"):
        theta = some / np.maximum(n, 1.0) * np.exp(statistics["mean"] + 0.5 * sigma)
    return np.where(y > 0, theta * np.sqrt((missed + sigma) / some), np.inf)


FAMILY = Family(
    name="hurdle_lognormal",
    kernel_version=1,
    roles=(
        Role("value", lowest=0.0, zero_if_null=True, needs="trials"),
        Role("trials", whole=True, lowest=0.0),
    ),
    statistics=(
        Statistic("successes", "int64", "sum", lowest=0.0, at_most="trials"),
        Statistic("trials", "int64", "sum", lowest=0.0),
        Statistic("mean", "float64", "moments"),
        Statistic("m2", "float64", "moments", lowest=0.0, needs="successes", needs_above=1.0),
    ),
    hyperparameters=(*OF_CONVERSION, *OF_BASKET),
    coordinates=(
        Coordinate("logit_mean", -_LOGIT_BOUND, _LOGIT_BOUND, "mean"),
        Coordinate("phi", 0.0, _PHI_BOUND, "concentration", spread=True),
        Coordinate("mu", -np.inf, np.inf, "mu"),
        Coordinate("tau_squared", 0.0, np.inf, "tau", spread=True),
        Coordinate("log_sigma", -_LOG_SIGMA_BOUND, _LOG_SIGMA_BOUND, "sigma"),
    ),
    summarise=summarise,
    fold=fold,
    compress=HurdleSketch.of,
    merge_sketches=HurdleSketch.merged,
    moments={"kleinman_anova": moments},
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
    raw=raw,
    raw_sd=raw_sd,
    shared=typical,
    heavy_tails=True,
    sampling=StoreUpdate(conditional=conditional, predict=predict_at_nodes),
    integrate=product_pools,
    hyperprior=compile_parts,
)
