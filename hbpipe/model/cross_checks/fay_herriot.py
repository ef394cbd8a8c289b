"""Closed-form intervals for estimates with known variances: Prasad and Rao, Morris.

The model is Fay and Herriot's (1979, *JASA* 74): est_j ~ N(θ_j, s_j²), θ_j ~ N(x_j'β, τ²). With
V_j = s_j² + τ², B_j = s_j²/V_j and C = (X'V⁻¹X)⁻¹, the estimate of θ_j is x_j'β̂ + (1 − B_j)
(est_j − x_j'β̂), and its mean squared error has three parts (Prasad and Rao 1990, *JASA* 85;
Datta and Lahiri 2000, *Statistica Sinica* 10):

    g₁ = τ² B_j,   g₂ = B_j² x_j'C x_j,   g₃ = B_j² Avar(τ̂²)/V_j,   mse = g₁ + g₂ + 2 g₃ − B_j² b.

g₁ is what a plug-in posterior shows, g₂ is for β̂, g₃ for τ̂²; it counts twice because g₁ at τ̂² is
too small by g₃. b is the bias of τ̂² to order 1/J, which g₁ inherits. Variance and bias of τ̂²
depend on how it was estimated; in Σ over the stores of the fit,

========================  ==========================  =============================================
estimator                 Avar(τ̂²)                    b
========================  ==========================  =============================================
reml                      2/ΣV⁻²                      0
ml                        2/ΣV⁻²                      −tr(C X'V⁻²X)/ΣV⁻²
ml:, reml: with τ^(2p)    2/ΣV⁻²                      + 2p/(τ² ΣV⁻²)
moments:paule_mandel      2J/(ΣV⁻¹)²                  2 [J ΣV⁻² − (ΣV⁻¹)²]/(ΣV⁻¹)³
moments:hedges            2 ΣV²/J²                    0
moments:dersimonian_laird 2 Σ(V/s²)²/(Σs⁻²)²          0
========================  ==========================  =============================================

(rows 1, 2: Datta and Lahiri; 3: Li and Lahiri 2010; 4: Datta, Rao and Smith 2005, *Biometrika*
92, who call it Fay and Herriot's; 5: Prasad and Rao, whose estimator it is; 6 by the same delta
method.) These are expansions in 1/J at τ² > 0: checks on the integrated posterior, not a
replacement for it where stores are few or τ̂² is 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.estimation.adjusted import POWERS
from hbpipe.model.family import Array


@dataclass(frozen=True)
class AreaModel:
    """A fitted model: what the intervals need of the stores behind it.

    Parameters
    ----------
    tau_squared
        τ̂².
    coefficients, covariance
        β̂ (P,) and C = (X'V⁻¹X)⁻¹ (P, P), its variance at known τ².
    tau_variance, tau_bias
        Asymptotic variance of τ̂², and its bias to order 1/J.
    freedom
        J − P: stores less coefficients.
    noise
        Mean of s², weighted by 1/V.
    """

    tau_squared: float
    coefficients: Array
    covariance: Array
    tau_variance: float
    tau_bias: float
    freedom: int
    noise: float


@dataclass(frozen=True)
class Shrunken:
    """Estimates of ``J`` stores, (J,) each.

    ``mean`` with root mean squared error ``sd``; ``weight`` of the store's own estimate and
    ``centre`` x'β̂, to which it is shrunk.
    """

    mean: Array
    sd: Array
    weight: Array
    centre: Array


def area_model(
    estimate: Array,
    variance: Array,
    covariates: Array | None,
    tau_squared: float,
    *,
    estimator: str = "reml",
    mu: float | None = None,
    tau_known: bool = False,
) -> AreaModel:
    """Sum up the stores of a fit at its τ̂².

    Parameters
    ----------
    estimate, variance
        (J,) of the stores of the fit; those of infinite variance are left out.
    covariates
        (J, P), the intercept's column included; None is an intercept alone.
    tau_squared, estimator
        τ̂², and how it was estimated, as in the table above.
    mu
        A prior mean that is known, in place of coefficients to estimate.
    tau_known
        Whether τ² is known and adds no uncertainty.

    Raises
    ------
    FitError
        If the estimator has no expansion here.
    """
    seen = np.isfinite(variance)
    s2, y = np.asarray(variance, np.float64)[seen], np.asarray(estimate, np.float64)[seen]
    x = _design(covariates, len(seen))[seen]
    total = s2 + tau_squared
    if mu is None:
        covariance = np.asarray(np.linalg.inv(x.T @ (x / total[:, None])), np.float64)
        coefficients = covariance @ (x.T @ (y / total))
    else:
        x, covariance, coefficients = x[:, :1], np.zeros((1, 1)), np.array([mu])
    tau_variance, tau_bias = 0.0, 0.0
    if not tau_known:
        # tr(C X'V⁻²X), which is 0 where there is nothing to estimate.
        trace = float(np.sum(covariance * (x.T @ (x / total[:, None] ** 2))))
        tau_variance, tau_bias = _tau_moments(estimator, s2, tau_squared, trace)
    estimated = 0 if mu is not None else x.shape[1]
    noise = float(np.sum(s2 / total) / np.sum(1.0 / total))
    return AreaModel(
        float(tau_squared),
        coefficients,
        covariance,
        tau_variance,
        tau_bias,
        freedom=len(y) - estimated,
        noise=noise,
    )


def plug_in(
    model: AreaModel, estimate: Array, variance: Array, covariates: Array | None = None
) -> Shrunken:
    """Estimates with the posterior sd √g₁, which takes β̂ and τ̂² for known.

    Parameters
    ----------
    estimate, variance, covariates
        (J,), (J,), (J, P) of the stores to estimate; a variance of ∞ says "no estimate".
    """
    precision, centre, _ = _place(model, variance, covariates)
    signal = model.tau_squared * precision
    weight = signal / (1.0 + signal)
    mean = centre + weight * _deviation(estimate, precision, centre)
    return Shrunken(mean, np.sqrt(model.tau_squared / (1.0 + signal)), weight, centre)


def prasad_rao(
    model: AreaModel, estimate: Array, variance: Array, covariates: Array | None = None
) -> Shrunken:
    """Estimates with the mean squared error g₁ + g₂ + 2 g₃ − B² b of each.

    Parameters are those of :func:`plug_in`.

    Raises
    ------
    FitError
        If the expansion gives a negative error, as it can where variances differ by orders of
        magnitude and τ̂² is small.
    """
    known = plug_in(model, estimate, variance, covariates)
    precision, _, leverage = _place(model, variance, covariates)
    left = 1.0 / (1.0 + model.tau_squared * precision)
    g3 = left**3 * precision * model.tau_variance
    mse = known.sd**2 + left**2 * (leverage - model.tau_bias) + 2.0 * g3
    if len(wrong := np.flatnonzero(~(mse > 0))):
        raise FitError(
            f"the expansion of the mean squared error is {mse[wrong[0]]:.3g}",
            where={"store": int(wrong[0])},
            expected="stores whose variances and number allow an expansion in 1/J",
            remedy="use uncertainty='integrated', or estimator='reml'",
        )
    return replace(known, sd=np.sqrt(mse))


def morris(
    model: AreaModel, estimate: Array, variance: Array, covariates: Array | None = None
) -> Shrunken:
    """Estimates and intervals of Morris (1983, *JASA* 78, section 5), with D = J − P.

    Parameters are those of :func:`plug_in`. The shrinkage is damped because τ̂² is uncertain,
    B̂ = (D − 2)/D · s²/(s² + τ²), and

        variance = s² [1 − (1 − h) B̂] + 2/(D − 2) B̂² (V̄ + τ²)/(s² + τ²) (est − x'β̂)²

    with the leverage h = x'Cx/(s² + τ²) and V̄ the weighted mean of s². The last term widens the
    intervals of stores far from their centre. Morris's own τ̂² is Paule and Mandel's.

    Raises
    ------
    FitError
        If D is below 3, or a store has no estimate: the formula then has no limit.
    """
    if model.freedom < 3:
        raise FitError(
            f"Morris's intervals have {model.freedom} degrees of freedom",
            expected="at least 3: stores with an estimate less coefficients",
            remedy="use uncertainty='integrated'",
        )
    precision, centre, leverage = _place(model, variance, covariates)
    if len(silent := np.flatnonzero(~(precision > 0))):
        raise FitError(
            "Morris's intervals are not defined for a store without an estimate",
            where={"store": int(silent[0])},
            expected="an estimate with a finite variance for every store",
            remedy="leave such stores out, or use uncertainty='integrated'",
        )
    s2 = 1.0 / precision
    total = s2 + model.tau_squared
    damping = (model.freedom - 2.0) / model.freedom
    left = damping * s2 / total
    deviation = _deviation(estimate, precision, centre)
    spread = 2.0 / (model.freedom - 2.0) * left**2 * (model.noise + model.tau_squared) / total
    variance_ = s2 * (1.0 - (1.0 - leverage / total) * left) + spread * deviation**2
    mean = centre + (1.0 - left) * deviation
    return Shrunken(mean, np.sqrt(variance_), 1.0 - left, centre)


def _tau_moments(
    estimator: str, s2: Array, tau_squared: float, trace: float
) -> tuple[float, float]:
    """Asymptotic variance and bias of τ̂², given s² (J,) and ``trace`` = tr(C X'V⁻²X)."""
    kind, _, variant = estimator.partition(":")
    total, stores = s2 + tau_squared, len(s2)
    squares = float(np.sum(total**-2.0))
    if kind in ("ml", "reml"):
        bias = 0.0 if kind == "reml" else -trace
        if variant:
            bias += 2.0 * POWERS[variant] / tau_squared
        return 2.0 / squares, bias / squares
    precision = float(np.sum(1.0 / total))
    if estimator in ("moments", "moments:paule_mandel"):
        bias = 2.0 * (stores * squares - precision**2) / precision**3
        return 2.0 * stores / precision**2, bias
    if variant == "hedges":
        return 2.0 * float(np.sum(total**2)) / stores**2, 0.0
    if variant == "dersimonian_laird":
        return 2.0 * float(np.sum((total / s2) ** 2)) / float(np.sum(1.0 / s2)) ** 2, 0.0
    raise FitError(
        f"there is no expansion of the mean squared error for the estimator {estimator!r}",
        expected="ml, reml, or moments other than moments:lesson, which is biased",
        remedy="fit with estimator='reml', or use uncertainty='integrated'",
    )


def _design(covariates: Array | None, stores: int) -> Array:
    return np.ones((stores, 1)) if covariates is None else np.asarray(covariates, np.float64)


def _place(
    model: AreaModel, variance: Array, covariates: Array | None
) -> tuple[Array, Array, Array]:
    """Precision 1/s², centre x'β̂ and x'Cx of each store, (J,) each."""
    precision = 1.0 / np.asarray(variance, np.float64)
    x = _design(covariates, len(precision))
    leverage = np.einsum("jp,pq,jq->j", x, model.covariance, x)
    return precision, x @ model.coefficients, leverage


def _deviation(estimate: Array, precision: Array, centre: Array) -> Array:
    """Estimate less centre; 0 where there is no estimate."""
    return np.where(precision > 0, np.asarray(estimate, np.float64) - centre, 0.0)
