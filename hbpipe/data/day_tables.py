"""The statistics of a window as a table of days, for metrics whose levels move."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hbpipe.data.by_day import Days
from hbpipe.data.quantities import Metric
from hbpipe.data.window import Folded, WindowOrder


def lay_out_days(folded: Folded, order: WindowOrder) -> Folded:
    """Put tables of days in place of the totals of metrics whose levels move.

    Raises
    ------
    LakeError
        When a file is missing or damaged.
    StatisticsError
        When a sum overflows.
    """
    assert order.by_day is not None
    days = Days(order.by_day, order.levels, folded.keys, order.within_parent, order.as_of)
    tables = {
        metric.name: _table(metric, days, folded.n)
        for metric in order.metrics
        if metric.dynamics is not None
    }
    return replace(folded, statistics={**folded.statistics, **tables})


def _table(metric: Metric, days: Days, units: int) -> dict[str, NDArray[Any]]:
    """Return name -> (U, D) of the last D days, the as-of day last; 0 where a unit has none."""
    kinds = metric.model.statistics
    table = {kind.name: np.zeros((units, *kind.shape), kind.dtype) for kind in kinds}
    for day in days.of(metric):
        for name, values in table.items():
            values[day.units, -1 - day.age] = day.statistics[name]
    return table
