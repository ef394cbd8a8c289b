"""What the data of a regression with random coefficients cannot tell."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array, Degeneracy
from hbpipe.model.gaussian import one_store
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.marginal.factors import Factors, factors_of
from hbpipe.model.regression.swamy import (
    LOG_SIGMA_BOUND,
    least_squares_of,
    log_sigma_of,
    total_variance,
)


def degeneracies(sketch: RegressionSketch) -> tuple[Degeneracy, ...]:
    """No row; collinear predictors; no row to spare for σ; perfect fits; a single store."""
    stores, size = sketch.n_groups, sketch.size
    together = factors_of(sketch.together)
    limit = np.zeros((sketch.n_pools, size + size * (size + 1) // 2 + 1))
    alike = np.full(limit.shape, np.nan)
    alike[:, size:-1] = 0.0
    pooled = limit.copy()
    pooled[:, :size] = least_squares_of(together)
    pooled[:, -1] = log_sigma_of(total_variance(sketch))
    return (
        Degeneracy(
            "no_data",
            stores == 0,
            limit=limit,
            identified=False,
            found="no store has a row",
            remedy="leave this pool out, or fix mu, Sigma and sigma",
        ),
        *_collinear(together, stores > 0, pooled),
        *_without_sigma(sketch, pooled),
        one_store(stores == 1, alike, has="rows"),
    )


def _collinear(together: Factors, seen: NDArray[np.bool_], limit: Array) -> list[Degeneracy]:
    """One case for each predictor that adds nothing to those before it, in some pool."""
    return [
        Degeneracy(
            "collinear",
            where & seen,
            limit=limit,
            identified=False,
            found=f"predictor {number} (from 0) is constant, a combination of those before it, or "
            "varies by less than 1e-5 of its size",
            remedy="leave it out, or subtract a typical value from it (a year: year - 2020)",
            prior_helps=False,
        )
        for number, where in enumerate(together.collinear)
        if np.any(where & seen)
    ]


def _without_sigma(sketch: RegressionSketch, pooled: Array) -> tuple[Degeneracy, Degeneracy]:
    """σ and Σ cannot be told apart; or rows do not differ from their store's own plane.

    The first is where lme4 refuses: no more rows than coefficients of stores.
    """
    pole = pooled.copy()
    pole[:, -1] = -LOG_SIGMA_BOUND
    return (
        Degeneracy(
            "sigma_unidentified",
            (sketch.freedom == 0) & (sketch.n_groups > 0),
            limit=pooled,
            identified=False,
            found="no store has more rows than it has predictors that vary there, so sigma and "
            "Sigma cannot be told apart",
            remedy="hold sigma (fixed={'sigma': ...}), widen the window, or give a proper "
            "hyperprior for sigma and estimator='map'",
            unless=("sigma",),
        ),
        Degeneracy(
            "no_variation_within",
            (sketch.freedom > 0) & (sketch.within == 0),
            limit=pole,
            identified=False,
            found="every store's rows lie on its own plane, so sigma has no estimate above 0",
            # The likelihood has a pole at σ = 0, which few hyperpriors outweigh.
            remedy="hold sigma (fixed={'sigma': ...}) or widen the window",
            unless=("sigma",),
        ),
    )


def integrable(sketch: RegressionSketch, held: Array) -> NDArray[np.bool_]:
    """Whether μ is determined, and σ is known or kept from 0 and ∞, (G,).

    The latter where rows differ from their store's own plane, or, where every store has its own,
    more rows than coefficients differ from the one plane of all.
    """
    together = factors_of(sketch.together)
    known = ~np.isnan(held[:, -1])
    determined = ~np.any(together.collinear, axis=0) & (sketch.n_groups > 0)
    differ = np.where(sketch.freedom > 0, sketch.within > 0, together.residual > 0)
    return np.asarray(determined & (known | (differ & (sketch.n_values > sketch.size))))
