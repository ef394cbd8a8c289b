"""Checks of statistics at the library's door."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.family import Array, Family, Statistic
from hbpipe.model.names import suggestion


class Effective(dict[str, NDArray[Any]]):
    """Statistics divided by an overdispersion: counts are effective sizes and need not be whole."""


def admitted(
    family: Family, statistics: Mapping[str, Any]
) -> tuple[Family, dict[str, NDArray[Any]]]:
    """Check what a caller of the library passes, in whatever form the family takes it.

    Returns
    -------
    The family, of the size that the arrays have, and its statistics.

    Raises
    ------
    StatisticsError
        As :func:`check_statistics`.
    """
    if not isinstance(statistics, Mapping):
        raise StatisticsError(
            f"the statistics are of type {type(statistics).__name__}",
            where={"family": family.name},
            expected=", ".join(item.name for item in family.statistics) + " by name",
            remedy="pass a mapping of name to array, one value per store",
        )
    if family.admit is not None:
        return family.admit(statistics)
    return family, check_statistics(family, statistics)


def check_statistics(family: Family, statistics: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return the statistics as arrays of their declared types, or say what is wrong with them.

    Parameters
    ----------
    family : whose statistics these should be.
    statistics : name -> array-like (J,); names that are not the family's are an error. In
        :class:`Effective` ones counts may have fractions.

    Raises
    ------
    StatisticsError
        For missing or unknown names, other lengths, values that are not numbers, not whole, below
        their lowest, NaN or infinite, or larger than the statistic that bounds them.
    """
    return check_arrays(family.name, family.statistics, statistics)


def check_arrays(
    family: str, items: tuple[Statistic, ...], statistics: Mapping[str, Any]
) -> dict[str, NDArray[Any]]:
    """Check arrays against their declarations, as :func:`check_statistics` does."""
    _check_names(family, items, statistics)
    whole = not isinstance(statistics, Effective)
    arrays = {item.name: _typed(family, item, statistics[item.name], whole) for item in items}
    lengths = {name: len(values) for name, values in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise StatisticsError(
            "statistics have different lengths: "
            + ", ".join(f"{name} {length}" for name, length in lengths.items()),
            where={"family": family},
            expected="one value per store in each",
            remedy="check how these arrays were built",
        )
    for item in items:
        _check_relations(family, item, arrays, whole)
    return arrays


def check_covariates(covariates: Any, stores: int, width: int | None = None) -> Array:
    """Return covariates as (J, P) floats.

    Parameters
    ----------
    covariates : array-like (J, P), None where a fit with covariates is given none.
    stores : J.
    width : P where it is known already.

    Raises
    ------
    StatisticsError
        If they are missing, have another shape, or are not finite.
    """
    expected = f"({stores}, {'P' if width is None else width}), one row for each store"
    if covariates is None:
        raise StatisticsError(
            "there are no covariates, and the prior mean of this fit depends on them",
            expected=expected,
            remedy="pass `covariates`, coded as those of the fit",
        )
    _refuse_masked(covariates, {"argument": "covariates"})
    x = np.asarray(covariates)
    wrong = x.ndim != 2 or x.dtype.kind not in "biuf" or len(x) != stores
    if wrong or x.shape[1] == 0 or width not in (None, x.shape[1]):
        raise StatisticsError(
            f"the covariates are an array of type {x.dtype} and shape {x.shape}",
            expected=f"numbers, {expected}",
            remedy="pass a matrix with the intercept, a column of ones, included",
        )
    x = x.astype(np.float64)
    if not np.isfinite(x).all():
        store, column = np.argwhere(~np.isfinite(x))[0].tolist()
        raise StatisticsError(
            f"a covariate is {x[store, column]}",
            where={"store": store, "column": column},
            expected="finite numbers",
            remedy="leave these stores out, or fill in what is missing",
        )
    return x


def check_link(family: Family, link: str | None) -> None:
    """Raise FitError for a link that is not the family's."""
    own = None if family.regression is None else family.regression.link
    if link is not None and link != own:
        raise FitError(
            f"{family.name} has no link {link!r}",
            expected="no link" if own is None else f"{own}, on which its prior is conjugate",
            remedy="leave the link out",
        )


def _check_names(family: str, items: tuple[Statistic, ...], statistics: Mapping[str, Any]) -> None:
    names = [item.name for item in items]
    for name in statistics:
        if name not in names:
            raise StatisticsError(
                f"{family} has no statistic {name!r}",
                expected=", ".join(names),
                remedy=suggestion(name, names),
            )
    missing = [name for name in names if name not in statistics]
    if missing:
        raise StatisticsError(
            f"the statistics of {family} lack {', '.join(missing)}",
            expected=", ".join(names),
            remedy="pass every statistic of the family, one value per store",
        )


def _typed(family: str, item: Statistic, given: Any, whole: bool) -> NDArray[Any]:
    where = {"family": family, "statistic": item.name}
    _refuse_masked(given, where)
    values = np.asarray(given)
    if values.ndim == 0 or values.shape[1:] != item.shape or values.dtype.kind not in "biuf":
        axes = "".join(f", {length}" for length in item.shape) or ","
        raise StatisticsError(
            f"found an array of type {values.dtype} and shape {values.shape}",
            where=where,
            expected=f"numbers of shape (J{axes}), the first axis one per store",
            remedy="pass an array of numbers of this shape",
        )
    if values.dtype.kind == "f":
        _refuse(np.isnan(values), values, where, "is not a number", "numbers")
        infinite = np.isinf(values) & (values != item.absent)
        _refuse(infinite, values, where, "is infinite", "finite numbers")
    if item.lowest is not None:
        low = values <= item.lowest if item.exclusive else values < item.lowest
        least = f"{'above' if item.exclusive else 'at least'} {item.lowest:g}"
        _refuse(low, values, where, "is impossible", f"values {least}")
    if item.dtype == "int64" and whole:
        _refuse(values != np.floor(values), values, where, "is not whole", "whole numbers")
        _refuse(values.astype(np.float64) >= 2.0**63, values, where, "is too large", "below 9.2e18")
    return values.astype(item.dtype if whole else np.float64)


def _refuse_masked(given: Any, where: dict[str, Any]) -> None:
    """Raise for masked values: an array without its mask would show what lies beneath."""
    if np.ma.is_masked(given):
        raise StatisticsError(
            f"{int(np.sum(np.ma.getmaskarray(given)))} values are masked",
            where=where,
            expected="an array without masked values",
            remedy="leave these stores out, or give them no events (0 trials, exposure or n)",
        )


def _check_relations(
    family: str, item: Statistic, arrays: dict[str, NDArray[Any]], whole: bool
) -> None:
    values = arrays[item.name]
    where = {"family": family, "statistic": item.name}
    if item.at_most:
        _refuse(
            values > arrays[item.at_most],
            values,
            where,
            f"is more than {item.at_most} of the same store",
            f"{item.name} ≤ {item.at_most}",
        )
    if item.needs:
        # Sizes divided by an overdispersion may be below the number of events.
        enough = item.needs_above if whole else 0.0
        _refuse(
            (values > 0) & ~(arrays[item.needs] > enough),
            values,
            where,
            f"comes without {item.needs}" + (f" above {enough:g}" if enough else ""),
            f"{item.needs} above {enough:g} wherever {item.name} is positive",
        )


def _refuse(
    bad: NDArray[np.bool_], values: NDArray[Any], where: dict[str, Any], problem: str, expected: str
) -> None:
    if np.any(bad):
        store = int(np.argwhere(bad)[0, 0])
        count = int(np.sum(bad))
        others = f" (and {count - 1} more)" if count > 1 else ""
        raise StatisticsError(
            f"{values[bad][0]} {problem}{others}",
            where={**where, "store": store},
            expected=expected,
            remedy="correct or leave out these stores before the fit",
        )
