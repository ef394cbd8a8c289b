"""The conjugate update of a vector of coefficients, b ~ N(μ, Σ), from a store's regression.

With Σ = σ² Λ Λ', F = R Λ and M = I + F'F, where (R, z) are the store's triangular factors,

    mean = μ + Λ M⁻¹ F'(z − R μ),   covariance = σ² Λ M⁻¹ Λ'

(Lindley and Smith 1972, *JRSS B* 34, with Σ's factor in place of its inverse). A Σ without full
rank and a store without rows are ordinary: the first leaves Λ with columns of zeros, the second R.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hbpipe.errors import StatisticsError
from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.family import Array, Description, Hyperparameters, Prior, Statistics
from hbpipe.model.marginal.factors import factors_of
from hbpipe.model.marginal.means import LOG_2PI
from hbpipe.model.numerics.small import (
    forward,
    product,
    root_of_shifted,
    rows_first,
    rows_last,
    transposed,
)
from hbpipe.model.regression.relative import loading_of


def prior_of(hyperparameters: Hyperparameters) -> Prior:
    """N(mu, Sigma); a posterior has the same two names."""
    return {
        "mu": np.asarray(hyperparameters["mu"], np.float64),
        "Sigma": np.asarray(hyperparameters["Sigma"], np.float64),
    }


def update_coefficients(statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
    """Posterior N(mu, Sigma) of each store's coefficients, (J, P) and (J, P, P)."""
    stores = len(statistics["n"])
    prior = prior_of(hyperparameters)
    size = prior["mu"].shape[-1]
    sigma = np.broadcast_to(np.asarray(hyperparameters["sigma"], np.float64), stores)
    mu = np.broadcast_to(prior["mu"], (stores, size))
    covariance = np.broadcast_to(prior["Sigma"], (stores, size, size))
    factors = factors_of(statistics)
    centre = rows_last(mu)[:, None]
    loading = rows_last(loading_of(covariance, sigma))
    deviation = factors.response[:, None] - product(factors.factor, centre)
    step, root = _shrink(product(factors.factor, loading), loading, deviation)
    mean = rows_first((centre + step)[:, 0])
    within = np.square(sigma) * product(root, transposed(root))
    # A store without rows keeps the prior to the last bit.
    seen = np.asarray(statistics["n"]) > 0
    return {
        "mu": np.where(seen[:, None], mean, mu),
        "Sigma": np.where(seen[:, None, None], rows_first(within), covariance),
    }


def _shrink(spread: Array, loading: Array, deviation: Array) -> tuple[Array, Array]:
    """Λ M⁻¹ F' u, and a root of Λ M⁻¹ Λ', for F (P, P, J) and u (P, 1, J)."""
    lower = root_of_shifted(transposed(spread))
    half = forward(lower, transposed(loading))
    pulled = forward(lower, product(transposed(spread), deviation))
    root = transposed(half)
    return product(root, pulled), root


def log_normaliser_coefficients(prior: Mapping[str, Array]) -> Array:
    """Evaluate A = ½ μ'Σ⁻¹μ + ½ log|Σ| of N(μ, Σ), without ½ P log 2π.

    Σ must have full rank: a prior without spread in some direction has no density.
    """
    mu, covariance = prior["mu"], prior["Sigma"]
    explained = np.linalg.solve(covariance, mu[..., None])[..., 0]
    half = 0.5 * np.sum(mu * explained, axis=-1)
    return np.asarray(half + 0.5 * np.linalg.slogdet(covariance)[1])


def log_base_measure(statistics: Statistics, hyperparameters: Hyperparameters) -> Array:
    """Σ log N(y; 0, σ²) of the responses of a store, (J,), which is 0 for an absent one."""
    sigma = np.asarray(hyperparameters["sigma"], np.float64)
    n = np.asarray(statistics["n"], np.float64)
    means, cross = np.asarray(statistics["means"]), np.asarray(statistics["cross"])
    squares = cross[:, -1, -1] + n * np.square(means[:, -1])
    known = n * (0.5 * LOG_2PI + np.log(sigma))
    return np.asarray(-known - 0.5 * squares / np.square(sigma))


def describe_coefficients(posterior: Prior, quantiles: Any) -> Description:
    """Mean, sd, quantiles and cdf of each coefficient by itself, (J, P), and their covariance."""
    covariance = posterior["Sigma"]
    sd = np.sqrt(np.maximum(np.einsum("...kk->...k", covariance), 0.0))
    return replace(NORMAL.describe(posterior["mu"], sd, quantiles), covariance=covariance)


def predict_response(
    posterior: Prior, exposure: Any, hyperparameters: Hyperparameters, quantiles: Any
) -> Description:
    """Predict the response of the next event at given predictors.

    ``exposure`` has the predictors of that event, (J, P), or (P,) for the same in all stores: the
    response is N(x'μ, x'Σx + σ²).

    Raises
    ------
    StatisticsError
        If these are not P numbers a store.
    """
    mu = posterior["mu"]
    predictors = np.asarray(exposure, np.float64)
    if predictors.shape not in (mu.shape, mu.shape[-1:]):
        raise StatisticsError(
            f"the predictors of the next event have the shape {predictors.shape}",
            expected=f"{mu.shape[-1:]}, or {mu.shape}, one row for each store",
            remedy="give every predictor of the fit in its order, the constant 1 included",
        )
    mean = np.sum(predictors * mu, axis=-1)
    spread = np.einsum("...k,...kl,...l->...", predictors, posterior["Sigma"], predictors)
    sd = np.sqrt(np.maximum(spread, 0.0) + np.square(hyperparameters["sigma"]))
    return NORMAL.describe(mean, sd, quantiles)
