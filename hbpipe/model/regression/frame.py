"""The coefficients of a regression at the mean predictors of its pool.

With the constant 1 among the predictors, and x̄ their means over all rows of a pool,

    x'b = c_0 + Σ_k (x_k − x̄_k) b_k,        c_0 = x̄'b,

so that c = C b, where C is the identity but for the row of the constant, which is x̄'. A year or
a price in cents is far from 0: intercepts there, b_0, are extrapolations, all but a multiple of
the slope, and their spread and correlation say nothing of the stores. Those of c do, and they are
the same whatever the origin of a predictor. C − I has one row, zero where the constant is, so
C⁻¹ = 2 I − C and |C| = 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array
from hbpipe.model.marginal.designs import RegressionSketch
from hbpipe.model.regression.relative import split

#: Deviations of so many ulps of the mean are rounding.
_ROUNDING = 8.0 * float(np.finfo(np.float64).eps)


def frame_of(sketch: RegressionSketch, held: Array | None = None) -> Array:
    """Return C of each pool, (G, P, P), among the coefficients that vary between stores.

    It is the identity where no predictor that varies between stores is constant, and where an sd
    of the user's own coefficients is known, which says little of those at the means.

    Parameters
    ----------
    sketch
        It gives the means.
    held
        (D,) coordinates that are known, NaN where free; None where all are free.
    """
    identity = np.eye(sketch.size)
    loading = np.full_like(identity, np.nan) if held is None else split(held, sketch.size)[1]
    varies = np.isin(np.arange(sketch.size), varying(loading))
    among = np.tril(np.outer(varies, varies))
    if not np.isnan(loading[among]).all():
        return np.repeat(identity[None], sketch.n_pools, axis=0)
    means = np.asarray(sketch.together["means"], np.float64)[:, :-1]
    constant = _constant(sketch, means) & varies
    constant &= np.cumsum(constant, axis=1) == 1
    unit = np.sum(means * constant, axis=1, keepdims=True)
    ratios = np.where(varies & ~constant, means / np.where(unit != 0.0, unit, 1.0), 0.0)
    return identity + constant[:, :, None] * ratios[:, None, :]


def inverse_of_frame(frame: Array) -> Array:
    """Return C⁻¹ (..., P, P)."""
    return 2.0 * np.eye(frame.shape[-1]) - frame


def varying(loading: Array) -> tuple[int, ...]:
    """Coefficients that are not held at no spread, of Λ (P, P) with NaN where it is free."""
    return tuple(k for k in range(len(loading)) if np.any(loading[k, : k + 1] != 0))


def _constant(sketch: RegressionSketch, means: Array) -> NDArray[np.bool_]:
    """Whether a predictor is the same in all rows of a pool, and not 0, (G, P)."""
    squares = np.einsum("gkk->gk", np.asarray(sketch.together["cross"]))[:, :-1]
    rounding = _ROUNDING * np.abs(means) * np.sqrt(sketch.n_values)[:, None]
    return np.asarray((np.sqrt(np.maximum(squares, 0.0)) <= rounding) & (means != 0.0))
