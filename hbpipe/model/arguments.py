"""Checks of what callers ask of posteriors: levels, exposures, points."""

from __future__ import annotations

from typing import Any

import numpy as np

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.family import Array


def checked_levels(quantiles: float | tuple[float, ...]) -> Array:
    """Return one level or several as (Q,); FitError unless strictly between 0 and 1."""
    levels = np.asarray(quantiles, dtype=float).reshape(-1)
    if not np.all((levels > 0) & (levels < 1)):
        raise FitError(
            f"the quantile levels are {tuple(levels.tolist())}",
            expected="numbers strictly between 0 and 1",
            remedy="write 0.025 for 2.5 %",
        )
    return levels


def one_per_store(values: Any, stores: int, name: str, terms: int | None = None) -> Array:
    """Return a number, or one for each store, as (J,); StatisticsError for any other shape.

    For stores with several terms, one for each term, or for each store and term: (J, T).
    """
    found = np.asarray(values, dtype=float)
    shape = (stores,) if terms is None else (stores, terms)
    if found.shape not in ((), (1,), shape, shape[1:]):
        raise StatisticsError(
            f"{name} have the shape {found.shape}",
            expected=f"one number, or {shape}, one for each store"
            + (" and term" if terms is not None else ""),
            remedy="for several values of each store, ask once for each value",
        )
    return np.broadcast_to(found, shape)


def checked_exposure(exposure: Any, stores: int, width: int | None = None) -> Array:
    """Return exposures as (J,); StatisticsError where one is negative, infinite or NaN.

    With a ``width`` P they are the predictors of the next event, (J, P), or (P,) for all stores,
    of any sign.
    """
    if width is not None:
        predictors = np.asarray(exposure, dtype=float)
        shapes = ((width,), (stores, width))
        if predictors.shape not in shapes or not np.isfinite(predictors).all():
            raise StatisticsError(
                f"the predictors of the next event have the shape {predictors.shape}, or are not "
                "all finite",
                expected=f"finite numbers, {shapes[0]} or {shapes[1]}, one row for each store",
                remedy="give every predictor of the fit in its order, the constant 1 included",
            )
        return np.broadcast_to(predictors, shapes[1])
    amount = one_per_store(exposure, stores, "exposures")
    if len(wrong := np.flatnonzero(~(np.isfinite(amount) & (amount >= 0)))):
        raise StatisticsError(
            f"an exposure is {amount[wrong[0]]:g}",
            where={"store": int(wrong[0])},
            expected="a finite number that is not negative",
            remedy="pass the size of the next observation",
        )
    return amount


def quantile_names(levels: Array) -> list[str]:
    """Name the columns of the levels, and refuse levels that differ too little to have two."""
    names = [f"q{level:g}" for level in levels.tolist()]
    for name in names:
        shared = [
            level for level, other in zip(levels.tolist(), names, strict=True) if other == name
        ]
        if len(shared) > 1:
            raise FitError(
                f"the quantile levels {shared} share the column {name}",
                expected="levels that differ in their first six digits",
                remedy="leave one out, or ask for it by quantile()",
            )
    return names
