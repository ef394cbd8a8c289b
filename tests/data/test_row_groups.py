"""Rows of a metric found by row groups, against the same rows found by a filter."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hbpipe.data.durable import Storage
from hbpipe.data.parts import write_part
from hbpipe.data.row_groups import RowGroups
from hbpipe.data.snapshot import FileRef, Snapshot
from hbpipe.errors import LakeError

SCHEMA = pa.schema({"metric": pa.string(), "chain": pa.string(), "n": pa.int64()})
COLUMNS = ["day", "chain", "n"]


def rows(*metrics: str) -> pa.Table:
    values = [(metric, f"C{k % 2}", k) for k, metric in enumerate(metrics)]
    return pa.table([list(column) for column in zip(*values, strict=True)], schema=SCHEMA)


def snapshot(folder, *files: list[pa.Table], **options) -> Snapshot:
    storage = Storage(str(folder))
    found = []
    for number, groups in enumerate(files, start=1):
        day = date(2026, 1, number).isoformat()
        receipt = write_part(
            storage, "t", groups, schema=SCHEMA, run_id="r", partition={"day": day}, **options
        )
        found.append(FileRef(receipt.path, {"day": day}, receipt.rows, receipt.size))
    schema = pa.schema([pa.field("day", pa.date32()), *SCHEMA])
    return Snapshot(storage, "t", 0, schema, ("day",), tuple(found))


def check(table: Snapshot, metric: str) -> pa.Table:
    found = RowGroups(table, "metric").read(metric, COLUMNS)
    wanted = table.read(columns=COLUMNS, filters=[("metric", "==", metric)])
    assert found.to_pylist() == wanted.to_pylist()
    return found


@pytest.mark.parametrize("statistics", [["metric"], []])
def test_row_groups_of_one_metric_and_of_several(tmp_path, statistics):
    apart, mixed = [rows("a", "a", "a"), rows("b", "b")], [rows("a", "b", "c", "b"), rows("c")]
    table = snapshot(tmp_path, apart, mixed, statistics=statistics)
    assert [check(table, metric).num_rows for metric in "abcd"] == [4, 4, 2, 0]


def test_text_stays_a_dictionary_where_all_files_keep_one(tmp_path):
    files = [rows("a", "a")], [rows("b")], [rows("a")]
    table = snapshot(tmp_path, *files, statistics=["metric"])
    assert pa.types.is_dictionary(check(table, "a").column("chain").type)
    plain = snapshot(tmp_path, [rows("a")], statistics=["metric"], dictionary=["metric"])
    both = replace(table, files=(*table.files, *plain.files))
    assert check(both, "a").column("chain").type == pa.string()


def test_a_column_of_later_settings_is_null(tmp_path):
    table = snapshot(tmp_path, [rows("a", "a")], statistics=["metric"])
    later = replace(table, schema=table.schema.append(pa.field("mean", pa.float64())))
    found = RowGroups(later, "metric").read("a", ["mean", "n"])
    assert found.to_pydict() == {"mean": [None, None], "n": [0, 1]}


def test_a_damaged_page_is_named(tmp_path):
    table = snapshot(tmp_path, [rows("a", "a", "a")], statistics=["metric"])
    (file,) = table.files
    path = tmp_path / "t" / file.path
    last = pq.read_metadata(path).row_group(0).column(SCHEMA.get_field_index("n"))
    first = last.dictionary_page_offset or last.data_page_offset
    data = bytearray(path.read_bytes())
    data[first + last.total_compressed_size - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(LakeError, match="damaged"):
        RowGroups(table, "metric").read("a", ["metric", *COLUMNS])
