"""Simulated pools of which every tenth store, on average, has a θ from a law of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.coverage.designs import Design, Truth, draw_sizes
from hbpipe.model.family import Array

#: Probability that a store is of the second component.
_SECOND = 0.1


def _known_variance(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Estimates of 5 to 400 values each, the components 8 sds of a median one apart."""
    shape = (replicates, groups)
    variance = 1.0 / draw_sizes(rng, shape, 5.0, 400.0)
    noise = np.sqrt(np.median(variance, axis=1))
    mu, tau = _both(0.0 * noise, 8.0 * noise), _both(np.sqrt(ratio) * noise)
    of = _components(rng, shape)
    theta = _of(mu, of) + rng.normal(size=shape) * _of(tau, of)
    estimate = theta + rng.normal(size=shape) * np.sqrt(variance)
    return _truth({"estimate": estimate, "variance": variance}, {"mu": mu, "tau": tau})


def _beta_binomial(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Rates around 0.05, and around 0.4; 5 to 400 trials."""
    n = np.ceil(draw_sizes(rng, (replicates, groups), 4.0, 400.0)).astype(np.int64)
    size = _both(np.median(n, axis=1) / ratio)
    alpha, beta = np.array([0.05, 0.4]) * size, np.array([0.95, 0.6]) * size
    of = _components(rng, n.shape)
    theta = rng.beta(_of(alpha, of), _of(beta, of))
    statistics = {"successes": rng.binomial(n, theta), "trials": n}
    return _truth(statistics, {"alpha": alpha, "beta": beta})


def _gamma_poisson(rng: np.random.Generator, replicates: int, groups: int, ratio: float) -> Truth:
    """Rates around 0.2, and around 1.5; exposures 5 to 400."""
    exposure = draw_sizes(rng, (replicates, groups), 5.0, 400.0)
    rate = _both(np.median(exposure, axis=1) / ratio)
    shape = np.array([0.2, 1.5]) * rate
    of = _components(rng, exposure.shape)
    theta = rng.gamma(_of(shape, of)) / _of(rate, of)
    statistics = {"count": rng.poisson(theta * exposure), "exposure": exposure}
    return _truth(statistics, {"shape": shape, "rate": rate})


def _both(first: Array, second: Array | None = None) -> Array:
    return np.stack([first, first if second is None else second], axis=1)


def _components(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int64]:
    return (rng.random(shape) < _SECOND).astype(np.int64)


def _of(values: Array, components: NDArray[np.int64]) -> Array:
    """Values (G, 2) of each store's component (G, J)."""
    return np.take_along_axis(values, components, axis=1)


def _truth(statistics: dict[str, NDArray[Any]], hyperparameters: dict[str, Array]) -> Truth:
    replicates = len(next(iter(hyperparameters.values())))
    proportion = np.tile([1.0 - _SECOND, _SECOND], (replicates, 1))
    flat = {name: values.ravel() for name, values in statistics.items()}
    return Truth(flat, {"proportion": proportion, **hyperparameters})


MIXTURES: dict[str, Design] = {
    f"{family}+mixture": Design(draw, family=family, prior="mixture")
    for family, draw in (
        ("normal_known_variance", _known_variance),
        ("beta_binomial", _beta_binomial),
        ("gamma_poisson", _gamma_poisson),
    )
}
