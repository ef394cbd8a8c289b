"""Checks of what callers ask of posteriors: levels, exposures, points."""

from __future__ import annotations

from typing import Any

import numpy as np

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.family import Array, Family


def _numbers(values: Any, name: str) -> Array:
    """Return what a caller passed as floats; FitError for texts, None and ragged lists."""
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise FitError(
            f"the {name} are {values!r}",
            expected="a number, or an array of numbers",
            remedy="pass numbers",
        ) from None


def checked_levels(quantiles: float | tuple[float, ...]) -> Array:
    """Return one level or several as (Q,); FitError unless strictly between 0 and 1."""
    levels = _numbers(quantiles, "quantile levels").reshape(-1)
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
    found = _numbers(values, name)
    shape = (stores,) if terms is None else (stores, terms)
    if found.shape not in ((), (1,), shape, shape[1:]):
        raise StatisticsError(
            f"{name} have the shape {found.shape}",
            expected=f"one number, or {shape}, one for each store"
            + (" and term" if terms is not None else ""),
            remedy="for several values of each store, ask once for each value",
        )
    return np.broadcast_to(found, shape)


def checked_exposure(exposure: Any, stores: int, family: Family) -> Array:
    """Return exposures as (J,); StatisticsError where one is negative, infinite or NaN.

    For some families 0 is an error too: a mean of no values is nothing. Where the family has an
    ``exposure_width`` P they are the predictors of the next event, (J, P), or (P,) for all
    stores, of any sign.
    """
    width, empty = family.exposure_width, family.empty_exposure
    if width is not None:
        predictors = _numbers(exposure, "predictors of the next event")
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
    possible = np.isfinite(amount) & ((amount >= 0) if empty else (amount > 0))
    if len(wrong := np.flatnonzero(~possible)):
        raise StatisticsError(
            f"an exposure is {amount[wrong[0]]:g}",
            where={"store": int(wrong[0])},
            expected=f"a finite number that is {'not negative' if empty else 'positive'}",
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
