"""One piece of events to statistics per business day and unit: the hot kernel.

One thread reads the needed columns once and measures every metric on them. Sums go by integer
code in row order, so they have the same bits wherever and whenever they are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.batch import Batch, Mask
from hbpipe.data.clock import business_days
from hbpipe.data.clusters import Clusters, ClusterTotals
from hbpipe.data.events import EventFormat, Piece, full_path, read_piece
from hbpipe.data.keys import check_keys
from hbpipe.data.measure import Measured, measure
from hbpipe.data.quantities import Metric
from hbpipe.data.rejections import Rejection, reject
from hbpipe.data.repeats import Repeats, find_repeats
from hbpipe.data.units import Units, compact, encode, find_units
from hbpipe.errors import StatisticsError


@dataclass
class Account:
    """Where the rows of one file and day went; every row goes to exactly one of three places.

    ``conflicting`` counts the repeated rows that differ from the copy that counts. ``metrics``
    holds, per metric, how the accepted rows split: used, skipped, excluded, rejected.
    """

    accepted: int = 0
    rejected: int = 0
    repeated: int = 0
    conflicting: int = 0
    metrics: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Return all rows of the day."""
        return self.accepted + self.rejected + self.repeated


@dataclass(frozen=True)
class Part:
    """What one piece gives: statistics per (day, unit), rows ordered by day.

    ``days`` (U,), ``keys`` one array (U,) per level, ``n_events`` (U,), ``statistics`` metric ->
    name -> (U, ...); ``accounts`` by day; ``ids`` where repeats may lie in other pieces;
    ``clusters`` of the metrics whose overdispersion is by cluster.
    """

    piece: Piece
    days: NDArray[np.int32]
    keys: tuple[pa.Array, ...]
    n_events: NDArray[np.int64]
    statistics: dict[str, dict[str, NDArray[Any]]]
    accounts: dict[int, Account]
    rejections: tuple[Rejection, ...]
    ids: pa.Table | None
    clusters: dict[str, Clusters] = field(default_factory=dict)


def summarise_piece(
    form: EventFormat,
    piece: Piece,
    metrics: tuple[Metric, ...],
    days: tuple[int, ...],
    keep_ids: bool = False,
    one_in: int = 1,
    *,
    repeated_rows: NDArray[np.int64] | None = None,
) -> Part:
    """Summarise the rows of a piece that fall on the given days.

    Parameters
    ----------
    days
        The business days wanted; other rows are left for their own day.
    keep_ids
        Return the event ids, because other pieces feed the same days.
    one_in
        How many clusters there may be for one that is kept.
    repeated_rows
        Rows of the piece known to repeat an event of an earlier piece.

    Raises
    ------
    EventsError
        When the file is damaged or has changed.
    StatisticsError
        When a sum of whole numbers would overflow.
    """
    table = read_piece(form, piece, form.columns(metrics))
    row_days, faults = business_days(table.column(form.time), form.calendar)
    wanted = _wanted(row_days, faults, days)
    levels = [encode(table.column(name)) for name in form.levels]
    bad, rejections = check_keys(form, piece, table, levels, row_days, wanted)
    valid = wanted & ~bad
    repeats = _repeats(form, table, row_days, valid, repeated_rows)
    accepted = valid & ~repeats.rows
    accounts = _accounts(row_days, wanted, bad, repeats)
    cells = _cells(find_units(levels, accepted), row_days, accepted)
    batch = Batch(table)
    statistics, clusters = {}, ClusterTotals(table, one_in)
    for metric in metrics:
        try:
            found = measure(batch, metric, metric.model, accepted)
            statistics[metric.name] = _summarise(metric, found, cells)
            clusters.add(metric, found, cells.codes)
        except StatisticsError as error:
            raise error.at(file=full_path(form.root, piece.file.path), metric=metric.name) from None
        _account(accounts, metric, found, row_days)
        rejections += _refused(piece, table, metric, found, row_days)
    return Part(
        piece=piece,
        days=cells.days,
        keys=cells.keys,
        n_events=np.bincount(cells.codes[accepted], minlength=cells.n).astype(np.int64),
        statistics=statistics,
        accounts=accounts,
        rejections=tuple(rejections),
        ids=_kept_ids(form, table, row_days, valid) if keep_ids else None,
        clusters=clusters.found,
    )


def _wanted(row_days: NDArray[np.int32], faults: NDArray[np.int8], days: tuple[int, ...]) -> Mask:
    if len(days) == 1:
        return np.asarray((row_days == days[0]) & (faults == 0))
    return np.asarray(np.isin(row_days, np.array(days, np.int32)) & (faults == 0))


def _repeats(
    form: EventFormat,
    table: pa.Table,
    row_days: NDArray[np.int32],
    valid: Mask,
    known: NDArray[np.int64] | None,
) -> Repeats:
    repeats = find_repeats(table, form.event_id, row_days, valid)
    if known is not None:
        repeats.rows[known] = True
        repeats.conflicting[known] = False  # compared with the copy in the earlier piece
    return repeats


def _kept_ids(
    form: EventFormat, table: pa.Table, row_days: NDArray[np.int32], valid: Mask
) -> pa.Table:
    """Return day, id and row of every valid row, for the search across pieces."""
    rows = np.flatnonzero(valid)
    ids = table.select(list(form.event_id)).take(pa.array(rows))
    return ids.append_column("__day", pa.array(row_days[rows])).append_column(
        "__row", pa.array(rows)
    )


def _accounts(
    row_days: NDArray[np.int32], wanted: Mask, bad: Mask, repeats: Repeats
) -> dict[int, Account]:
    days = _distinct(row_days[wanted])
    masks = (wanted, bad, repeats.rows, repeats.conflicting)
    counts = [_count(row_days[mask & wanted], days) for mask in masks]
    return {
        day: Account(rows - rejected - repeated, rejected, repeated, conflicting)
        for day, rows, rejected, repeated, conflicting in zip(days.tolist(), *counts, strict=True)
    }


def _distinct(days: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the different days, ascending; they lie within the plausible range."""
    if not len(days) or days.min() == days.max():
        return days[:1]
    first = days.min()
    return np.asarray(first + np.flatnonzero(np.bincount(days - first)), np.int32)


def _count(found: NDArray[np.int32], days: NDArray[np.int32]) -> list[int]:
    """Count the rows of each of the ascending ``days``, none of which lies elsewhere."""
    if len(days) < 2:
        return [len(found)] * len(days)
    span = int(days[-1] - days[0]) + 1
    return [int(n) for n in np.bincount(found - days[0], minlength=span)[days - days[0]]]


@dataclass(frozen=True)
class _Cells:
    """The (day, unit) pairs of a piece as codes (E,), with day and levels of each cell."""

    codes: NDArray[np.int64]
    days: NDArray[np.int32]
    keys: tuple[pa.Array, ...]

    @property
    def n(self) -> int:
        return len(self.days)


def _cells(units: Units, row_days: NDArray[np.int32], accepted: Mask) -> _Cells:
    days = _distinct(row_days[accepted])
    if not len(days):
        none = tuple(key.slice(0, 0) for key in units.keys)
        return _Cells(np.zeros(len(row_days), np.int64), days, none)
    offsets = np.clip(np.searchsorted(days, row_days), 0, len(days) - 1)
    joint = units.codes if len(days) == 1 else offsets * units.n + units.codes
    codes, present = compact(joint, len(days) * units.n, accepted)
    keys = tuple(key.take(pa.array(present % units.n)) for key in units.keys)
    return _Cells(codes, days[present // units.n], keys)


def _summarise(metric: Metric, found: Measured, cells: _Cells) -> dict[str, NDArray[Any]]:
    everything = len(found.rows) == len(cells.codes)
    codes = cells.codes if everything else cells.codes[found.rows]
    values = dict(found.values)
    if metric.calendar is not None:
        values["exposure"] = np.zeros(len(codes))
    statistics = metric.model.summarise(values, codes, cells.n)
    if metric.calendar == "active_days":
        statistics["exposure"] = (np.bincount(codes, minlength=cells.n) > 0).astype(np.float64)
    return statistics


def _account(
    accounts: Mapping[int, Account], metric: Metric, found: Measured, row_days: NDArray[np.int32]
) -> None:
    refused = [refusal.rows for refusal in found.refusals]
    split = {
        "used": found.rows,
        "skipped": found.skipped,
        "excluded": found.excluded,
        "rejected": np.concatenate(refused) if refused else np.empty(0, np.int64),
    }
    days = np.array(list(accounts), np.int32)
    counts = {name: _count(row_days[rows], days) for name, rows in split.items()}
    for place, account in enumerate(accounts.values()):
        account.metrics[metric.name] = {name: counts[name][place] for name in split}


def _refused(
    piece: Piece,
    table: pa.Table,
    metric: Metric,
    found: Measured,
    row_days: NDArray[np.int32],
) -> list[Rejection]:
    return [
        reject(
            file=piece.file.path,
            day=int(day),
            metric=metric.name,
            column=refusal.column,
            reason=refusal.reason,
            values=table.column(refusal.column) if refusal.column in table.column_names else None,
            rows=refusal.rows[row_days[refusal.rows] == day],
            piece=piece,
        )
        for refusal in found.refusals
        for day in np.unique(row_days[refusal.rows])
    ]
