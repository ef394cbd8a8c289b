"""How the totals of units vary over their cells within a window, by day or by cluster.

By day, a unit's days are compared with its other days of the same weekday in the same four weeks,
counted back from the as-of day: neither a pattern of the week nor a season or a trend is
dispersion. In windows too short for two of each weekday all days are compared with each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.clusters import Clusters
from hbpipe.data.quantities import Metric
from hbpipe.data.units import compact
from hbpipe.model.families import get_family
from hbpipe.model.family import Array, Codes, Statistics

_WEEK, _BLOCK = 7, 28
#: Days that hold two of each weekday.
_TWO_WEEKS = 14


@dataclass(frozen=True)
class Days:
    """The rows of a window's days: day and unit of each, (R,), and what days there are.

    ``since`` (U,) is the first day that counts for each unit.
    """

    days: NDArray[np.int64]
    units: Codes
    n_units: int
    since: NDArray[np.int64]
    first_day: int
    as_of: int

    @property
    def by_weekday(self) -> bool:
        """Whether the window holds two of each weekday."""
        return self.as_of - self.first_day + 1 >= _TWO_WEEKS

    @cached_property
    def strata(self) -> tuple[Codes, NDArray[np.int64], NDArray[np.int64]]:
        """The stratum (R,) of each row, and the unit and the label of each stratum.

        A label says how many weekdays and blocks of four weeks the as-of day lies ahead.
        """
        lags = np.arange(self.as_of - self.first_day + 1)
        labels = lags // _BLOCK * _WEEK + lags % _WEEK if self.by_weekday else 0 * lags
        width = int(labels.max(initial=0)) + 1
        joint = self.units * width + labels[self.as_of - self.days]
        everything = np.ones(len(joint), np.bool_)
        codes, present = compact(joint, max(self.n_units * width, 1), everything)
        return codes, present // width, present % width

    def calendar(self, unit: NDArray[np.int64], label: NDArray[np.int64]) -> Array:
        """Count the days of each stratum on which its unit was known, with events or without."""
        last = self.as_of - self.since[unit]  # the greatest lag
        if not self.by_weekday:
            return np.asarray(last + 1, np.float64)
        first = label // _WEEK * _BLOCK + label % _WEEK
        weeks = np.clip((last - first) // _WEEK + 1, 0, _BLOCK // _WEEK)
        return np.asarray(weeks, np.float64)


def disperse_by_day(metric: Metric, daily: Statistics, rows: Days) -> Any:
    """Compare the days of each unit; returns ``CellSums`` (U,), None where a family has none."""
    family = get_family(metric.family)
    if family.dispersion is None:
        return None
    codes, unit, label = rows.strata
    empty = None
    if metric.calendar == "days":
        daily = {**daily, "exposure": np.ones(len(codes))}
        present = np.bincount(codes, minlength=len(unit))
        empty = rows.calendar(unit, label) - present
    statistics = family.fold(daily, codes, len(unit))
    cells = family.dispersion.cells(daily)
    sums = family.dispersion.sums(cells, codes, statistics, len(unit), empty)
    return sums.by(unit, rows.n_units)


def disperse_by_cluster(
    metric: Metric, clusters: Clusters, statistics: Statistics, n_units: int
) -> Any:
    """Compare the clusters of each unit; ``statistics`` are the unit's own of the window."""
    law = get_family(metric.family).dispersion
    assert law is not None  # parse_metric refuses clusters of other families
    return law.sums((clusters.size, clusters.total), clusters.owner, statistics, n_units)
