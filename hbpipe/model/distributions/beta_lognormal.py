"""The law of θ = p eʷ, p of one Beta law and w of one normal law, as a ``Law``."""

from __future__ import annotations

from functools import partial

import numpy as np

from hbpipe.model.distributions.laws import Law, Pair, Parameters
from hbpipe.model.distributions.product import FINE, QUICK, Products
from hbpipe.model.family import Array


def _one_each(*parameters: Array, step: float) -> tuple[Products, tuple[int, ...]]:
    """Laws of one component each, from parameters that broadcast, and their shape."""
    rows = np.broadcast_arrays(*(np.asarray(values, np.float64) for values in parameters))
    a, b, location, scale = (values.reshape(-1, 1) for values in rows)
    return Products(np.ones_like(a), a, b, np.ones_like(a), location, scale, step), rows[0].shape


def _of_each(method: str, step: float, *arguments: Array) -> Array:
    *parameters, at = np.broadcast_arrays(*arguments)
    laws, shape = _one_each(*parameters, step=step)
    return np.asarray(getattr(laws, method)(np.ravel(at).astype(np.float64)).reshape(shape))


def mean_and_square(a: Array, b: Array, location: Array, scale: Array) -> Pair:
    """E θ and E θ², broadcast; ∞ where they are beyond the range of floats."""
    share, size = a / (a + b), a + b
    variance = np.square(scale)
    with np.errstate(over="ignore"):
        mean = share * np.exp(location + 0.5 * variance)
        square = share * (a + 1.0) / (size + 1.0) * np.exp(2.0 * (location + variance))
    return np.asarray(mean), np.asarray(square)


def _mean_sd(a: Array, b: Array, location: Array, scale: Array) -> Pair:
    """Mean and sd; the relative variance is (1 + Var p/E² p) exp(s²) − 1, without cancellation."""
    mean, _ = mean_and_square(a, b, location, scale)
    relative = b / (a * (a + b + 1.0))
    with np.errstate(over="ignore"):
        grown = np.expm1(np.square(scale))
        return mean, mean * np.sqrt(relative + grown + relative * grown)


def _from_moments(mean: Array, variance: Array) -> Parameters:
    """Return the log-normal law of these moments: p is as good as 1."""
    spread = np.log1p(variance / np.square(mean))
    one = np.ones_like(spread)
    return 1e15 * one, one, np.log(mean) - 0.5 * spread, np.sqrt(spread)


def _score(a: Array, b: Array, location: Array, scale: Array, x: Array) -> Array:
    """Take log θ as normal."""
    laws, shape = _one_each(a, b, location, scale, step=QUICK)
    mean, variance = (values.reshape(shape) for values in laws.log_moments())
    return np.asarray((np.log(np.maximum(x, 1e-300)) - mean) / np.sqrt(variance))


def _product_law(step: float) -> Law:
    return Law(
        cdf=partial(_of_each, "cdf", step),
        density=partial(_of_each, "density", step),
        ppf=partial(_of_each, "quantile", step),
        from_moments=_from_moments,
        mean_sd=_mean_sd,
        score=_score,
        to_line=lambda x: np.log(np.maximum(x, 1e-300)),
        from_line=lambda u: np.exp(np.minimum(u, 700.0)),
    )


#: θ = p eʷ with the parameters a, b of p and the mean and sd of w; the quick one to 1e-4.
BETA_LOGNORMAL, QUICK_BETA_LOGNORMAL = _product_law(FINE), _product_law(QUICK)
