"""`hbpipe export`: a released table in one file, as other programs read it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import xarray

import hbpipe
from tests.nights import BOTH, first_night, night, settings_for, write_config, write_days
from tests.verbs import Verb, verbs_of

SETTINGS = {"metrics": BOTH, "inference": {"uncertainty": "auto"}}


@pytest.fixture
def export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Verb:
    first_night(tmp_path, 3, **SETTINGS)
    return verbs_of(write_config(tmp_path, **SETTINGS), capsys)


def test_every_form_has_the_rows_of_the_release(export: Verb, tmp_path: Path) -> None:
    rows = hbpipe.read(tmp_path / "lake", "posteriors").to_pylist()
    for suffix in (".parquet", ".csv", ".arrow"):
        code, printed, _ = export("export", "--out", str(tmp_path / f"out{suffix}"), "--json")
        assert (code, json.loads(printed)["count"]) == (0, len(rows))
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == rows
    assert pa.ipc.open_file(tmp_path / "out.arrow").read_all().to_pylist() == rows
    found = pyarrow.csv.read_csv(tmp_path / "out.csv")
    assert found["store_id"].to_pylist() == [row["store_id"] for row in rows]
    assert found["mean"].to_pylist() == [row["mean"] for row in rows]


def test_arrays_have_the_numbers_of_the_rows(export: Verb, tmp_path: Path) -> None:
    assert export("export", "--out", str(tmp_path / "out.nc"))[0] == 0
    rows = hbpipe.read(tmp_path / "lake", "posteriors").to_pylist()
    means = {(row["metric"], row["store_id"]): row["mean"] for row in rows}
    with xarray.open_datatree(tmp_path / "out.nc", engine="h5netcdf") as tree:
        assert tree.attrs["release"] == "2026-01-03.1"
        assert sorted(tree.children) == ["basket", "conversion"]
        for name, metric in tree.children.items():
            for store, mean in zip(metric["store_id"].values, metric["mean"].values, strict=True):
                assert mean == means[name, store]


def test_a_metric_some_columns_and_an_older_release(export: Verb, tmp_path: Path) -> None:
    write_days(tmp_path, 1, first=3)
    night(settings_for(tmp_path, **SETTINGS))
    out = tmp_path / "out.parquet"
    options = ("--metric", "basket", "--columns", "store_id,n", "--as-of", "2026-01-03")
    code, printed, _ = export("export", *options, "--out", str(out))
    assert (code, printed) == (0, f"6 rows of posteriors, release 2026-01-03.1, in {out}\n")
    assert pq.read_table(out).column_names == ["store_id", "n"]
