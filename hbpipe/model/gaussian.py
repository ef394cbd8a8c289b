"""What the normal families share: the conjugate update and the geometry.

Their marginal likelihood is in ``marginal/means.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.densities import Term
from hbpipe.model.distributions.laws import NORMAL
from hbpipe.model.family import Array, Degeneracy, Hyperparameters, Prior, Statistics
from hbpipe.model.geometry import (
    LOCATION,
    NOISE,
    SPREAD,
    Geometry,
    GivenSpread,
    Named,
    Point,
    any_store,
)
from hbpipe.model.numerics.jets import Jet, exp, log

#: τ² on its bound is taken as this, so that log τ and its derivatives are numbers.
_SMALLEST_VARIANCE = float(np.finfo(np.float64).tiny) ** 0.125


def normal_prior(hyperparameters: Hyperparameters) -> Prior:
    """N(mu, tau²); a posterior has the same two names."""
    return {
        "mu": np.asarray(hyperparameters["mu"], np.float64),
        "tau": np.asarray(hyperparameters["tau"], np.float64),
    }


def update_normal(
    estimate: Array, precision: Array, mu: Array | float, tau: Array | float
) -> dict[str, Array]:
    """Combine the prior N(μ, τ²) with estimates of given precision (0: no data).

    Written with the weight on the data, w = τ² p/(1 + τ² p), so that τ = 0 and p = 0 are
    ordinary points that give exactly μ: mean = μ + w (estimate − μ), variance = τ²/(1 + τ² p).
    """
    signal = np.square(tau) * precision
    mean = mu + signal / (1.0 + signal) * (estimate - mu)
    return {"mu": np.asarray(mean), "tau": np.asarray(tau / np.sqrt(1.0 + signal))}


def log_normaliser_normal(prior: Mapping[str, Array]) -> Array:
    """Evaluate A = μ²/(2 τ²) + log τ of N(μ, τ²), without the constant ½ log 2π.

    It needs τ > 0: a prior without spread has no density.
    """
    tau = prior["tau"]
    return np.asarray(0.5 * (prior["mu"] / tau) ** 2 + np.log(tau))


def one_store(pools: NDArray[np.bool_], limit: Array, *, has: str) -> Degeneracy:
    """Return the case of a single store, which cannot differ from others."""
    return Degeneracy(
        "one_store",
        pools,
        limit=limit,
        identified=True,
        found=f"a single store has {has}, so the spread between stores is unknown",
        remedy="pool it with other stores, fix tau, or give a proper hyperprior for tau "
        "and estimator='map'",
        unless=("mu",),
    )


def normal_geometry(
    *,
    has_noise: bool,
    sizes: Callable[[Statistics], tuple[Array, Array]],
    median_size: Callable[[Any], Array],
    coordinates: Callable[[Point], Point],
    log_spread: Callable[[Array, Point], Jet],
    given_spread: Callable[[Any, Array], GivenSpread],
    integrable: Callable[[Any], NDArray[np.bool_]] = any_store,
) -> Geometry:
    """Return the geometry of a normal family: ``mu``, ``tau`` and, with noise, ``sigma``."""
    noise = ("sigma",) if has_noise else ()
    return Geometry(
        law=NORMAL,
        variance=(1.0, 0.0, 0.0),
        has_noise=has_noise,
        mean=np.asarray,
        sizes=sizes,
        median_size=median_size,
        coordinates=coordinates,
        log_spread=log_spread,
        given_spread=given_spread,
        named=_named,
        named_at=_named_at,
        log_jacobian={
            "mu": lambda w: w[LOCATION] * 0.0,
            "tau": lambda w: 0.5 * w[SPREAD] + _log_noise(w) - np.log(2.0),
            "tau_squared": lambda w: w[SPREAD] + 2.0 * _log_noise(w),
            "sigma": _log_noise,
        },
        parametrisations=(("mu", "tau", *noise), ("mu", "tau_squared", *noise)),
        defaults={
            "mu": lambda c: (),
            "tau": lambda c: _uniform_shrinkage(c, noise),
            "sigma": lambda c: (Term("sigma", "reciprocal"),),
        },
        integrable=integrable,
    )


def _uniform_shrinkage(c: Array, noise: tuple[str, ...]) -> tuple[Term, ...]:
    """p(A) = c/(c + A)² with A = τ²/σ²; the factor dA/dτ ∝ τ/σ² makes it a density of τ."""
    jacobian = (Term("tau", "power", (1.0,)), *(Term(name, "power", (-2.0,)) for name in noise))
    return (Term("odds", "uniform_shrinkage", (c,)), *jacobian)


def _log_noise(working: Point) -> Jet:
    """Log σ, or log 1 where there is no noise to know."""
    return working[NOISE] if len(working) > NOISE else working[SPREAD] * 0.0


def _named(working: Point) -> Named:
    noise = _log_noise(working)
    named = {
        "mu": working[LOCATION],
        "tau": exp(0.5 * working[SPREAD] + noise),
        "tau_squared": exp(working[SPREAD] + 2.0 * noise),
        "odds": exp(working[SPREAD]),
    }
    return named | ({"sigma": exp(noise)} if len(working) > NOISE else {})


def _named_at(coordinates: Point) -> Named:
    variance = coordinates[SPREAD]
    positive = np.maximum(variance.value, _SMALLEST_VARIANCE)
    tau = exp(0.5 * log(Jet(positive, variance.gradient, variance.hessian)))
    named = {"mu": coordinates[LOCATION], "tau": tau, "tau_squared": variance, "odds": variance}
    if len(coordinates) > NOISE:
        named["sigma"] = exp(coordinates[NOISE])
        named["odds"] = variance * exp(-2.0 * coordinates[NOISE])
    return named
