"""Staged files that are not what their receipts say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hbpipe.data.lake import Lake
from hbpipe.errors import LakeError
from tests.data.lake_samples import (
    FIRST,
    counts_lake,
    put,
    staged,
    values,
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return counts_lake(tmp_path)


def other_footer(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda path: path.unlink(), "has vanished"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "size is"),
        (lambda path: path.write_bytes(b""), "size is 0"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "no readable Parquet footer"),
        (other_footer, "footer"),
    ],
)
def test_damaged_staged_file_is_refused(
    lake: Lake, damage: Callable[[Path], Any], found: str
) -> None:
    put(lake, 2, 7)
    receipt, path = staged(lake)
    damage(path)
    with pytest.raises(LakeError, match=found) as caught:
        lake.publish("statistics", [receipt], app_id="x", replaces=[FIRST])
    assert caught.value.where["file"] == receipt.path
    assert values(lake) == [7, 7]


def test_part_of_another_schema_is_refused(lake: Lake) -> None:
    other = pa.schema([("store", pa.string()), ("n", pa.string())])
    part = lake.write_part(
        "statistics",
        pa.table({"store": ["a"], "n": ["1"]}),
        run_id="r",
        partition=FIRST,
        schema=other,
    )
    with pytest.raises(LakeError, match="column 'n' is string, not int64"):
        lake.publish("statistics", [part], app_id="x", replaces=[FIRST])
    assert lake.version("statistics") == 0


@pytest.mark.parametrize("below", ["", "lake"])
def test_a_lake_where_a_file_is_in_the_way_is_refused(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LakeError, match="cannot make a folder: File exists") as caught:
        Lake(str(tmp_path / "file" / below)).create("days", pa.schema([("day", pa.date32())]))
    assert caught.value.where == {"folder": tmp_path / "file"}
    assert caught.value.remedy
