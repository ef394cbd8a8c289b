"""A normal law whose variance is unknown: the conjugate algebra, and its coordinates.

    x ~ N(θ, σ²),   θ | σ² ~ N(μ, σ²/κ),   σ² ~ scaled-inverse-χ²(d₀, s₀²)

Prior and posterior have the same four parameters, and θ has Student's law with d₀ degrees of
freedom, location μ and scale s₀/√κ (Gelman et al., *BDA3*, section 3.3).
"""

from __future__ import annotations

import numpy as np
from scipy import special

from hbpipe.model.family import Array, Hyperparameters, Prior, Statistics

NAMES = ("mu", "kappa", "d0", "s0_squared")
#: κ and d₀ reported in place of infinity, where stores do not differ in mean or in variance.
LARGEST = 1e15
#: Up to 2 degrees of freedom no variance has a mean and the θ of a new store no sd; from here on
#: the sd is below 4.6 scales, and a pool of a few stores has no pole at s₀ = 0.
FEWEST_DEGREES = 2.1
X_BOUND = 1.0 / FEWEST_DEGREES
#: s₀ between 1e-33 and 1e33: derivatives, with s₀⁻⁶ in them, are still numbers.
LOG_S0_BOUND = 75.0


def prior(hyperparameters: Hyperparameters) -> Prior:
    """Give the law of (θ, σ²) of a store without data."""
    return {name: np.asarray(hyperparameters[name], np.float64) for name in NAMES}


def update(statistics: Statistics, hyperparameters: Hyperparameters) -> Prior:
    """Posterior of (θ, σ²) of each store (BDA3, section 3.3).

    Written as changes of the prior, so that a store without values keeps it to the last bit and
    κ or d₀ of 1e15 costs no digits.
    """
    before = prior(hyperparameters)
    mu, kappa, d0, s0_squared = (before[name] for name in NAMES)
    n = np.asarray(statistics["n"], np.float64)
    deviation = np.where(n > 0, np.asarray(statistics["mean"], np.float64) - mu, 0.0)
    squares = statistics["m2"] + n / (1.0 + n / kappa) * np.square(deviation)
    return {
        "mu": np.asarray(mu + n / (kappa + n) * deviation),
        "kappa": np.asarray(kappa + n),
        "d0": np.asarray(d0 + n),
        "s0_squared": np.asarray(s0_squared + (squares - n * s0_squared) / (d0 + n)),
    }


def log_normaliser(prior: Prior) -> Array:
    """Evaluate A = log Γ(d₀/2) − ½ d₀ log(½ d₀ s₀²) − ½ log κ, without the constant ½ log 2π."""
    _, kappa, d0, s0_squared = (prior[name] for name in NAMES)
    squares = np.log(0.5 * d0 * s0_squared)
    return np.asarray(special.gammaln(0.5 * d0) - 0.5 * d0 * squares - 0.5 * np.log(kappa))


def student(prior: Prior, exposure: Array | float = np.inf) -> tuple[Array, Array, Array]:
    """Degrees of freedom, location and scale of θ, or of the mean of ``exposure`` new values."""
    mu, kappa, d0, s0_squared = (prior[name] for name in NAMES)
    noise = 1.0 / np.asarray(exposure, np.float64)
    return d0, mu, np.asarray(np.sqrt(s0_squared * (1.0 / kappa + noise)))


def from_coordinates(coordinates: Array) -> dict[str, Array]:
    """(μ, φ, x, log s₀) → mu, kappa = 1/φ, d0 = 1/x, s0_squared; finite where φ or x is 0."""
    phi, x = (np.maximum(coordinates[..., i], 0.5 / LARGEST) for i in (1, 2))
    return {
        "mu": coordinates[..., 0],
        "kappa": np.minimum(1.0 / phi, LARGEST),
        "d0": np.minimum(1.0 / x, LARGEST),
        "s0_squared": np.exp(2.0 * coordinates[..., 3]),
    }


def to_coordinates(hyperparameters: Hyperparameters) -> Array:
    """Mu, kappa, d0, s0_squared → (μ, φ, x, log s₀), NaN for those that are missing."""
    mu, kappa, d0, s0_squared = (
        np.asarray(hyperparameters.get(name, np.nan), np.float64) for name in NAMES
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = np.broadcast_arrays(mu, 1.0 / kappa, 1.0 / d0, 0.5 * np.log(s0_squared))
    return np.stack(parts, axis=-1)
