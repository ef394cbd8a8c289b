"""Tables of known totals, one row per group of stores, and the digest of all tables beside events.

A column ``as_of`` makes the rows those of single nights; without it they are those of every night.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from hbpipe.config import Settings, digest
from hbpipe.data.clock import to_date
from hbpipe.data.events import level_type
from hbpipe.data.quantities import Metric
from hbpipe.data.reconcile import Reconcile
from hbpipe.data.spelling import nearest
from hbpipe.errors import EventsError
from hbpipe.model.family import Array
from hbpipe.model.reconciliation import limits
from hbpipe.run.inference.tree import Pool, pool_label
from hbpipe.run.universe import stores_digest

#: The column of the night that a total is of.
_DAY = "as_of"


@dataclass(frozen=True)
class Totals:
    """The totals of one metric: ``groups`` by the values of ``levels``, and ``values`` (G,)."""

    levels: tuple[str, ...]
    groups: list[Pool]
    values: Array


class TotalsTables:
    """The tables of totals of some settings, each read once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tables: dict[str, pa.Table] = {}
        self._stores = stores_digest(settings.stores)

    @property
    def named(self) -> str:
        """What the digest is of."""
        totals = any(metric.reconcile for metric in self._settings.parsed_metrics)
        return "the table of stores" + (", or of totals," if totals else "")

    def digest(self, as_of: int) -> str:
        """Hash the table of stores and what the tables of totals say of one night.

        Nothing where there are no such tables. One that cannot be read hashes as none would.
        """
        asked = [one.reconcile for one in self._settings.parsed_metrics if one.reconcile]
        if not asked:
            return self._stores
        return digest([self._stores, [self._rows(one, as_of) for one in asked]])

    def _rows(self, asked: Reconcile, as_of: int) -> list[str]:
        try:
            table = of_night(self._read(asked), as_of)
        except EventsError:
            return []
        read = [*self._settings.events.levels, asked.column]
        named = [name for name in read if name in table.column_names]
        return sorted(map(repr, table.select(named).to_pylist()))

    def read(self, metric: Metric, levels: Mapping[str, str], as_of: int) -> Totals:
        """Read the totals of a metric for one night.

        Parameters
        ----------
        levels
            The levels of the events, coarse to fine, and their types.

        Raises
        ------
        EventsError
            The table cannot be read, names no groups of stores or one twice, or has a value that is
            no total; names file, column and group.
        """
        asked = metric.reconcile
        assert asked is not None
        table, where = self._read(asked), {"metric": metric.name, "totals": asked.totals}
        try:
            _check_columns(table, asked, levels)
            table = of_night(table, as_of)
            chosen = tuple(name for name in levels if name in table.column_names)
            keys = [table.column(name).to_pylist() for name in chosen]
            groups = list(zip(*keys, strict=True)) if keys else [()] * table.num_rows
            _check_groups(table, groups, chosen)
            return Totals(chosen, groups, _values(table, metric, asked, groups))
        except EventsError as error:
            raise error.at(**where) from None

    def _read(self, asked: Reconcile) -> pa.Table:
        if asked.totals not in self._tables:
            try:
                self._tables[asked.totals] = pq.read_table(asked.totals, partitioning=None)
            except (OSError, pa.ArrowException) as error:
                raise EventsError(
                    f"the table of totals is not readable: {str(error).splitlines()[0]}",
                    where={"totals": asked.totals},
                    expected="a Parquet file with one row per group of stores",
                ) from None
        return self._tables[asked.totals]


def of_night(table: pa.Table, as_of: int) -> pa.Table:
    """Return the rows of one night: those of its as-of day, or all.

    Raises
    ------
    EventsError
        When the column ``as_of`` holds no dates.
    """
    if _DAY not in table.column_names:
        return table
    if not pa.types.is_date(table.schema.field(_DAY).type):
        raise EventsError(
            f"{_DAY} of the table of totals is {table.schema.field(_DAY).type}", expected="dates"
        )
    days = table.column(_DAY).cast(pa.date32())
    return table.filter(pc.equal(days, pa.scalar(to_date(as_of), pa.date32())))


def _check_columns(table: pa.Table, asked: Reconcile, levels: Mapping[str, str]) -> None:
    names = table.column_names
    if asked.column not in names:
        raise EventsError(
            f"the table of totals has no column {asked.column!r}{nearest(asked.column, names)}"
        )
    unit = list(levels)[-1]
    if unit in names:
        raise EventsError(
            f"the table of totals has the column {unit!r}, the unit",
            expected="totals of many stores: columns of coarser levels, or none for all stores",
        )
    for name, kind in levels.items():
        if name in names and str(level_type(table.schema.field(name).type)) != kind:
            raise EventsError(
                f"level {name!r} of the table of totals is {table.schema.field(name).type}",
                expected=f"{kind}, as in the events",
            )


def _check_groups(table: pa.Table, groups: Sequence[Pool], levels: Sequence[str]) -> None:
    for name in levels:
        if table.column(name).null_count:
            raise EventsError(f"level {name!r} of the table of totals has nulls")
    for group, count in Counter(groups).items():
        if count > 1:
            raise EventsError(
                f"{pool_label(group)} has {count} totals",
                expected="one row per group of stores",
                remedy="name the groups by levels of the events, and single nights by as_of",
            )


def _values(table: pa.Table, metric: Metric, asked: Reconcile, groups: Sequence[Pool]) -> Array:
    column = table.column(asked.column)
    kind = column.type
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise EventsError(f"{asked.column!r} of the table of totals is {kind}", expected="numbers")
    values = pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy()
    least, greatest = limits(metric.measured)
    if not asked.is_mean:  # of how many stores is not known yet
        greatest = np.inf
    for group, value in zip(groups, values, strict=True):
        if not (np.isfinite(value) and least <= value <= greatest):
            raise EventsError(
                f"the {'mean' if asked.is_mean else 'total'} of {pool_label(group)} is "
                f"{'missing' if np.isnan(value) else value}",
                where={"column": asked.column},
                expected=f"a number from {least:g} to {greatest:g}, as {metric.family} has them",
            )
    return np.asarray(values, np.float64)
