"""Natural cubic splines: smooth curves that are straight lines beyond their outer knots.

For the dependence of θ on the size of a store: ``natural_spline(np.log(n), 3)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hbpipe.errors import FitError
from hbpipe.model.family import Array

#: The outer knots, as quantiles: beyond them there are too few stores to bend a curve.
_OUTER = (0.05, 0.95)


@dataclass(frozen=True)
class NaturalSpline:
    """A basis of the natural cubic splines with given knots, without the constant.

    ``knots`` are K ascending numbers; the basis has K − 1 columns (Hastie, Tibshirani and Friedman
    2009, eq. 5.4 and 5.5), in units of the distance between the outer knots.
    """

    knots: tuple[float, ...]

    @property
    def df(self) -> int:
        """The number of columns."""
        return len(self.knots) - 1

    def __call__(self, values: Any) -> Array:
        """Evaluate the basis, (J,) -> (J, df); NaN stays NaN."""
        first, last = self.knots[0], self.knots[-1]
        u = (np.asarray(values, np.float64) - first) / (last - first)
        at = (np.array(self.knots) - first) / (last - first)
        tails = np.maximum(u[:, None] - at, 0.0) ** 3
        bends = (tails[:, :-1] - tails[:, -1:]) / (1.0 - at[:-1])
        return np.column_stack([u, bends[:, :-1] - bends[:, -1:]])


def natural_spline(values: Any, df: int) -> NaturalSpline:
    """Choose knots at quantiles of ``values`` (J,), so that the basis has ``df`` columns.

    Knots are df + 1 quantiles, evenly spaced from 5 % to 95 % (Harrell 2015, section 2.4.6);
    values that are not finite do not count. Where so many values are equal that knots would
    coincide they are quantiles of the distinct values.

    Raises
    ------
    FitError
        If ``df`` is below one, or there are too few distinct values.
    """
    finite = np.asarray(values, np.float64)
    finite = finite[np.isfinite(finite)]
    distinct = np.unique(finite)
    if df < 1 or len(distinct) < df + 1:
        raise FitError(
            f"a spline with {df} columns is wanted of {len(distinct)} distinct values",
            expected="at least one column, and more distinct values than columns",
            remedy="use fewer columns, or the values themselves as categories",
        )
    levels = np.linspace(*_OUTER, df + 1)
    knots = np.quantile(finite, levels)
    if np.any(np.diff(knots) <= 0):
        knots = np.quantile(distinct, levels)
    return NaturalSpline(tuple(knots.tolist()))
