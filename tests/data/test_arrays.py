"""Statistics that are arrays: through Arrow and Parquet and back, and read by others."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hbpipe.data import arrays
from hbpipe.data.arrays import arrow_type, to_arrow, to_numpy
from hbpipe.errors import LakeError
from hbpipe.model.families import FAMILIES
from hbpipe.model.family import Statistic

ONE = Statistic("n", "int64", "sum")
MATRIX = Statistic("cross", "float64", "moments", (2, 3))
COUNTS = Statistic("counts", "int64", "sum", (4,))


def sample(statistic: Statistic, rows: int) -> np.ndarray:
    shape = (rows, *statistic.shape)
    numbers = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    return (numbers * 0.1).astype(statistic.dtype) if statistic.dtype == "float64" else numbers


@pytest.mark.parametrize("statistic", [ONE, MATRIX, COUNTS], ids=lambda one: one.name)
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_there_and_back(tmp_path: Path, statistic: Statistic, rows: int) -> None:
    values = sample(statistic, rows)
    table = pa.table({"x": to_arrow(values)})
    assert table.schema.field("x").type == arrow_type(statistic)
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=2)
    found = to_numpy(pq.read_table(tmp_path / "x.parquet").column("x"), statistic)
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_slices_and_strides_do_not_matter() -> None:
    values = sample(MATRIX, 8)
    column = pa.chunked_array([to_arrow(values[::2]).combine_chunks().slice(1, 2)])
    np.testing.assert_array_equal(to_numpy(column, MATRIX), values[2:6:2])


def test_more_numbers_than_one_chunk_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "CHUNK", 13)
    values = sample(MATRIX, 5)
    column = to_arrow(values)
    assert column.num_chunks == 3
    np.testing.assert_array_equal(to_numpy(column, MATRIX), values)


@pytest.mark.parametrize(("row", "found"), [([1.0, 2.0], "2 numbers"), (None, "0 numbers")])
def test_rows_of_another_length_are_refused(row: list[float] | None, found: str) -> None:
    column = pa.chunked_array([pa.array([[0.0] * 6, row], pa.list_(pa.float64()))])
    with pytest.raises(LakeError, match=f"a row of 'cross' has {found}"):
        to_numpy(column, MATRIX)


def test_duckdb_reads_the_lists(tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": to_arrow(sample(MATRIX, 2))}), tmp_path / "x.parquet")
    query = f"SELECT len(x), x[1], x[6] FROM '{tmp_path}/x.parquet'"
    found = duckdb.sql(query).fetchall()
    assert found == [(6, 0.0, pytest.approx(0.5)), (6, pytest.approx(0.6), pytest.approx(1.1))]


def test_families_that_share_a_name_share_its_type() -> None:
    """They share a column of the table of statistics."""
    types: dict[str, set[pa.DataType]] = {}
    # The days of a level that drifts are laid out by the window, and have no column.
    measured = [family for family in FAMILIES.values() if family.is_measured]
    for family in measured:
        for statistic in family.statistics:
            types.setdefault(statistic.name, set()).add(arrow_type(statistic))
    assert {name: found for name, found in types.items() if len(found) > 1} == {}
