"""Adjusted likelihoods: estimates of the spread that are never zero.

With a few dozen stores the maximum of the likelihood is at no spread much too often. A penalty on
the spread s (τ², φ or κ), power × log s, is −∞ there and small elsewhere, so that the maximum
moves off the bound, by about one standard error at most:

* ``li_lahiri``: the likelihood times s, power 1 (Li and Lahiri 2010, *Journal of Multivariate
  Analysis* 101, 882-892);
* ``chung``: log √s added, power ½, which is the density gamma(2, rate → 0) of τ (Chung,
  Rabe-Hesketh, Dorie, Gelman and Liu 2013, *Psychometrika* 78, 685-709).

Both papers are about τ². φ of the Beta-Binomial and κ of the Gamma-Poisson take its place: each
is proportional to the variance of θ.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hbpipe.model.family import Array, Degeneracy, Derivatives, Family

#: Name of the adjustment -> power of the spread that multiplies the likelihood.
POWERS = {"li_lahiri": 1.0, "chung": 0.5}
#: Where a start would be on the bound it stands off it, by this part of the spread's scale.
_OFF_THE_BOUND = 1e-3


def log_penalty(family: Family, power: Array, coordinates: Array) -> Derivatives:
    """Evaluate power × log s with its derivatives in the coordinates (G, D).

    ``power`` (G,) is zero for pools whose spread is not estimated; they have no penalty, even on
    the bound. At s = 0 the others have the value −∞, which no walk accepts.
    """
    (spread,) = family.spreads
    used = power > 0
    at = np.where(used, coordinates[:, spread], 1.0)
    # A number in place of 1/0: the value alone already refuses that point.
    inverse = 1.0 / np.where(at > 0, at, 1.0)
    with np.errstate(divide="ignore"):
        value = np.where(used, power * np.log(at), 0.0)
    gradient = np.zeros(coordinates.shape)
    hessian = np.zeros((*coordinates.shape, coordinates.shape[1]))
    gradient[:, spread] = power * inverse
    hessian[:, spread, spread] = -power * inverse**2
    return value, gradient, hessian


def inside(family: Family, start: Array, power: Array, scale: Array) -> Array:
    """Move starts (G, D) off the bound where there is a penalty."""
    (spread,) = family.spreads
    lowest = family.coordinates[spread].lower + _OFF_THE_BOUND * scale[:, spread]
    moved = start.copy()
    moved[:, spread] = np.where(power > 0, np.maximum(start[:, spread], lowest), start[:, spread])
    return moved


def too_few_stores(family: Family, sketch: Any, power: float, *, restricted: bool) -> Degeneracy:
    """Return the pools in which the adjusted likelihood grows without end.

    As τ² → ∞ the likelihood of J stores falls as (τ²)^(−J/2), the restricted one as
    (τ²)^(−(J−1)/2); times (τ²)^power it has a maximum only if that still falls. A spread with an
    upper bound always has one.
    """
    stores = np.asarray(sketch.n_groups)
    needed = int(2 * power) + int(restricted)
    (spread,) = family.spreads
    unbounded = np.isinf(family.coordinates[spread].upper)
    limit = np.full((len(stores), len(family.coordinates)), np.nan)
    limit[:, spread] = family.coordinates[spread].lower
    return Degeneracy(
        "too_few_stores",
        (stores <= needed) & bool(unbounded),
        limit=limit,
        identified=False,
        found=f"{needed} stores or fewer leave the adjusted likelihood without a maximum",
        remedy="pool them with others, use estimator='ml', or give a proper hyperprior for the "
        "spread and estimator='map'",
        unless=(family.coordinates[spread].hyperparameter,),
    )
