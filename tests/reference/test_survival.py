"""Second purchases of households, from till lines to hazards, against DuckDB over the same file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

import hbpipe
from hbpipe.cli import main

pytestmark = pytest.mark.reference

#: Metric -> the interval's ends.
INTERVALS = {
    "second_purchase_0_7": (0, 7),
    "second_purchase_7_30": (7, 30),
    "second_purchase_30_90": (30, 90),
    "second_purchase_after_90": (90, 1_000_000),
    "any_time": (0, 1_000_000),
}


@pytest.fixture(scope="module")
def lines(reference: Path) -> Path:
    return reference / "retail_transactions" / "events.parquet"


@pytest.fixture(scope="module")
def lake(lines: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the release of the spells that the script makes of the lines."""
    folder = tmp_path_factory.mktemp("survival")
    spells = folder / "events" / "spells.parquet"
    script = root / "configs" / "second_purchases.py"
    subprocess.run([sys.executable, script, lines, spells], check=True)
    config = str(root / "configs" / "survival.yaml")
    changes = ["--set", f"events.path={folder / 'events'}", "--set", f"lake.path={folder / 'lake'}"]
    assert main(["run", "--quiet", "--config", config, *changes]) == 0
    return folder / "lake"


@pytest.mark.parametrize("metric", INTERVALS)
def test_hazards_are_events_over_time_at_risk(metric: str, lake: Path, lines: Path) -> None:
    lower, upper = INTERVALS[metric]
    posteriors = hbpipe.read(str(lake), "posteriors")  # read by DuckDB under this name
    assert posteriors.num_rows == 293 * 5
    rows = duckdb.sql(
        f"""
        WITH visits AS (
            SELECT DISTINCT store_id, household_id, left(transaction_timestamp, 10)::DATE AS day
            FROM '{lines}'
        ), numbered AS (
            SELECT *, row_number() OVER (PARTITION BY store_id, household_id ORDER BY day) AS k,
                   lead(day) OVER (PARTITION BY store_id, household_id ORDER BY day) AS next
            FROM visits
        ), spells AS (
            SELECT store_id, next IS NOT NULL AS again,
                   coalesce(next, (SELECT max(day) FROM visits)) - day AS days
            FROM numbered WHERE k = 1
        ), own AS (
            SELECT store_id,
                   count(*) FILTER (
                       again AND days <= {upper} AND (days > {lower} OR days = {lower} AND days = 0)
                   ) AS y,
                   sum(greatest(least(days, {upper}) - {lower}, 0)) AS time
            FROM spells GROUP BY store_id
        )
        SELECT own.y, own.time, p.raw, p."q0.05", p.mean, p."q0.95"
        FROM own JOIN posteriors p USING (store_id) WHERE p.metric = '{metric}'
        """
    ).fetchall()
    assert len(rows) == 293
    for y, time, raw, low, mean, high in rows:
        assert raw == (pytest.approx(30 * y / time, rel=1e-12) if time else None)
        assert 0.0 < low < mean < high
