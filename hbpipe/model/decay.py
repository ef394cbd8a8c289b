"""Decay: what was observed a half-life ago counts half, as a power prior on the days before today.

The likelihood of a day of age a is raised to the power w = 2^(−a/h) (Ibrahim and Chen 2000,
*Statistical Science* 15; discounting in West and Harrison 1997, *Bayesian Forecasting and Dynamic
Models*, section 6.3): of conjugate families the day's sizes are multiplied by w. A prior is not
observed and does not age: a store silent for long returns to its pool's.

Decayed sums claim less than they tell, and unevenly: see ``kish.py``. A fit that takes them as
counts finds rates that vary less than such counts should, which looks like no spread. So sums are
scaled, in two ways that are the same for a store whose size is even over the days:

* for the fit by the store's own factor Σ w n/Σ w² n: its rate then has the variance that the
  likelihood expects of it, whenever its events were;
* for the update by that, but by no more than the factor Σ w/Σ w² of the days. The former gives the
  events of a store that fell silent the weight of today's; with the latter they fade.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hbpipe.errors import FitError, StatisticsError
from hbpipe.model.families import get_family
from hbpipe.model.family import Family
from hbpipe.model.kish import WeightedSums
from hbpipe.model.statistics import Effective, admitted

__all__ = ["Decayed", "decay", "factor_of_days", "weight"]


@dataclass(frozen=True)
class Decayed:
    """Decayed statistics of J stores: what hyperparameters are fitted to, and stores updated with.

    Both are made for :func:`hbpipe.fit` and :func:`hbpipe.posterior`.
    """

    for_fit: Effective
    for_update: Effective


def weight(age: float, half_life: float) -> float:
    """Return what an event of this age counts, 2^(−age/half-life); both in days."""
    return float(2.0 ** (-age / half_life))


def factor_of_days(ages: range, half_life: float) -> float:
    """Return Σ w/Σ w² over days of these ages; 1 without any."""
    weights = np.array([weight(age, half_life) for age in ages])
    return float(np.sum(weights) / np.sum(weights**2)) if len(weights) else 1.0


def of_days(sums: WeightedSums, factor: float) -> Decayed:
    """Scale decayed sums for the fit, and with at most the ``factor`` of the days for updates."""
    return Decayed(sums.effective(), sums.effective(factor))


def decay(
    family: str | Family,
    days: Mapping[str, Any],
    stores: Any,
    ages: Any,
    *,
    half_life: float,
    window: int | None = None,
    n_stores: int | None = None,
) -> Decayed:
    """Decay the statistics of stores and days.

    Parameters
    ----------
    family
        Its name, or the family.
    days
        name -> (R, ...): the family's statistics of each store and day.
    stores, ages
        (R,) the number of the store of each row, from 0, and how many days ago it was; a store
        has one row a day at most.
    half_life
        In days; infinite where nothing ages.
    window
        How many days there are, with events or without; by default those up to the greatest age.
    n_stores
        J; by default one more than the greatest number.

    Raises
    ------
    StatisticsError
        If the statistics are impossible, or numbers and ages do not fit them.
    FitError
        If the family has no effective size, or the half-life is not positive.
    """
    model, arrays = admitted(get_family(family) if isinstance(family, str) else family, days)
    rows = len(next(iter(arrays.values())))
    store, age = _whole(stores, rows, "stores"), _whole(ages, rows, "ages")
    if not half_life > 0:
        raise FitError(
            f"the half-life is {half_life}",
            expected="a positive number of days",
            remedy="give it in days, such as 14",
        )
    sums = WeightedSums(model, int(store.max(initial=-1)) + 1 if n_stores is None else n_stores)
    for day in sorted(set(age.tolist()), reverse=True):
        at = np.flatnonzero(age == day)
        if len(np.unique(store[at])) < len(at):
            raise StatisticsError(
                "a store has several rows of one day",
                where={"age": day},
                expected="one row for each store and day",
                remedy="add them up first",
            )
        part = {name: values[at] for name, values in arrays.items()}
        sums.add(store[at], part, weight(day, half_life))
    length = int(age.max(initial=-1)) + 1 if window is None else window
    return of_days(sums, factor_of_days(range(length), half_life))


def _whole(given: Any, length: int, name: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    values = np.asarray(given)
    if values.shape != (length,) or values.dtype.kind not in "iu" or values.min(initial=0) < 0:
        raise StatisticsError(
            f"{name} are of type {values.dtype} and shape {values.shape}",
            expected=f"({length},) whole numbers from 0, one for each row",
            remedy="number the stores, and count the days back from the last one",
        )
    return values.astype(np.int64)
