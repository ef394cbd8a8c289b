"""How the totals of units vary over their cells within a window, by day or by cluster.

By day, a unit's days are compared with its other days of the same weekday in the same block of
days: neither a pattern of the week nor a season or a trend is dispersion. A block is a calendar
month where the window holds a whole one, so that months add up whenever they were folded; else
four weeks, counted back from the as-of day. In windows too short for two of each weekday all days
are compared with each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.clusters import Clusters, of_arm
from hbpipe.data.quantities import Metric
from hbpipe.data.units import compact
from hbpipe.model.dispersion import CellSums
from hbpipe.model.families import ARMS
from hbpipe.model.family import Array, Codes, Statistics

_WEEK = 7
#: Blocks of days, in whole weeks. A calendar month lies in five of them.
FOUR_WEEKS, MONTH = 28, 35


@dataclass(frozen=True)
class Days:
    """The rows of consecutive days: day and unit of each, (R,), and what days there are.

    ``since`` (U,) is the first day of each unit among them. ``block`` is the length of the blocks
    within which days of a weekday are compared, counted back from the last day; None where all
    days are compared.
    """

    days: NDArray[np.int64]
    units: Codes
    n_units: int
    since: NDArray[np.int64]
    first_day: int
    last_day: int
    block: int | None

    @cached_property
    def strata(self) -> tuple[Codes, NDArray[np.int64], NDArray[np.int64]]:
        """The stratum (R,) of each row, and the unit and the label of each stratum.

        A label says how many weekdays and blocks the last day lies ahead.
        """
        lags = np.arange(self.last_day - self.first_day + 1)
        labels = lags // self.block * _WEEK + lags % _WEEK if self.block else 0 * lags
        width = int(labels.max(initial=0)) + 1
        joint = self.units * width + labels[self.last_day - self.days]
        everything = np.ones(len(joint), np.bool_)
        codes, present = compact(joint, max(self.n_units * width, 1), everything)
        return codes, present // width, present % width

    def calendar(self, since: NDArray[np.int64]) -> Array:
        """Count the days of each stratum from ``since`` (U,) on, with events or without."""
        _, unit, label = self.strata
        last = self.last_day - since[unit]  # the greatest lag
        if not self.block:
            return np.asarray(last + 1, np.float64)
        first = label // _WEEK * self.block + label % _WEEK
        weeks = np.clip((last - first) // _WEEK + 1, 0, self.block // _WEEK)
        return np.asarray(weeks, np.float64)


@dataclass(frozen=True)
class Cells:
    """``CellSums`` (U,) of consecutive days: as for units known before, and as for new ones.

    They differ where an exposure is calendar days, which count from a unit's first day on.
    """

    known: CellSums
    new: CellSums

    def choose(self, new: NDArray[np.bool_]) -> CellSums:
        """Return the sums of each unit; ``new`` (U,) says which have their first day here."""
        pairs = zip(vars(self.new).values(), vars(self.known).values(), strict=True)
        return CellSums(*(np.where(new, one, other) for one, other in pairs))


def disperse_by_day(metric: Metric, daily: Statistics, rows: Days) -> Cells | None:
    """Compare the days of each unit; None where a family has no dispersion."""
    family = metric.measured
    if family.dispersion is None:
        return None
    calendar = metric.calendar == "days"
    codes, unit, _ = rows.strata
    if calendar:
        daily = {**daily, "exposure": np.ones(len(codes))}
    statistics = family.fold(daily, codes, len(unit))
    law, n = family.dispersion, len(unit)
    cells = law.cells(daily)
    if not calendar:
        alike = law.sums(cells, codes, statistics, n).by(unit, rows.n_units)
        return Cells(alike, alike)
    present = np.bincount(codes, minlength=n)
    first = np.full(rows.n_units, rows.first_day)
    empty = [rows.calendar(since) - present for since in (first, rows.since)]
    found = law.sums_with_empty(cells, codes, statistics, n, empty)
    return Cells(*(one.by(unit, rows.n_units) for one in found))


def disperse_by_cluster(
    metric: Metric, clusters: Clusters, statistics: Statistics, n_units: int
) -> Any:
    """Compare the clusters of each unit; ``statistics`` are the unit's own of the window.

    In an experiment clusters are compared with those of their arm, and both arms added up.
    """
    law = metric.of_one_arm.dispersion
    assert law is not None  # parse_metric refuses clusters of other families
    if metric.experiment is None:
        return law.sums((clusters.size, clusters.total), clusters.owner, statistics, n_units)
    names = [one.name for one in metric.of_one_arm.statistics]
    found = []
    for number, arm in enumerate(ARMS):
        own, mine = of_arm(clusters, number), {name: statistics[f"{name}_{arm}"] for name in names}
        found.append(law.sums((own.size, own.total), own.owner, mine, n_units))
    return CellSums.added(found)
