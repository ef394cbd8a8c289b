"""Rows replaced within one partition; the others are not touched."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from hbpipe.data.lake import Lake
from hbpipe.data.partitioned import upsert_partition
from hbpipe.errors import LakeError

SCHEMA = pa.schema({"day": pa.date32(), "name": pa.string(), "value": pa.int64()})
FIRST, SECOND = {"day": "2026-01-01"}, {"day": "2026-01-02"}


def rows(*pairs: tuple[str, int]) -> pa.Table:
    names, values = zip(*pairs, strict=True)
    return pa.table({"name": list(names), "value": list(values)})


def put(lake: Lake, table: pa.Table, partition: dict[str, str]) -> int:
    return upsert_partition(
        lake, "checks", table, ("day", "name"), partition=partition, run_id="run-1"
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    found = Lake(str(tmp_path))
    found.create("checks", SCHEMA, ("day",))
    return found


def test_equal_keys_are_replaced_and_the_rest_is_kept(lake: Lake) -> None:
    put(lake, rows(("a", 1), ("b", 2)), FIRST)
    put(lake, rows(("a", 5)), SECOND)
    put(lake, rows(("b", 3), ("c", 4)), FIRST)
    found = [tuple(row.values()) for row in lake.read("checks").to_pylist()]
    one, two = dt.date(2026, 1, 1), dt.date(2026, 1, 2)
    assert found == [(one, "a", 1), (one, "b", 3), (one, "c", 4), (two, "a", 5)]


def test_other_partitions_keep_their_files(lake: Lake) -> None:
    put(lake, rows(("a", 1)), FIRST)
    before = lake.files("checks", partitions=[FIRST])
    for value in range(3):
        put(lake, rows(("a", value)), SECOND)
    assert lake.files("checks", partitions=[FIRST]) == before
    assert len(lake.files("checks")) == 2


def test_a_key_that_comes_twice(lake: Lake) -> None:
    with pytest.raises(LakeError, match="repeated"):
        put(lake, rows(("a", 1), ("a", 2)), FIRST)
    assert lake.read("checks").num_rows == 0
