"""Natural cubic splines: smooth curves that are straight lines beyond their outer knots.

With knots ξ_1 < ... < ξ_K the curve is a constant and K − 1 columns, x and

    d_k(x) − d_{K−1}(x),   d_k(x) = [(x − ξ_k)₊³ − (x − ξ_K)₊³] / (ξ_K − ξ_k),   k = 1 ... K − 2

(Hastie, Tibshirani and Friedman 2009, *Elements of Statistical Learning*, eq. 5.4 and 5.5), the
cubes in units of (ξ_K − ξ_1)², so that every column is in units of x. Two knots leave x alone, a
straight line; fewer leave no column.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hbpipe.model.family import Array

#: Knots closer than this share of the range of all values count as one, and values whose range
#: is below this count as equal.
_APART, _EQUAL = 1e-3, 1e-9


def natural_spline(x: Array, knots: Array) -> Array:
    """Columns (J, max(K − 1, 0)) of the curve at ``x`` (J,), without the constant; knots (K,)."""
    if len(knots) < 2:
        return np.empty((len(x), 0))
    first, last = knots[0], knots[-1]
    beyond = np.maximum(x - last, 0.0) ** 3

    def hinge(knot: float) -> Array:
        return np.asarray((np.maximum(x - knot, 0.0) ** 3 - beyond) / (last - knot))

    end = hinge(knots[-2]) if len(knots) > 2 else x
    curved = [(hinge(knot) - end) / (last - first) ** 2 for knot in knots[:-2]]
    return np.stack([x - first, *curved], axis=1)


def quantile_knots(values: Array, counts: NDArray[np.int64], columns: int) -> Array:
    """Place up to ``columns`` + 1 knots at quantiles of ``values`` with ``counts``.

    The outer ones lie at the 10th and 90th percentile of three knots, the 5th and 95th of up to
    six, the 2.5th and 97.5th of more, the others evenly between (Harrell 2015, *Regression
    Modeling Strategies*, table 2.3). Each is a value that occurs.

    Knots that fall on one value are one knot. Where all do, most values being equal, the least and
    the largest value are left, the knots of a straight line; where all values are equal, there is
    none.
    """
    if not len(values) or not np.ptp(values) > _EQUAL:
        return np.empty(0)
    count = columns + 1
    outer = 0.1 if count <= 3 else 0.05 if count <= 6 else 0.025
    order = np.argsort(values, kind="stable")
    below = np.cumsum(counts[order])
    wanted = np.linspace(outer, 1.0 - outer, count) * below[-1]
    knots = values[order][np.minimum(np.searchsorted(below, wanted), len(below) - 1)]
    apart = np.diff(knots, prepend=-np.inf) > _APART * np.ptp(values)
    if apart.sum() < 2:
        return np.array([values.min(), values.max()], np.float64)
    return np.asarray(knots[apart], np.float64)
