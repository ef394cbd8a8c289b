"""The log probability of a store's data under a conjugate law, for arrays of any shape.

``log_evidence`` is A(posterior) − A(prior): the log marginal likelihood of one store but for the
base measure, which no prior changes. As a difference of two log normalisers it would lose all
digits where a prior is narrow; here nothing large cancels.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Family, Prior, Statistics
from hbpipe.model.marginal.log_product import ending_value, stirling_value

#: From this argument on Stirling's series is as good as exact (``marginal/log_product.py``).
_LARGE = 8.0


def log_evidence(family: Family, statistics: Statistics, prior: Prior) -> Array:
    """Evaluate the log evidence of stores under conjugate laws; both broadcast.

    Raises
    ------
    FitError
        If the family has no such mixtures.
    """
    return conjugate_law(family)(statistics, prior)


def conjugate_law(family: Family) -> Callable[[Statistics, Prior], Array]:
    """Return the log evidence of a family as a function of statistics and prior.

    Raises
    ------
    FitError
        If the family has no such mixtures.
    """
    if family.name not in _EVIDENCE:
        raise FitError(
            f"{family.name} takes no mixture of priors",
            expected=f"one of {', '.join(_EVIDENCE)}",
            remedy="leave `prior` out, or use one of these families",
        )
    return _EVIDENCE[family.name]


def log_rising(a: Array, m: Array) -> Array:
    """Evaluate log Γ(a + m) − log Γ(a), less m log a, to the last digits also for large a.

    It is p(1/a; m) = Σ_{j<m} log(1 + j/a) of ``marginal/log_product.py``, where m is whole.
    """
    shape = np.broadcast_shapes(np.shape(a), np.shape(m))
    a, m = np.broadcast_arrays(*np.atleast_1d(np.asarray(a, np.float64), m))
    large = np.maximum(a, _LARGE)
    found = ending_value(1.0 / large, m) - stirling_value(1.0 / large)
    near = a < _LARGE
    if near.any():
        few, add = a[near], m[near]
        found[near] = special.gammaln(few + add) - special.gammaln(few) - add * np.log(few)
    return np.where(m > 0, found, 0.0).reshape(shape)


def _beta(statistics: Statistics, prior: Prior) -> Array:
    """B(α + y, β + n − y)/B(α, β)."""
    y = np.asarray(statistics["successes"], np.float64)
    rest = np.asarray(statistics["trials"], np.float64) - y
    alpha, beta = prior["alpha"], prior["beta"]
    whole = alpha + beta
    rising = log_rising(alpha, y) + log_rising(beta, rest) - log_rising(whole, y + rest)
    return np.asarray(special.xlogy(y, alpha / whole) + special.xlogy(rest, beta / whole) + rising)


def _gamma(statistics: Statistics, prior: Prior) -> Array:
    """Γ(s + y) r^s/(Γ(s) (r + E)^(s + y))."""
    y = np.asarray(statistics["count"], np.float64)
    exposure = np.asarray(statistics["exposure"], np.float64)
    shape, rate = prior["shape"], prior["rate"]
    grown = np.log1p(exposure / rate)
    return np.asarray(special.xlogy(y, shape / rate) + log_rising(shape, y) - (shape + y) * grown)


def _normal(statistics: Statistics, prior: Prior) -> Array:
    """N(x; μ, v + τ²)/N(x; 0, v)."""
    precision = 1.0 / np.asarray(statistics["variance"], np.float64)
    estimate = np.where(precision > 0, np.asarray(statistics["estimate"], np.float64), 0.0)
    mu, signal = prior["mu"], np.square(prior["tau"]) * precision
    distance = np.square(estimate - mu) / (1.0 + signal)
    return np.asarray(0.5 * (precision * (np.square(estimate) - distance) - np.log1p(signal)))


_EVIDENCE: dict[str, Callable[[Statistics, Prior], Array]] = {
    "beta_binomial": _beta,
    "gamma_poisson": _gamma,
    "normal_known_variance": _normal,
}
