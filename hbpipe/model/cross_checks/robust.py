"""Empirical Bayes intervals that hold whatever the shape of the prior.

A plug-in interval of estimates with known variances takes the θ_j for normal about x_j'β. Where
they are not, the shrunken estimate x_j'β + w_j (est_j − x_j'β), w_j = τ²/(τ² + s_j²), is still a
good one, but ±z √w_j s_j may miss more often than it says. The robust interval (Armstrong,
Kolesár and Plagborg-Møller 2022, *Econometrica* 90) has the half-length cva(m₂, κ; α) w_j s_j,
m₂ = s_j²/τ²: of all stores with such w_j at least 1 − α are covered, for any law of θ with second
moment τ² about x'β and kurtosis κ or less. κ = ∞ asks for the second moment alone.

The moments count as known: the guarantee is for many stores.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.cross_checks.critical import relative_cva
from hbpipe.model.family import Array


class PriorMoments(NamedTuple):
    """Coefficients β (P,), and second moment and kurtosis of θ about x'β."""

    coefficients: Array
    tau_squared: float
    kurtosis: float


def prior_moments(
    estimate: Array,
    variance: Array,
    covariates: Array | None = None,
    weights: Array | None = None,
) -> PriorMoments:
    """Estimate the moments of the prior without its shape, by weighted least squares.

    With residuals e and weights ω (J,), equal ones by default,

        μ₂ = Σω (e² − s²)/Σω,      μ₄ = Σω (e⁴ − 6 s² e² + 3 s⁴)/Σω,

    and both are kept away from what is impossible (no spread, a kurtosis of 1) by the paper's
    posterior mean truncation: μ₂ ≥ 2 Σω²s⁴/(Σω Σωs²), κ ≥ 1 + 32 Σω²s⁸/(μ₂² Σω Σωs⁴).

    Raises
    ------
    FitError
        If there are no more stores with an estimate than covariates.
    """
    seen = np.isfinite(variance)
    s2, y = np.asarray(variance, np.float64)[seen], np.asarray(estimate, np.float64)[seen]
    x = np.ones((len(y), 1)) if covariates is None else np.asarray(covariates, float)[seen]
    omega = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)[seen]
    if len(y) <= x.shape[1]:
        raise FitError(
            f"{len(y)} stores have an estimate, for {x.shape[1]} coefficients",
            expected="more stores than coefficients",
            remedy="use fewer covariates, or more stores",
        )
    normal = x.T @ (omega[:, None] * x)
    coefficients = np.asarray(np.linalg.solve(normal, x.T @ (omega * y)), np.float64)
    squares = (y - x @ coefficients) ** 2
    total = np.sum(omega)
    second = np.sum(omega * (squares - s2)) / total
    second = max(second, 2.0 * np.sum((omega * s2) ** 2) / (total * np.sum(omega * s2)))
    fourth = np.sum(omega * (squares**2 - 6.0 * s2 * squares + 3.0 * s2**2)) / total
    least = 32.0 * np.sum((omega * s2**2) ** 2) / (total * np.sum(omega * s2**2))
    kurtosis = max(fourth / second**2, 1.0 + least / second**2)
    return PriorMoments(coefficients, float(second), float(kurtosis))


def robust_half_length(
    variance: Array, tau_squared: float, kurtosis: float = np.inf, alpha: float = 0.05
) -> Array:
    """Half-length cva(s²/τ², κ; α) w s of the robust interval of each store, (J,).

    A store without an estimate (variance ∞) has the limit: an interval for θ of a new store.

    Raises
    ------
    FitError
        If τ² is 0: the interval then has no width and holds for nobody.
    """
    if not tau_squared > 0:
        raise FitError(
            "robust intervals have no width where the fit has no spread",
            expected="tau above 0",
            remedy="fit with estimator='reml:li_lahiri', or use uncertainty='integrated'",
        )
    precision = 1.0 / np.asarray(variance, np.float64)
    left = 1.0 / (1.0 + tau_squared * precision)
    return relative_cva(1.0 - left, kurtosis, alpha) * np.sqrt(tau_squared * left)
