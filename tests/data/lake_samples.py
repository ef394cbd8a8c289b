"""Small lakes, rows and accidents for the tests of the lake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from hbpipe.data.lake import Lake, Receipt

SCHEMA = pa.schema(
    [
        ("metric", pa.string()),
        ("day", pa.date32()),
        ("store", pa.string()),
        ("shard", pa.int32()),
        ("n", pa.int64()),
        ("mean", pa.float64()),
    ]
)
FIRST, SECOND = {"day": "2026-01-01"}, {"day": "2026-01-02"}

#: For races and faults: rows that all hold one value show whose they are.
COUNTS = pa.schema([("day", pa.date32()), ("store", pa.string()), ("n", pa.int64())])
PATHS = pa.schema([("path", pa.string()), ("rows", pa.int64())])


def statistics_lake(folder: Path) -> Lake:
    lake = Lake(str(folder / "lake"))
    lake.create("statistics", SCHEMA, ["day"])
    return lake


def counts_lake(folder: Path) -> Lake:
    lake = Lake(str(folder / "lake"))
    lake.create("statistics", COUNTS, ["day"])
    lake.create("files", PATHS)
    return lake


def rows(count: int, metric: str = "conversion", start: int = 0) -> pa.Table:
    numbers = list(range(start, start + count))
    return pa.table(
        {
            "metric": [metric] * count,
            "store": [f"store {i}" for i in numbers],
            "shard": [i % 4 for i in numbers],
            "n": numbers,
            "mean": [i / 7 for i in numbers],
        },
        schema=pa.schema([column for column in SCHEMA if column.name != "day"]),
    )


def write(lake: Lake, count: int, partition: dict[str, str], **options: Any) -> Receipt:
    return lake.write_part(
        "statistics", rows(count, **options), run_id="run-1", partition=partition
    )


def publish(lake: Lake, receipts: list[Receipt], **options: Any) -> int:
    days = [dict(receipt.partition) for receipt in receipts]
    return lake.publish(
        "statistics", receipts, app_id="statistics/x", **{"replaces": days, **options}
    )


def same(count: int, value: int) -> pa.Table:
    return pa.table({"store": [f"s{i}" for i in range(count)], "n": [value] * count})


def paths(*paths: str, count: int = 1) -> pa.Table:
    return pa.table({"path": list(paths), "rows": [count] * len(paths)})


def put(lake: Lake, count: int, value: int, day: dict[str, str] = FIRST, **options: Any) -> int:
    return lake.replace(
        "statistics", same(count, value), run_id=f"run-{value}", partition=day, **options
    )


def values(lake: Lake) -> list[int]:
    return lake.read("statistics")["n"].to_pylist()


def staged(lake: Lake) -> tuple[Receipt, Path]:
    receipt = lake.write_part("statistics", same(50, 1), run_id="r", partition=FIRST)
    return receipt, Path(lake.path("statistics", receipt.path))


def interfere(
    monkeypatch: pytest.MonkeyPatch, around: Callable[[Callable[[], None], int], None]
) -> None:
    """Call ``around(commit, number)`` in place of every commit of a publication."""
    commit = DeltaTable.create_write_transaction
    calls: list[int] = []

    def interfered(self: DeltaTable, *arguments: Any, **options: Any) -> None:
        calls.append(len(calls))
        around(lambda: commit(self, *arguments, **options), calls[-1])

    monkeypatch.setattr(DeltaTable, "create_write_transaction", interfered)
