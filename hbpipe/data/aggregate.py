"""One piece of events to statistics per business day and unit: the hot kernel.

One thread reads the needed columns once and measures every metric on them. Sums go by integer
code in row order, so they have the same bits wherever and whenever they are computed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from hbpipe.data.arms import rows_of_arms
from hbpipe.data.batch import Batch, Mask
from hbpipe.data.clusters import ClusterKeys, Clusters, ClusterTotals
from hbpipe.data.events import EventFormat, Piece, full_path
from hbpipe.data.experiment import Experiment
from hbpipe.data.keys import check_keys
from hbpipe.data.measure import Measured, measure
from hbpipe.data.quantities import Metric
from hbpipe.data.rejections import Rejection, merge_rejections, reject
from hbpipe.data.repeats import Repeats, find_repeats
from hbpipe.data.stretches import RowDays, Stretch, read_stretches
from hbpipe.data.tallies import Cells, MetricSums, find_cells, merge_cells
from hbpipe.data.units import encode, to_dictionary, to_plain
from hbpipe.errors import StatisticsError


@dataclass
class Account:
    """Where the rows of one file and day went; every row goes to exactly one of three places.

    ``conflicting`` counts the repeated rows that differ from the copy that counts. ``metrics``
    holds, per metric, how the accepted rows split: used, skipped, excluded, rejected; ``arms``,
    per metric of an experiment, how the used ones split by the value of their arm.
    """

    accepted: int = 0
    rejected: int = 0
    repeated: int = 0
    conflicting: int = 0
    metrics: dict[str, dict[str, int]] = field(default_factory=dict)
    arms: dict[str, dict[str, int]] = field(default_factory=dict)

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
    summary = _Summary(form, piece, metrics, days, one_in)
    kept = None
    for stretch in read_stretches(form, piece, metrics):
        valid = summary.add(stretch, repeated_rows)
        if keep_ids:  # then the piece is a single stretch
            kept = _kept_ids(form, stretch, valid)
    return summary.part(kept)


class _Summary:
    """What the stretches of a piece have given so far."""

    def __init__(
        self,
        form: EventFormat,
        piece: Piece,
        metrics: tuple[Metric, ...],
        days: tuple[int, ...],
        one_in: int,
    ) -> None:
        self._form, self._piece, self._metrics = form, piece, metrics
        self._days, self._one_in = days, one_in
        self._cells: list[Cells] = []
        self._sums = {metric.name: MetricSums(metric) for metric in metrics}
        clustered = [metric for metric in metrics if metric.cells.clusters]
        self._clusters = {metric.name: ClusterTotals(metric) for metric in clustered}
        self._accounts: dict[int, Account] = {}
        self._rejections: list[Rejection] = []

    def add(self, stretch: Stretch, repeated_rows: NDArray[np.int64] | None) -> Mask:
        """Add a stretch; return which of its rows are valid, repeated or not."""
        form, table, row_days = self._form, stretch.table, stretch.days
        wanted = row_days.among(self._days)
        levels = [encode(table.column(name)) for name in form.levels]
        bad, rejections = check_keys(form, stretch.piece, table, levels, row_days.numbers, wanted)
        valid = wanted & ~bad
        repeats = _repeats(form, table, row_days.numbers, valid, repeated_rows)
        accepted = valid & ~repeats.rows
        accounts = _accounts(row_days, wanted, bad, repeats)
        self._rejections += rejections
        self._measure(stretch, find_cells(levels, row_days, accepted), accepted, accounts)
        for day, account in accounts.items():
            self._accounts[day] = add_accounts(self._accounts.get(day), account)
        return valid

    def _measure(
        self, stretch: Stretch, cells: Cells, accepted: Mask, accounts: dict[int, Account]
    ) -> None:
        """Measure every metric on the accepted rows."""
        first = sum(part.n for part in self._cells)
        self._cells.append(cells)
        batch, keys = Batch(stretch.table), ClusterKeys(stretch.table, self._one_in)
        for metric in self._metrics:
            with self._naming(metric):
                found = measure(batch, metric, metric.measured, accepted)
                self._sums[metric.name].add(found, cells, first)
            if metric.name in self._clusters:
                self._clusters[metric.name].add(found, cells.codes + first, keys)
            _account(accounts, metric, found, stretch.days)
            if metric.experiment is not None:
                self._count_arms(stretch, metric.experiment, metric, found, accounts)
            self._rejections += _refused(stretch, metric, found)

    def _count_arms(
        self,
        stretch: Stretch,
        experiment: Experiment,
        metric: Metric,
        found: Measured,
        accounts: dict[int, Account],
    ) -> None:
        """Enter how the rows of each day that count split by the value of their arm."""
        with self._naming(metric):
            values = rows_of_arms(experiment, stretch.table, found.rows)
        days = np.array(list(accounts), np.int32)
        for value, rows in values.items():
            for account, n in zip(accounts.values(), stretch.days.count(rows, days), strict=True):
                if n:
                    account.arms.setdefault(metric.name, {})[value] = n

    @contextmanager
    def _naming(self, metric: Metric) -> Iterator[None]:
        """Name file and metric in what is raised."""
        try:
            yield
        except StatisticsError as error:
            path = full_path(self._form.root, self._piece.file.path)
            raise error.at(file=path, metric=metric.name) from None

    def part(self, ids: pa.Table | None) -> Part:
        """Put the stretches together."""
        cells = merge_cells(self._cells)
        statistics = {}
        for metric in self._metrics:
            with self._naming(metric):
                statistics[metric.name] = self._sums[metric.name].statistics(cells)
        *above, finest = cells.levels
        return Part(
            piece=self._piece,
            days=cells.days,
            keys=(*(to_dictionary(level) for level in above), to_plain(finest)),
            n_events=cells.n_events,
            statistics=statistics,
            accounts=dict(sorted(self._accounts.items())),
            rejections=tuple(merge_rejections(self._rejections)),
            ids=ids,
            clusters={name: one.totals(cells.codes) for name, one in self._clusters.items()},
        )


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


def _kept_ids(form: EventFormat, stretch: Stretch, valid: Mask) -> pa.Table:
    """Return day, id and row of every valid row, for the search across pieces."""
    rows = np.flatnonzero(valid)
    ids = stretch.table.select(list(form.event_id)).take(pa.array(rows))
    return ids.append_column("__day", pa.array(stretch.days.numbers[rows])).append_column(
        "__row", pa.array(rows)
    )


def _accounts(row_days: RowDays, wanted: Mask, bad: Mask, repeats: Repeats) -> dict[int, Account]:
    days = row_days.of(wanted)
    masks = (wanted, bad, repeats.rows, repeats.conflicting)
    counts = [row_days.count(mask & wanted, days) for mask in masks]
    return {
        day: Account(rows - rejected - repeated, rejected, repeated, conflicting)
        for day, rows, rejected, repeated, conflicting in zip(days.tolist(), *counts, strict=True)
    }


def _account(
    accounts: Mapping[int, Account], metric: Metric, found: Measured, row_days: RowDays
) -> None:
    """Enter how the accepted rows of each day split for a metric."""
    refused = [refusal.rows for refusal in found.refusals]
    split = {
        "used": found.used,
        "skipped": found.skipped,
        "excluded": found.excluded,
        "rejected": np.concatenate(refused) if refused else np.empty(0, np.int64),
    }
    days = np.array(list(accounts), np.int32)
    counts = {name: row_days.count(rows, days) for name, rows in split.items()}
    for place, account in enumerate(accounts.values()):
        account.metrics[metric.name] = {name: counts[name][place] for name in split}


def add_accounts(left: Account | None, right: Account) -> Account:
    """Add two accounts of the same file and day."""
    if left is None:
        return right
    metrics = {
        name: {key: split[key] + right.metrics[name][key] for key in split}
        for name, split in left.metrics.items()
    }
    arms = {
        name: dict(Counter(left.arms.get(name, {})) + Counter(right.arms.get(name, {})))
        for name in left.arms | right.arms
    }
    return Account(
        left.accepted + right.accepted,
        left.rejected + right.rejected,
        left.repeated + right.repeated,
        left.conflicting + right.conflicting,
        metrics,
        arms,
    )


def _refused(stretch: Stretch, metric: Metric, found: Measured) -> list[Rejection]:
    piece, table, days = stretch.piece, stretch.table, stretch.days.numbers
    return [
        reject(
            file=piece.file.path,
            day=int(day),
            metric=metric.name,
            column=refusal.column,
            reason=refusal.reason,
            values=table.column(refusal.column) if refusal.column in table.column_names else None,
            rows=refusal.rows[days[refusal.rows] == day],
            piece=piece,
        )
        for refusal in found.refusals
        for day in np.unique(days[refusal.rows])
    ]
