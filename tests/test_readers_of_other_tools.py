"""Every command of hbpipe/report/README.md gives the rows of the release, and no others."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import hbpipe
from hbpipe.run.nightly import run_night
from tests.nights import BOTH, day, settings_for, visits, write, write_config, write_days

RELEASE, LATER = "2026-09-10.1", "2026-09-10.2"
SETTINGS = {"metrics": BOTH, "inference": {"uncertainty": "auto"}}
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(root: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language, in order."""
    text = (root / "hbpipe/report/README.md").read_text(encoding="utf-8")
    return [body for name, body in _BLOCK.findall(text) if name == language]


def with_java(block: str) -> bool:
    """Tell whether a block is Spark's."""
    return "spark" in block


def sorted_rows(rows: Any) -> list[str]:
    """Give rows in one order, however a tool has them, and columns in another."""
    columns = sorted(rows[0])
    return sorted(repr([row[name] for name in columns]) for row in rows)


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake of two as-of days, the later one released twice; and the README's files from it."""
    folder = tmp_path_factory.mktemp("reader")
    sections = {**SETTINGS, "lake": {"path": str(folder / "sample-lake")}}
    settings = settings_for(folder, **sections)
    write_days(folder, 3, first=250)
    for last in (251, 252, 252):
        run_night(settings, as_of=day(last), now=datetime(2026, 9, 11, 3, tzinfo=UTC))
        # What comes late makes of the same day another release.
        if last == 252:
            write(folder / "events" / "late.parquet", visits(252, seed=1))
    (folder / "sample").mkdir()
    write_config(folder, **sections).rename(folder / "sample" / "pipeline.yaml")
    (folder / ".venv").mkdir()
    (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
    (script,) = blocks(root, "sh")
    command = ["bash", "-euo", "pipefail", "-c", script]
    subprocess.run(command, cwd=folder, timeout=120, check=True)
    return folder


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[str]:
    """The rows of the release that the README names."""
    found = [rows_of_release(folder, release) for release in (RELEASE, LATER)]
    assert found[0] != found[1]
    return found[0]


def rows_of_release(folder: Path, release: str) -> list[str]:
    found = hbpipe.read(folder / "sample-lake", "posteriors", release=release).to_pylist()
    return sorted_rows([row for row in found if row["metric"] == "conversion"])


def to_rows(found: Any) -> list[dict[str, Any]]:
    """Give a result of DuckDB or Polars as rows."""
    table = found.to_arrow_table() if hasattr(found, "to_arrow_table") else found.to_arrow()
    assert isinstance(table, pa.Table)
    return list(table.to_pylist())


@pytest.mark.long
def test_duckdb_polars_and_xarray(
    root: Path, folder: Path, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    compared = 0
    for block in blocks(root, "python"):
        if with_java(block):
            continue
        exec(block, names)
        if "rows" in names:
            assert sorted_rows(to_rows(names.pop("rows"))) == expected, block
            compared += 1
    assert compared == 7
    rows = [row for row in names["posteriors"].to_pylist() if row["metric"] == "conversion"]
    means = {row["store_id"]: row["mean"] for row in rows}
    assert names["conversion"].sizes["store"] == len(expected) == len(means)
    for store in names["surest"]:
        assert float(store) == means[str(store["store_id"].values)]


#: What the blocks are followed by: Spark's rows as a line of JSON that all of them fit in.
_PRINT = """
import json
found = [{"mean": row["mean"], "store_id": row["store_id"]} for row in rows.collect()]
print("ROWS", json.dumps([sorted(rows.columns), found]))
"""


@pytest.mark.spark
def test_spark(root: Path, folder: Path) -> None:
    chosen = [block for block in blocks(root, "python") if "xarray" not in block]
    script = "".join(block + (_PRINT if with_java(block) else "") for block in chosen)
    places = [os.environ["SPARK_PACKAGES"], os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "PYSPARK_SUBMIT_ARGS": "--conf spark.ui.enabled=false pyspark-shell",
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    printed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=environment,
        timeout=300,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    table = hbpipe.read(folder / "sample-lake", "posteriors", release=RELEASE)
    wanted = [
        {"mean": row["mean"], "store_id": row["store_id"]}
        for row in table.to_pylist()
        if row["metric"] == "conversion"
    ]
    results = [json.loads(found) for found in re.findall(r"ROWS (.*)", printed)]
    assert len(results) == 2
    for columns, rows in results:
        assert columns == sorted(table.column_names)
        assert sorted_rows(rows) == sorted_rows(wanted)
