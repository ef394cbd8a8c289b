"""The days of a window one by one, for metrics to which the order or the age of days matters.

A window folds most metrics by the month. What is read here are its daily statistics as they lie
in the lake, also of months that are rolled up; a day's rows are matched to the window's units by
their ids, so that a unit which has moved counts where it stands now. Days that a window leaves
out, and units that are forgotten, have no rows here either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.arrays import to_numpy
from hbpipe.data.attributes import look_up
from hbpipe.data.clock import to_number
from hbpipe.data.quantities import Metric
from hbpipe.data.row_groups import RowGroups
from hbpipe.data.snapshot import Snapshot
from hbpipe.data.standing import decoded


@dataclass(frozen=True)
class Day:
    """One metric on one day: the units (R,) that have rows, ascending, and their statistics.

    ``age`` is how many days before the as-of day it is. A unit comes once, also where it stood
    under two parents on the day.
    """

    age: int
    units: NDArray[np.int64]
    statistics: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Days:
    """The daily files of one shard of a window, and its units, one array (U,) of ``keys`` a level.

    ``within_parent`` says that an id names a unit only together with its parents.
    """

    files: Snapshot
    levels: tuple[str, ...]
    keys: tuple[pa.Array, ...]
    within_parent: bool
    as_of: int

    def of(self, metric: Metric) -> Iterator[Day]:
        """Give the days of one metric; see :meth:`each`."""
        return (found[metric.name] for found in self.each((metric,)))

    def each(self, metrics: Sequence[Metric]) -> Iterator[dict[str, Day]]:
        """Give the days that have events, by metric, the oldest first, one in memory at a time.

        The window that the files belong to has been folded: that the days have the metrics, as
        they are now defined, was made sure of then.

        Raises
        ------
        LakeError
            When a file is missing or damaged.
        StatisticsError
            When a sum overflows.
        """
        for label in sorted({file.partition["day"] for file in self.files.files}):
            source = RowGroups(self.files.in_partitions([{"day": label}]), "metric")
            # Every metric of a day lists the same units in the same order.
            units, at = np.unique(self._numbers(source, metrics[0]), return_inverse=True)
            age = self.as_of - to_number(date.fromisoformat(label))
            yield {
                metric.name: Day(age, units, _read(source, metric, at.reshape(-1), len(units)))
                for metric in metrics
            }

    def _numbers(self, source: RowGroups, metric: Metric) -> NDArray[np.int64]:
        """Return the number of each row's unit, (R,)."""
        named = self.levels if self.within_parent else self.levels[-1:]
        rows = decoded(source.read(metric.name, named))
        keys = self.keys[len(self.keys) - len(named) :]
        known = pa.table([*keys, pa.array(np.arange(len(keys[0])))], [*named, "unit"])
        mine = tuple(rows.column(level).combine_chunks() for level in named)
        return np.asarray(look_up(mine, known, named, ("unit",)).column("unit").to_numpy())


def _read(
    source: RowGroups, metric: Metric, at: NDArray[np.int64], n_units: int
) -> dict[str, NDArray[Any]]:
    """Read one day's statistics of a metric, merged where a unit (``at``, (R,)) has two rows."""
    kinds = metric.measured.statistics
    rows = source.read(metric.name, [kind.name for kind in kinds])
    daily = {kind.name: to_numpy(rows.column(kind.name), kind) for kind in kinds}
    return metric.measured.fold(daily, at, n_units)
