"""Checks of a fit: whether θ depends on the size of a store.

A prior mean that all stores share assumes that large and small stores are alike. Where they are
not (large stores convert better), small stores are pulled to the wrong place. The check is Rao's
(1948) score test of log n as one more covariate: with the score S in its coefficient and the
information V about it that the other hyperparameters leave, z = S/√V, and S/V is the first step
of an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Codes, Family, Statistics
from hbpipe.model.fits import Fit, PoolFits
from hbpipe.model.geometry import geometry_of
from hbpipe.model.moments import ratio
from hbpipe.model.optimise import Curvature
from hbpipe.model.statistics import check_covariates, check_statistics

#: A p-value below which covariates on size are advised.
SIGNIFICANT = 0.01
#: Information that is left of all that there is, below which nothing can be told.
_LEAST = 1e-8


@dataclass(frozen=True)
class PrecisionDependence:
    """How the location of stores depends on their size n; numbers, or (G,) for pools.

    ``slope`` is the change of the location, on the line of the family's link, for one unit of
    log n, ``error`` its standard error (infinite where it cannot be told), ``z`` their ratio and
    ``p`` the two-sided probability of so large a one. ``advice`` says what to do, for each pool.
    n is trials, exposure, values, or 1/variance.
    """

    slope: Array
    error: Array
    z: Array
    p: Array
    advice: tuple[str, ...]


def precision_dependence(
    fit: Fit, statistics: Mapping[str, Any], *, covariates: Any = None
) -> PrecisionDependence:
    """Test whether θ depends on the size of a store beyond what the fit accounts for.

    Parameters
    ----------
    fit
        From :func:`hbpipe.fit`, with covariates or without.
    statistics
        The stores it was fitted to, name -> (J,).
    covariates
        (J, P), those of the fit.

    Returns
    -------
    PrecisionDependence
        Arrays of length one.

    Raises
    ------
    StatisticsError
        If statistics or covariates are impossible.
    FitError
        If the family takes no covariates.
    """
    arrays: dict[str, NDArray[Any]] = check_statistics(fit.pools.model, statistics)
    stores = len(next(iter(arrays.values())))
    if fit.pools.covariates is not None:
        arrays["covariates"] = check_covariates(covariates, stores, fit.pools.covariates)
    return precision_dependence_pools(fit.pools, arrays, np.zeros(stores, np.int64))


def precision_dependence_pools(
    fits: PoolFits, statistics: Statistics, pools: Codes
) -> PrecisionDependence:
    """Test every pool of a batch; ``statistics`` with ``covariates`` where the fits have them."""
    base = get_family(fits.family, fits.size)
    score, information, total = _efficient_score(base, fits, statistics, np.asarray(pools))
    known = information > _LEAST * total
    slope = np.where(known, ratio(score, information), 0.0)
    error = np.where(known, 1.0 / np.sqrt(np.where(known, information, 1.0)), np.inf)
    z = np.where(known, slope / np.where(known, error, 1.0), 0.0)
    p = 2.0 * special.ndtr(-np.abs(z))
    found = zip(slope.tolist(), error.tolist(), z.tolist(), p.tolist(), strict=True)
    advice = tuple(_advise(*numbers) for numbers in found)
    return PrecisionDependence(slope, error, z, p, advice)


def _efficient_score(
    base: Family, fits: PoolFits, statistics: Statistics, pools: Codes
) -> tuple[Array, Array, Array]:
    """Score and information of the coefficient of log n, the other hyperparameters estimated.

    Returns
    -------
    Score (G,), information (G,), and the information if the others were known (G,).
    """
    groups, width = len(fits.status), fits.covariates or 1
    size, _ = geometry_of(base).sizes(statistics)
    seen = size > 0
    pool = pools[seen]
    log_size = np.log(size[seen])
    mean = ratio(np.bincount(pool, log_size, groups), np.bincount(pool, minlength=groups))
    x = np.ones((len(pool), 1))
    if fits.covariates is not None:
        x = np.asarray(statistics["covariates"], np.float64)[seen]
    own = {item.name: np.asarray(statistics[item.name])[seen] for item in base.statistics}
    own["covariates"] = np.column_stack([x, log_size - mean[pool]])
    wide = get_family(base.name, base.size, width + 1)
    at = np.insert(fits.coordinates, width, 0.0, axis=1)
    _, gradient, hessian = wide.log_marginal(wide.compress(own, pool, groups), at)
    others = np.delete(np.arange(at.shape[1]), width)
    # Held hyperparameters and those on a bound were not estimated.
    estimated = np.einsum("gdd->gd", fits.covariance) > 0
    mixed = np.where(estimated, hessian[:, width, others], 0.0)
    slopes = np.where(estimated, gradient[:, others], 0.0)
    scale = np.ones_like(mixed)
    curvature = Curvature.of(hessian[:, others][:, :, others], slopes, scale, estimated)
    # −H is the information, so both signs cancel in the products below.
    along = curvature.solve(mixed)
    total = -hessian[:, width, width]
    score = gradient[:, width] + np.sum(along * slopes, axis=1)
    return score, total - np.sum(along * mixed, axis=1), total


def _advise(slope: float, error: float, z: float, p: float) -> str:
    if not np.isfinite(error):
        return (
            "nothing can be said of size: stores are alike in it, or log n is a covariate already"
        )
    doubled = np.log(2.0) * np.array([slope, error])
    if p >= SIGNIFICANT:
        return (
            "no covariate on size is needed: a store twice as large has a prior mean "
            f"{doubled[0]:+.2g} away on its line (± {doubled[1]:.2g}, z = {z:.1f})"
        )
    return (
        "stores depend on their size: one twice as large has a prior mean "
        f"{doubled[0]:+.2g} away on its line (± {doubled[1]:.2g}, z = {z:.1f}); add log n, or a "
        "spline of it, to the covariates"
    )
