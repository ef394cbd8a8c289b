"""Moments of sample variances: how much the variances of stores differ (Smyth 2004).

With σ_j² ~ scaled-inverse-χ²(d₀, s₀²) the sample variance s_j² of d degrees of freedom is s₀²
times an F variable of (d, d₀), so (Smyth 2004, *Statistical Applications in Genetics and Molecular
Biology* 3(1), section 6.2)

    e_j = log s_j² − ψ(d/2) + log(d/2)   has   E e_j = log s₀² − ψ(d₀/2) + log(d₀/2),
                                              Var e_j = ψ'(d/2) + ψ'(d₀/2).

The e_j are estimates with known sampling variances ψ'(d/2) and a spread ψ'(d₀/2) between stores,
so every estimator of ``moments.py`` serves; plain moments (``hedges``) are Smyth's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from hbpipe.model.family import Array
from hbpipe.model.geometry import lower_median
from hbpipe.model.inverse_gamma.algebra import FEWEST_DEGREES
from hbpipe.model.numerics.grouped import Rows, group

#: Sample variances below this share of the median are taken for it, as in limma: the logarithm
#: of a variance that is 0 by rounding would outweigh all others.
_LEAST_SHARE = 1e-5
_STEPS = 60
#: Squares that are all rounding: a difference of some bits of the mean for every value.
_ROUNDING = 4.0 * float(np.finfo(np.float64).eps)


def log_variances(rows: Rows) -> tuple[Rows, Array]:
    """Log sample variances without their bias, as estimates with sampling variances.

    Parameters
    ----------
    rows : ``n`` values, ``m2`` and ``stores`` alike (R,).

    Returns
    -------
    Rows ``n`` (stores), ``mean`` (e_j) and ``m2`` = 0 of the stores with two values or more, and
    the sampling variance of each.
    """
    # Of an effective n between 1 and 2 the logarithm is known to no digit.
    kept = rows["n"] >= 2
    degrees = rows["n"][kept] - 1.0
    columns = {"n": rows["stores"][kept], "variance": rows["m2"][kept] / degrees}
    seen = Rows(rows.n_pools, rows.pool[kept], columns)
    floor = _LEAST_SHARE * lower_median(seen, "variance", "n")[seen.pool]
    estimates = {
        "n": columns["n"],
        "mean": np.log(np.maximum(columns["variance"], floor)) + log_bias(0.5 * degrees),
        "m2": np.zeros(len(degrees)),
    }
    return Rows(rows.n_pools, seen.pool, estimates), special.polygamma(1, 0.5 * degrees)


def log_bias(half: Array) -> Array:
    """Log a − ψ(a): what the logarithm of a mean square of 2a degrees of freedom is too low by."""
    return np.asarray(np.log(half) - special.digamma(half))


def spread_of_variances(
    estimator: Callable[[Rows, Array], tuple[Array, Array]], rows: Rows, held: Array
) -> tuple[Array, Array]:
    """Estimate x = 1/d₀ and log s₀ of each pool, (G,) each.

    Parameters
    ----------
    estimator : of mean and spread from estimates with sampling variances (``moments.py``).
    rows : as in :func:`log_variances`; a pool without a store of two values gets 0 and 0.
    held : (G,) x where it is known, NaN elsewhere.
    """
    mean, spread = estimator(*log_variances(rows))
    half = np.where(np.isnan(held), trigamma_inverse(spread), 0.5 / np.maximum(held, 1e-300))
    finite = np.isfinite(half)
    bias = np.where(finite, log_bias(np.where(finite, half, 1.0)), 0.0)
    return np.where(np.isnan(held), 0.5 / half, held), 0.5 * (mean - bias)


def trigamma_inverse(value: Array) -> Array:
    """Solve ψ'(y) = value; ∞ where the value is not positive.

    Newton's method on 1/ψ', which is convex and nearly a line (Smyth 2004, appendix): it falls
    monotonically from y = ½ + 1/value. A solution no longer moves once it is found.
    """
    positive = value > 0
    target = np.where(positive, value, 1.0)
    y = 0.5 + 1.0 / target
    moving = positive.copy()
    for _ in range(_STEPS):
        found = special.polygamma(1, y)
        step = np.where(moving, found * (1.0 - found / target) / special.polygamma(2, y), 0.0)
        y = y + step
        moving &= np.abs(step) > 1e-12 * y
        if not moving.any():
            break
    return np.where(positive, y, np.inf)


def powers_at_no_variance(rows: Rows, degrees: float = FEWEST_DEGREES) -> tuple[Array, Array]:
    """Powers of s₀ with which the likelihood falls as s₀ → 0; below 0 it has a pole, (G,) each.

    At fixed κ a store adds s₀^d₀, but n values that are all μ take away s₀^n: the first power
    is the least over values of μ. At fixed s₀²/κ, all spread between the stores, a store adds
    s₀^(1+d₀), but n equal values, whatever they are, take away s₀^(n−1): the second.

    Parameters
    ----------
    rows : as in :func:`log_variances`, and ``mean``.
    degrees : d₀; by default the smallest.
    """
    alike = rows["m2"] <= rows["n"] * np.square(_ROUNDING * rows["mean"])
    groups, row = group(rows.pool[alike], rows["mean"][alike], rows.n_pools)
    taken = (rows["stores"] * (rows["n"] + degrees))[alike]
    most = np.zeros(rows.n_pools)
    np.maximum.at(most, groups.pool, np.bincount(row, taken, len(groups)))
    apart = np.where(alike, 1.0 - rows["n"], 1.0 + degrees)
    return degrees * rows.sum(rows["stores"]) - most, rows.sum(rows["stores"] * apart)
