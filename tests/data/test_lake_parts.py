"""One part: how it is written, and what the driver refuses."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hbpipe.data.footer import signed
from hbpipe.data.lake import Lake
from hbpipe.data.parts import write_part
from hbpipe.errors import LakeError
from tests.data.lake_samples import (
    FIRST,
    rows,
    statistics_lake,
    write,
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return statistics_lake(tmp_path)


# Written by a worker


def test_part_is_checksummed_zstd_with_one_row_group_per_table(lake: Lake) -> None:
    receipt = lake.write_part(
        "statistics",
        (rows(count, metric) for count, metric in [(5, "orders"), (0, "empty"), (3, "value")]),
        run_id="run-1",
        partition=FIRST,
        statistics=["metric", "shard"],
    )
    path = Path(lake.path("statistics", receipt.path))
    footer = pq.read_metadata(path)
    assert [footer.row_group(i).num_rows for i in range(footer.num_row_groups)] == [5, 3]
    columns = {
        footer.row_group(0).column(i).path_in_schema: footer.row_group(0).column(i)
        for i in range(footer.num_columns)
    }
    assert {column.compression for column in columns.values()} == {"ZSTD"}
    assert {name for name, column in columns.items() if column.is_stats_set} == {"metric", "shard"}
    dictionaries = {name for name, column in columns.items() if column.has_dictionary_page}
    assert dictionaries == {"metric", "store"}
    assert "day" not in columns
    assert (receipt.rows, receipt.size) == (8, path.stat().st_size)
    assert receipt.statistics == {"metric": ("orders", "value"), "shard": (0, 3)}
    assert receipt.null_counts == {"metric": 0, "shard": 0}
    assert path.parent.name == "day=2026-01-01"
    assert path.name.startswith("part-run-1-")
    assert pickle.loads(pickle.dumps(receipt)) == receipt
    assert len(pickle.dumps(receipt)) < 1000


def test_a_part_may_be_written_with_snappy_and_says_so_in_its_name(lake: Lake) -> None:
    schema = lake.snapshot("statistics").data_schema
    receipt = write_part(
        lake.storage,
        "statistics",
        rows(5, "orders"),
        schema=schema,
        run_id="run-1",
        partition=FIRST,
        compression="snappy",
    )
    footer = pq.read_metadata(lake.path("statistics", receipt.path))
    assert {footer.row_group(0).column(k).compression for k in range(3)} == {"SNAPPY"}
    assert receipt.path.endswith(".snappy.parquet")
    assert signed(receipt.path) == (receipt.footer_digest[:16], receipt.digest[:16])


def test_staging_is_empty_after_a_part(lake: Lake) -> None:
    write(lake, 3, FIRST)
    assert list(Path(lake.private_path("staging")).iterdir()) == []


def test_dictionary_columns_are_values(lake: Lake) -> None:
    encoded = rows(3)
    encoded = encoded.set_column(0, "metric", encoded["metric"].dictionary_encode())
    lake.replace("statistics", encoded, run_id="run-1", partition=FIRST)
    assert lake.read("statistics").drop(["day"]).equals(rows(3))


def test_statistics_leave_out_what_is_not_comparable(lake: Lake) -> None:
    long = rows(2).set_column(1, "store", pa.array(["a", "b" * 65]))
    receipt = lake.write_part(
        "statistics",
        long,
        run_id="run-1",
        partition=FIRST,
        statistics=["store", "mean", "n"],
    )
    assert receipt.statistics == {"n": (0, 1)}


@pytest.mark.parametrize("value", ["../../evil", "2026-1-1", "20260101", "", "2026-02-30", "a/b"])
def test_only_dates_become_paths(lake: Lake, value: str) -> None:
    with pytest.raises(LakeError, match="not an ISO date"):
        write(lake, 1, {"day": value})


@pytest.mark.parametrize("run_id", ["", "../evil", "a/b", "x" * 65, ".hidden"])
def test_run_id_that_is_no_file_name_is_refused(lake: Lake, run_id: str) -> None:
    with pytest.raises(LakeError, match="cannot be part of a file name"):
        lake.write_part("statistics", rows(1), run_id=run_id, partition=FIRST)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda table: table.drop(["n"]), "column 'n' is missing"),
        (lambda table: table.append_column("x", table["n"]), "column 'x' is unknown"),
        (
            lambda table: table.set_column(3, "n", table["n"].cast(pa.float64())),
            "column 'n' is double, not int64",
        ),
        (lambda table: table.append_column("n", table["n"]), "columns are repeated"),
    ],
)
def test_part_with_other_columns_is_refused(
    lake: Lake, change: Callable[[pa.Table], pa.Table], found: str
) -> None:
    with pytest.raises(LakeError, match=found):
        lake.write_part("statistics", change(rows(2)), run_id="run-1", partition=FIRST)


def test_close_that_writes_nothing_and_says_nothing_is_noticed(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What closing a Parquet writer on a full disk was seen to do."""
    monkeypatch.setattr(pq.ParquetWriter, "close", lambda self: None)
    with pytest.raises(LakeError, match="no readable Parquet footer"):
        write(lake, 3, FIRST)
    assert list(Path(lake.path("statistics")).glob("**/*.parquet")) == []
