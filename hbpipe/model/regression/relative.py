"""Coordinates of a covariance between stores: lme4's relative Cholesky factor.

Σ = σ² Λ Λ' with Λ lower triangular and its diagonal ≥ 0 (Bates, Mächler, Bolker and Walker 2015,
*Journal of Statistical Software* 67(1), section 2.2). The coordinates of P coefficients are μ (P),
the lower triangle of Λ column by column, and log σ. They are unbounded but for a convention: a
column of Λ with its sign changed is the same model, so nothing happens at a diagonal element of 0
that does not happen elsewhere, and the gradient along it vanishes there by symmetry.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError
from hbpipe.model.family import Array, Hyperparameters
from hbpipe.model.numerics.small import diagonal, semidefinite

#: Elements of Λ below this share of the size that counts as none, beside a lost diagonal element.
_ROUNDING = 1e-6
#: A coefficient whose sd is this many σ does not vary.
_NONE = 1e-30
#: A pivot of Σ below this share of its variance is none.
_NO_PIVOT = 1e-14


def triangle(size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the lower triangle, column by column."""
    columns, rows = np.triu_indices(size)
    return rows, columns


def split(coordinates: Array, size: int) -> tuple[Array, Array, Array]:
    """Coordinates (..., D) → μ (..., P), Λ (..., P, P), log σ (...)."""
    loading = np.zeros((*coordinates.shape[:-1], size, size))
    rows, columns = triangle(size)
    loading[..., rows, columns] = coordinates[..., size:-1]
    return coordinates[..., :size], loading, coordinates[..., -1]


def named(coordinates: Array, size: int) -> dict[str, Array]:
    """Coordinates → mu, Sigma, sigma, and Sigma once more as tau and correlation.

    The correlation with a coefficient that does not vary is given as 0.
    """
    mu, loading, log_sigma = split(coordinates, size)
    sigma = np.exp(log_sigma)
    length, correlation = separated(loading)
    # A coefficient that does not vary does so whatever σ is, known or not.
    tau = np.where(length == 0, 0.0, length * sigma[..., None])
    covariance = tau[..., :, None] * correlation * tau[..., None, :]
    return {
        "mu": mu.copy(),
        "Sigma": covariance,
        "sigma": sigma,
        "tau": tau,
        "correlation": correlation,
    }


def separated(loading: Array) -> tuple[Array, Array]:
    """Sds (..., P) of Λ Λ', in units of σ, and correlations (..., P, P)."""
    length = np.sqrt(np.sum(np.square(loading), axis=-1))
    direction = loading / np.where(length == 0, 1.0, length)[..., None]
    correlation = direction @ np.swapaxes(direction, -1, -2)
    own = np.arange(loading.shape[-1])
    correlation[..., own, own] = 1.0
    return length, correlation


def coordinates_of(hyperparameters: Hyperparameters, size: int) -> Array:
    """Named hyperparameters → coordinates (..., D), NaN for what they leave open.

    Λ needs ``sigma`` with ``Sigma``, or with ``tau`` and ``correlation``. Of ``tau`` alone a 0
    determines its row and column of Λ, and with ``sigma`` the first element that is not 0 does.

    Raises
    ------
    FitError
        If a value has not the shape that P coefficients need.
    """
    given = {name: np.asarray(value, np.float64) for name, value in hyperparameters.items()}
    _check_shapes(given, size)
    mu = given.get("mu", np.full(size, np.nan))
    sigma = given.get("sigma", np.array(np.nan))
    tau = given.get("tau", np.full(size, np.nan))
    covariance = given.get("Sigma")
    if covariance is None:
        correlation = given.get("correlation", np.full((size, size), np.nan))
        covariance = tau[..., :, None] * correlation * tau[..., None, :]
    loading = loading_of(covariance, sigma)
    partial = _partial_loading(*np.broadcast_arrays(tau, sigma[..., None]))
    loading, partial = np.broadcast_arrays(loading, partial)
    rows, columns = triangle(size)
    theta = np.where(np.isnan(loading), partial, loading)[..., rows, columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_sigma = np.log(sigma)[..., None]
    shape = np.broadcast_shapes(mu.shape[:-1], theta.shape[:-1], log_sigma.shape[:-1])
    parts = [np.broadcast_to(part, (*shape, part.shape[-1])) for part in (mu, theta, log_sigma)]
    return np.concatenate(parts, axis=-1)


def _check_shapes(given: dict[str, Array], size: int) -> None:
    vector, matrix = (size,), (size, size)
    wanted = {"mu": vector, "tau": vector, "Sigma": matrix, "correlation": matrix, "sigma": ()}
    for name, value in given.items():
        shape = wanted[name]
        if value.shape[value.ndim - len(shape) :] != shape or value.ndim < len(shape):
            raise FitError(
                f"{name} has the shape {value.shape}",
                where={"coefficients": size},
                expected=f"{shape}, or one of these for each pool",
                remedy="give one number for each predictor, in their order; NaN leaves one free",
            )


def loading_of(covariance: Array, sigma: Array) -> Array:
    """Λ (..., P, P) of Σ = σ² Λ Λ'; NaN where either is unknown."""
    relative = covariance / np.square(sigma)[..., None, None]
    known = np.all(np.isfinite(relative), axis=(-2, -1), keepdims=True)
    front = np.moveaxis(np.where(known, relative, 0.0), (-2, -1), (0, 1))
    lower = np.moveaxis(semidefinite(front, _NO_PIVOT * diagonal(front)), (0, 1), (-2, -1))
    return np.where(known, lower, np.nan)


def _partial_loading(tau: Array, sigma: Array) -> Array:
    """Read what τ (..., P) says of Λ by itself: rows and columns of zeros, and the first other.

    A coefficient that does not vary has a row of zeros; its column then only turns the columns
    after it, and zeros are as good there as anything.
    """
    fixed = tau == 0
    loading = np.where(fixed[..., :, None] | fixed[..., None, :], 0.0, np.nan)
    for k in range(tau.shape[-1]):
        alone = np.all(fixed[..., :k], axis=-1) & ~fixed[..., k]
        own = np.where(alone, tau[..., k] / sigma[..., k], loading[..., k, k])
        loading[..., k, k] = own
    return loading


def folded(coordinates: Array, tolerance: Array, size: int) -> tuple[Array, NDArray[np.bool_]]:
    """Return the same models with the signs and zeros of lme4: its own columns for each rank.

    Signs of columns are turned so that the diagonal is ≥ 0. Where a diagonal element is at most
    ``tolerance`` in size, Λ has lost a rank: the element becomes 0, and what is below it is
    turned into the columns after it (Givens rotations from the right change Λ, not Λ Λ').

    Parameters
    ----------
    coordinates : (G, D).
    tolerance : (G, D), used along the diagonal of Λ.

    Returns
    -------
    Coordinates (G, D), and which of them belong to a column that is now zero (G, D).
    """
    _, loading, _ = split(coordinates, size)
    _, small, _ = split(tolerance, size)
    lost = np.zeros((len(loading), size), bool)
    for k in range(size):
        lost[:, k] = np.abs(loading[:, k, k]) <= small[:, k, k]
        loading[lost[:, k], k, k] = 0.0
        # What is left of a coefficient that does not vary is rounding.
        noise = np.abs(loading[:, k]) <= _ROUNDING * small[:, k, k, None]
        loading[:, k] = np.where(lost[:, k, None] & noise, 0.0, loading[:, k])
        for later in range(k + 1, size):
            _turn(loading, k, later, lost[:, k])
    signs = np.where(np.einsum("gkk->gk", loading) < 0, -1.0, 1.0)
    loading *= signs[:, None, :]
    rows, columns = triangle(size)
    out = coordinates.copy()
    out[:, size:-1] = loading[:, rows, columns]
    pinned = np.zeros(out.shape, bool)
    pinned[:, size:-1] = lost[:, columns]
    return out, pinned


def _turn(loading: Array, k: int, later: int, where: NDArray[np.bool_]) -> None:
    """Rotate column k into a later one so that its element in the later's row vanishes."""
    own, other = loading[:, later, later], loading[:, later, k]
    length = np.hypot(own, other)
    turning = where & (other != 0)
    safe = np.where(turning, length, 1.0)
    cosine = np.where(turning, own / safe, 1.0)[:, None]
    sine = np.where(turning, other / safe, 0.0)[:, None]
    kept, lost = loading[:, :, later].copy(), loading[:, :, k].copy()
    loading[:, :, later] = cosine * kept + sine * lost
    loading[:, :, k] = cosine * lost - sine * kept
    loading[turning, later, k] = 0.0


def lost_ranks(
    coordinates: Array, on_bound: NDArray[np.bool_], size: int
) -> tuple[tuple[str, ...], ...]:
    """Name what rests on a bound.

    ``tau[k]`` where a coefficient does not vary at all, ``Sigma`` where one varies only with
    those before it, ``sigma``.

    Parameters
    ----------
    coordinates : (G, D), folded.
    on_bound : (G, D), which of them are estimated and on a bound.
    """
    _, loading, _ = split(coordinates, size)
    _, marked, _ = split(on_bound.astype(np.float64), size)
    found = []
    for g in range(len(coordinates)):
        lost = [k for k in range(size) if marked[g, k, k]]
        still = [f"tau[{k}]" for k in lost if np.all(np.abs(loading[g, k]) < _NONE)]
        singular = ["Sigma"] if len(still) < len(lost) else []
        found.append((*still, *singular, *(["sigma"] if on_bound[g, -1] else [])))
    return tuple(found)
