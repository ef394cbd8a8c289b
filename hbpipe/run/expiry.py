"""What goes by age: days of statistics, as-of days of results, old examples, checks and runs.

Taken out of the newest version only. The files go with ``vacuum``, once no kept release and no
grace needs a version that names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from hbpipe.config import Retention
from hbpipe.data.lake import Lake
from hbpipe.data.rewrite import drop_partitions, rewrite_rows, without

#: Tables by partition: the key of their retention, and the partition column.
_PARTITIONED = {
    "statistics": ("statistics", "day"),
    "months": ("statistics", "month"),
    "hyperparameters": ("hyperparameters", "as_of"),
    "fits": ("fits", "as_of"),
    "diagnostics": ("fits", "as_of"),
    "posteriors": ("posteriors", "as_of"),
    "new_stores": ("posteriors", "as_of"),
}
#: Partition columns of which the days of a release's window are kept. A month goes with its first
#: day: it stands for its days together, or for none.
_OF_STATISTICS = ("day", "month")
#: Tables by row: the key of their retention, and the column that dates a row. A run under way has
#: not finished, and stays: the number of the next is one above its own.
_BY_ROW = {
    "quarantine": ("quarantine", "day"),
    "audits": ("audits", "as_of"),
    "runs": ("runs", "finished_at"),
}


@dataclass(frozen=True)
class Expiry:
    """What leaves one table: its partitions, or so many rows dated before ``until``."""

    table: str
    until: date
    partitions: tuple[str, ...] = ()
    rows: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Describe it for ``--json``."""
        return {
            "table": self.table,
            "until": self.until.isoformat(),
            "partitions": list(self.partitions),
            "rows": self.rows,
        }


def plan_expiry(
    lake: Lake, retention: Retention, seen: Iterable[Mapping[str, Any]], now: datetime
) -> list[Expiry]:
    """List what is older than its retention; writes nothing.

    Parameters
    ----------
    seen
        The releases that readers see: their as-of days and the days of their windows stay.
    """
    releases = list(seen)
    found = [
        _partitions(lake, table, column, _until(retention, key, now), releases)
        for table, (key, column) in _PARTITIONED.items()
        if getattr(retention, key) is not None and lake.version(table) is not None
    ]
    found += [
        _rows(lake, table, column, _until(retention, key, now))
        for table, (key, column) in _BY_ROW.items()
        if getattr(retention, key) is not None and lake.version(table) is not None
    ]
    return [one for one in found if one.partitions or one.rows]


def _until(retention: Retention, key: str, now: datetime) -> date:
    """Return the first day that is kept."""
    return now.date() - timedelta(days=getattr(retention, key))


def _partitions(
    lake: Lake, table: str, column: str, until: date, seen: Iterable[Mapping[str, Any]]
) -> Expiry:
    if column in _OF_STATISTICS:
        first = min((r["as_of"] - timedelta(days=r["days"] - 1) for r in seen), default=until)
        until, shown = min(until, first), set()
    else:
        shown = {row["as_of"].isoformat() for row in seen}
    days = {file.partition[column] for file in lake.files(table)}
    goes = sorted(day for day in days - shown if day < until.isoformat())
    return Expiry(table, until, partitions=tuple(goes))


def _rows(lake: Lake, table: str, column: str, until: date) -> Expiry:
    dated = lake.read(table, columns=[column]).column(column)
    return Expiry(table, until, rows=pc.sum(_older(dated, until)).as_py() or 0)


def _older(dated: pa.ChunkedArray, until: date) -> pa.ChunkedArray:
    """Tell which dates lie before a day; what has none stays."""
    return pc.fill_null(pc.less(dated.cast(pa.date32()), pa.scalar(until)), False)


def expire(lake: Lake, one: Expiry, run_id: str) -> None:
    """Take out of a table what is listed; a day of statistics leaves the ledger first.

    Without its row in ``days`` a day counts as never processed: ``backfill`` brings it back.
    """
    metadata = {"run_id": run_id, "until": one.until.isoformat()}
    if one.table in _BY_ROW:
        column = _BY_ROW[one.table][1]
        rewrite_rows(
            lake.storage,
            one.table,
            lambda rows: without(rows, _older(rows.column(column), one.until)),
            run_id=run_id,
            metadata=metadata,
        )
        return
    gone = set(one.partitions)
    column = _PARTITIONED[one.table][1]
    if one.table == "statistics":
        days = pa.array([date.fromisoformat(day) for day in sorted(gone)], pa.date32())
        rewrite_rows(
            lake.storage,
            "days",
            lambda rows: without(rows, pc.is_in(rows.column("day"), days)),
            run_id=run_id,
            metadata=metadata,
        )
    drop_partitions(
        lake.storage,
        one.table,
        lambda file: file.partition[column] in gone,
        metadata=metadata,
    )
