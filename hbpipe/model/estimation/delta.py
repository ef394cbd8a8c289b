"""Standard deviations of named hyperparameters by the delta method."""

from __future__ import annotations

import numpy as np

from hbpipe.model.family import Array
from hbpipe.model.fits import PoolFits

_STEP = 1e-6


def standard_deviations(fits: PoolFits) -> dict[str, Array]:
    """Return the standard deviation of each named hyperparameter, in its own shape (G, ...).

    With Jacobian J of the names in the optimiser's coordinates and covariance C there, the
    variance is J C Jᵀ (Oehlert 1992). Held and bounded coordinates have no variance in C and
    add none; a name that depends on those alone gets 0.
    """
    family, x = fits.model, fits.coordinates
    lower, upper = family.bounds
    jacobian: dict[str, list[Array]] = {name: [] for name in fits.hyperparameters}
    for axis in range(x.shape[1]):
        step = _STEP * (1.0 + np.abs(x[:, axis]))
        below, above = x.copy(), x.copy()
        below[:, axis] = np.maximum(x[:, axis] - step, lower[axis])
        above[:, axis] = np.minimum(x[:, axis] + step, upper[axis])
        low, high = family.from_coordinates(below), family.from_coordinates(above)
        used = fits.covariance[:, axis, axis] > 0
        width = np.where(used, above[:, axis] - below[:, axis], 1.0)
        for name, slopes in jacobian.items():
            risen = (high[name] - low[name]).T / width
            slopes.append(np.where(used, risen, 0.0).T)
    return {
        name: _beside(
            np.sqrt(np.maximum(_quadratic(np.stack(slopes, axis=1), fits.covariance), 0.0)),
            fits.hyperparameters[name],
        )
        for name, slopes in jacobian.items()
    }


def _beside(sd: Array, values: Array) -> Array:
    """Add zeros for components that have no coordinates, (G, 1) beside (G, K)."""
    if sd.shape == np.shape(values):
        return sd
    found = np.zeros(np.shape(values))
    found[:, : sd.shape[1]] = sd
    return found


def _quadratic(slopes: Array, covariance: Array) -> Array:
    return np.asarray(np.einsum("gd...,gde,ge...->g...", slopes, covariance, slopes))
