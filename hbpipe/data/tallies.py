"""The (day, unit) cells of some rows, and what a metric adds up to in each.

Rows come a stretch at a time, each with its own dictionary of units. Whole numbers are added up
cell by cell at once, which is exact in any order; of other values the rows are kept, and summed
in their order when the piece is over. So the sums do not depend on where stretches end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.batch import Mask
from hbpipe.data.measure import Measured
from hbpipe.data.quantities import Metric
from hbpipe.data.stretches import RowDays
from hbpipe.data.units import Encoded, code_units, encode_any, tally, to_dictionary
from hbpipe.model.family import Family
from hbpipe.model.numerics.grouped import integer_sums

Codes = NDArray[np.int64]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """The (day, unit) pairs of accepted rows, ordered by day.

    ``codes`` (E,) give the cell of each row, and mean nothing where a row is not accepted;
    ``days`` (C,), ``levels`` with codes (C,) and ``n_events`` (C,) describe the cells.
    """

    codes: NDArray[Any]
    days: NDArray[np.int32]
    levels: tuple[Encoded, ...]
    n_events: NDArray[np.int64]
    _sums: dict[int, tuple[NDArray[Any], NDArray[np.int64]]] = field(default_factory=dict)

    @property
    def n(self) -> int:
        """Return the number of cells."""
        return len(self.days)

    def of(self, chosen: Rows | None) -> NDArray[Any]:
        """Return the cells of some rows; of all where ``chosen`` is None."""
        return self.codes if chosen is None else self.codes[chosen]

    def add_up(self, values: NDArray[Any], chosen: Rows | None) -> NDArray[np.int64]:
        """Add up whole numbers of the chosen rows, exactly; raises as ``integer_sums``.

        Metrics that count the same column of all rows share its sums, and all rows are the events.
        """
        if chosen is not None:
            return integer_sums(values, self.codes[chosen], self.n)
        if values.dtype == np.bool_ and values.all():
            return self.n_events
        if id(values) not in self._sums:  # the entry holds the values, so no other takes their id
            self._sums[id(values)] = values, integer_sums(values, self.codes, self.n)
        return self._sums[id(values)][1]


def find_cells(levels: Sequence[Encoded], days: RowDays, accepted: Mask) -> Cells:
    """Find the cells of the accepted rows."""
    units, present_days = code_units(levels, accepted), days.of(accepted)
    if not len(present_days):
        none = np.empty(0, np.int64)
        nowhere = tuple(Encoded(none, level.values) for level in units.levels)
        return Cells(np.zeros(len(accepted), np.int64), present_days, nowhere, none)
    joint = units.codes
    if len(present_days) > 1:
        joint = days.places(present_days) * units.n + units.codes
    codes, present, counts = tally(joint, len(present_days) * units.n, accepted)
    day, unit = np.divmod(present, units.n)
    found = tuple(Encoded(level.codes[unit], level.values) for level in units.levels)
    return Cells(codes, present_days[day], found, counts)


def merge_cells(parts: Sequence[Cells]) -> Cells:
    """Find the cells of several stretches; the codes are those of their cells, one after another.

    A single stretch keeps its own cells.
    """
    if len(parts) == 1:
        only = parts[0]
        return Cells(np.arange(only.n), only.days, only.levels, only.n_events)
    levels = [
        encode_any(pa.chunked_array([to_dictionary(part.levels[level]) for part in parts]))
        for level in range(len(parts[0].levels))
    ]
    days = np.concatenate([part.days for part in parts])
    everything = np.ones(len(days), np.bool_)
    found = find_cells(levels, RowDays(days, everything), everything)
    events = integer_sums(np.concatenate([p.n_events for p in parts]), found.codes, found.n)
    return Cells(found.codes, found.days, found.levels, events)


class MetricSums:
    """What one metric measures, gathered over the stretches of a piece."""

    def __init__(self, metric: Metric) -> None:
        self._metric, self._family = metric, metric.measured
        self._adds_up = _adds_up(self._family)
        self._codes: list[NDArray[Any]] = []
        self._values: list[dict[str, NDArray[Any]]] = []
        self._active: list[Codes] = []

    def add(self, found: Measured, cells: Cells, first: int) -> None:
        """Add a stretch, whose cells are numbered from ``first`` on.

        Raises
        ------
        StatisticsError
            When a sum of whole numbers does not fit 64 bits.
        """
        values, chosen = found.values, found.chosen
        if self._adds_up and all(array.dtype.kind in "bi" for array in values.values()):
            values = {role: cells.add_up(array, chosen) for role, array in values.items()}
            codes = np.arange(first, first + cells.n)
        else:
            codes = cells.of(chosen) + first if first else cells.of(chosen)
        self._codes.append(codes)
        self._values.append(values)
        if self._metric.calendar == "active_days":
            self._active.append(np.unique(cells.of(chosen)) + first)

    def statistics(self, cells: Cells) -> dict[str, NDArray[Any]]:
        """Return the statistics (C, ...) of the cells of the piece; raises as ``summarise``."""
        codes = _joined(self._codes)
        codes = codes if len(self._codes) == 1 else cells.codes[codes]
        values = {role: _joined([one[role] for one in self._values]) for role in self._values[0]}
        if self._metric.calendar is not None:
            values["exposure"] = np.zeros(len(codes))
        statistics = self._family.summarise(values, codes, cells.n)
        if self._metric.calendar == "active_days":
            statistics["exposure"] = np.zeros(cells.n)
            statistics["exposure"][cells.codes[_joined(self._active)]] = 1.0
        return statistics


def _joined(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _adds_up(family: Family) -> bool:
    """Tell whether each statistic is the sum of what fills the role of its name.

    Then the sums of some events are as good as the events.
    """
    roles = {role.name for role in family.roles if not role.several}
    sums = {one.name for one in family.statistics if one.merge == "sum"}
    return sums == roles and len(sums) == len(family.statistics)
