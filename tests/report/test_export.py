"""Tables as files, and whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from hbpipe.errors import HbpipeError
from hbpipe.report.export import FORMATS, write_table, write_tables

TABLE = pa.table(
    {
        "store_id": ["<b>", 'a"b', "ü, 2"],
        "n": [1, 2, 3],
        "mean": [0.1, None, 1e-300],
        "bins": [[1.0, 2.0], None, []],
    }
)


def read_back(path: Path) -> pa.Table:
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix == ".arrow":
        return pa.ipc.open_file(path).read_all()
    return pacsv.read_csv(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_is_written_is_read_back(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / "deep" / f"table{suffix}"
    assert write_tables(TABLE.schema, [TABLE.slice(0, 2), TABLE.slice(2)], path) == 3
    found = read_back(path)
    assert found.drop(["bins"]).to_pylist() == TABLE.drop(["bins"]).to_pylist()
    lists = [[1.0, 2.0], None, []] if suffix != ".csv" else ["[1.0, 2.0]", "", "[]"]
    assert found["bins"].to_pylist() == lists
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_table_without_rows_keeps_its_columns(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"none{suffix}"
    write_table(TABLE.schema.empty_table(), path)
    assert read_back(path).column_names == TABLE.column_names


def test_what_breaks_off_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    def breaking() -> Iterator[pa.Table]:
        yield TABLE
        raise HbpipeError("the next file is damaged")

    path = tmp_path / "table.parquet"
    write_table(TABLE.slice(0, 1), path)
    with pytest.raises(HbpipeError, match="the next file is damaged"):
        write_tables(TABLE.schema, breaking(), path)
    assert read_back(path).num_rows == 1
    assert list(tmp_path.iterdir()) == [path]


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HbpipeError, match=r"cannot write table.xls; expected: a name in .parquet"):
        write_table(TABLE, tmp_path / "table.xls")
