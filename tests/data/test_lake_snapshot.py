"""Reading a version: what is asked for, in one order, and never damaged bytes."""

from __future__ import annotations

import datetime as dt
import pickle
import random
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError
from tests.data.lake_samples import (
    FIRST,
    SECOND,
    counts_lake,
    publish,
    put,
    rows,
    statistics_lake,
    write,
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return statistics_lake(tmp_path)


# Reading


def test_filters_and_columns(lake: Lake) -> None:
    part = lake.write_part(
        "statistics",
        [rows(4, "orders"), rows(3, "value")],
        run_id="run-1",
        partition=FIRST,
        statistics=["metric"],
    )
    publish(lake, [part, write(lake, 2, SECOND)])
    read = lake.read("statistics", columns=["n", "day"], filters=[("metric", "==", "value")])
    assert read.schema == pa.schema([("n", pa.int64()), ("day", pa.date32())])
    assert read["n"].to_pylist() == [0, 1, 2]

    def count(*filters: Any) -> int:
        return lake.read("statistics", filters=list(filters)).num_rows

    assert count(("day", "==", "2026-01-02")) == 2
    assert count(("day", "<", dt.date(2026, 1, 2))) == 7
    assert count(("day", "in", ["2026-01-02", "2026-01-03"])) == 2
    assert count([("day", "==", "2026-01-02")], [("metric", "==", "orders"), ("n", ">", 1)]) == 4
    assert count(("n", "not in", [0, 1])) == 3
    assert count(("day", ">", "2030-01-01")) == 0


@pytest.mark.parametrize(
    "condition",
    [
        ("nothing", "==", 1),
        ("n", "==", "text"),
        ("n", "resembles", 1),
        ("day", "==", "yesterday"),
        ("n",),
    ],
)
def test_filter_that_does_not_fit_is_named(lake: Lake, condition: Any) -> None:
    publish(lake, [write(lake, 2, FIRST)])
    with pytest.raises(LakeError, match="does not fit the table"):
        lake.read("statistics", filters=[condition])


def test_unknown_column_is_named_with_the_known_ones(lake: Lake) -> None:
    with pytest.raises(LakeError, match=r"no column 'q' .*expected: metric, day, store"):
        lake.read("statistics", columns=["q"])


def test_files_of_other_partitions_are_not_opened(lake: Lake) -> None:
    other = write(lake, 3, SECOND)
    publish(lake, [write(lake, 2, FIRST), other])
    Path(lake.path("statistics", other.path)).unlink()
    assert lake.read("statistics", filters=[("day", "==", "2026-01-01")]).num_rows == 2
    with pytest.raises(LakeError, match=other.path):
        lake.read("statistics")


def test_snapshot_travels_with_just_the_files_a_worker_needs(lake: Lake) -> None:
    parts = [
        lake.write_part(
            "statistics",
            rows(4).filter(pa.array([i == shard for i in range(4)])),
            run_id="run-1",
            partition=FIRST,
            statistics=["shard"],
        )
        for shard in range(4)
    ]
    publish(lake, parts)
    snapshot = lake.snapshot("statistics")
    assert snapshot.rows == 4
    mine = snapshot.select(lambda file: file.statistics["shard"] == (2, 2))
    assert len(mine.files) == 1
    travelled = pickle.loads(pickle.dumps(mine))
    assert travelled.version == 1
    assert travelled.read()["n"].to_pylist() == [2]
    publish(lake, [write(lake, 9, FIRST)])
    assert travelled.read()["n"].to_pylist() == [2]


def test_order_does_not_depend_on_threads(lake: Lake) -> None:
    publish(lake, [write(lake, 500, FIRST, start=start) for start in range(0, 5000, 500)])
    once = lake.read("statistics")
    before = pa.cpu_count()
    try:
        pa.set_cpu_count(1)
        assert lake.read("statistics").equals(once)
    finally:
        pa.set_cpu_count(before)


def test_other_readers_see_the_same_rows(lake: Lake) -> None:
    publish(lake, [write(lake, 5, FIRST), write(lake, 4, SECOND)])
    publish(lake, [write(lake, 3, FIRST, start=50)])
    ours = lake.read("statistics").sort_by([("day", "ascending"), ("n", "ascending")])
    table = DeltaTable(lake.path("statistics"))
    theirs = table.to_pyarrow_table().select(ours.column_names)
    assert theirs.sort_by([("day", "ascending"), ("n", "ascending")]).equals(ours)
    with duckdb.connect() as connection:
        connection.register("statistics", table.to_pyarrow_dataset())
        found = connection.sql("SELECT day, sum(n), count(*) FROM statistics GROUP BY 1 ORDER BY 1")
        assert found.fetchall() == [
            (dt.date(2026, 1, 1), 50 + 51 + 52, 3),
            (dt.date(2026, 1, 2), 6, 4),
        ]


# Rot


def test_bit_flips_never_change_what_is_read(tmp_path: Path) -> None:
    lake = counts_lake(tmp_path)
    put(lake, 200, 1)
    snapshot = lake.snapshot("statistics")
    whole = snapshot.read()
    path = Path(lake.path("statistics", snapshot.files[0].path))
    content = path.read_bytes()
    chance = random.Random(20260101)
    refused: list[LakeError] = []
    for _ in range(400):
        damaged = bytearray(content)
        damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            read = snapshot.read()
        except LakeError as error:
            refused.append(error)
        else:
            # The bits that may flip unnoticed decide nothing, such as those of a page header's
            # own statistics.
            assert read.equals(whole)
        (fault,) = snapshot.verify()
        assert fault.where["file"] == snapshot.files[0].path
    assert len(refused) > 300
    assert {error.where["file"] for error in refused} == {snapshot.files[0].path}
    path.write_bytes(content)
    assert snapshot.verify() == []
    path.unlink()
    assert "cannot be read" in str(snapshot.verify()[0])
