"""Rolled-up months against their days: a cache that nobody has to trust."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date

import pyarrow as pa

from hbpipe.config import Settings, digest
from hbpipe.data.clock import to_date
from hbpipe.data.lake import Lake
from hbpipe.data.rollup import FILE_COLUMNS, RollupOrder, fold_month, metric_tables, said
from hbpipe.data.snapshot import Snapshot
from hbpipe.run.fingerprints import makings
from hbpipe.run.ledger import DayEntry
from hbpipe.run.months import Month, by_month
from hbpipe.run.stock import event_format
from hbpipe.run.verification.findings import Finding, finding


def check_months(
    settings: Settings,
    lake: Lake,
    ledger: Mapping[int, DayEntry],
    days: tuple[date, date] | None,
    *,
    refold: bool,
) -> Iterator[Finding]:
    """Read every byte of the months; with ``refold`` fold those that stand for their days again.

    ``days`` are the first and the last business day whose months are folded; by default all.
    """
    if lake.version("months") is None or not lake.files("months"):
        return
    table = lake.snapshot("months")
    faults = [str(fault) for fault in table.verify()]
    yield finding("months", faults, f"{len(table.files)} file(s) of months are as written")
    if not refold or faults:
        return
    orders = [
        order
        for month in _standing(lake, ledger, table)
        if days is None or (days[0] <= to_date(month.last) and to_date(month.first) <= days[1])
        for order in _orders(settings, ledger, month, table)
    ]
    differing = [fault for order in orders for fault in _differences(order, table)]
    labels = {file.partition["month"] for file in table.files}
    story = f"{len(orders)} of {len(labels)} month(s) were folded again"
    yield finding("months_folded", differing, f"{story}; no run reads one that is out of date")


def _standing(lake: Lake, ledger: Mapping[int, DayEntry], table: Snapshot) -> Iterator[Month]:
    """Find the months that were made from the present files of their days.

    A window leaves the days out that are held, what comes before it does not.
    """
    held = {to_date(day).isoformat() for day, entry in ledger.items() if entry.state == "held"}
    statistics = lake.snapshot("statistics")
    without = statistics.select(lambda file: file.partition["day"] not in held)
    candidates = {month.made_from: month for month in (*by_month(statistics), *by_month(without))}
    for made_from in sorted({str(said(file, "made_from")) for file in table.files}):
        if made_from in candidates:
            yield candidates[made_from]


def _orders(
    settings: Settings, ledger: Mapping[int, DayEntry], month: Month, table: Snapshot
) -> Iterator[RollupOrder]:
    """Give the order that makes a month anew; none where its metrics were defined otherwise."""
    form, files = event_format(settings), table.in_partitions([{"month": month.label}]).files
    alike = month.alike(makings(form, settings.parsed_metrics), ledger)
    if any(said(file, "made_with") != digest(alike) for file in files):
        return
    yield RollupOrder(
        metrics=tuple(one for one in settings.parsed_metrics if one.name in alike),
        levels=form.levels,
        days=month.days,
        within_parent=any(said(file, "unit_ids") == "within_parent" for file in files),
        month=month.first,
        shard=0,
        made_from=month.made_from,
        made_with=digest(alike),
        schema=table.data_schema,
        label=month.label,
        run_id="",
    )


def _differences(order: RollupOrder, table: Snapshot) -> list[str]:
    """Name the columns in which a month differs from its days."""
    expected = _sorted(pa.concat_tables(metric_tables(order, fold_month(order))), order.levels)
    mine = table.in_partitions([{"month": order.label}])
    kept, month = _sorted(mine.read(columns=expected.column_names), order.levels), order.label[:7]
    if kept.num_rows != expected.num_rows:
        return [f"{month}: {kept.num_rows} rows, {expected.num_rows} of its days"]
    return [
        f"{month}: {name} is not that of its days"
        for name in expected.column_names
        if not kept.column(name).equals(expected.column(name))
    ]


def _sorted(rows: pa.Table, levels: tuple[str, ...]) -> pa.Table:
    """Order what is compared: all columns but those that tell of files."""
    kept = [name for name in rows.column_names if name == "metric" or name not in FILE_COLUMNS]
    keys = [(name, "ascending") for name in ("metric", *levels)]
    return rows.select(kept).sort_by(keys).combine_chunks()
