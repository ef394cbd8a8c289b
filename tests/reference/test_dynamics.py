"""The value of a till line today, from the shipped configuration, against DuckDB."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import hbpipe
from hbpipe.cli import main

pytestmark = pytest.mark.reference


def arguments(root: Path, reference: Path, lake: Path, window: str) -> list[str]:
    events = reference / "retail_transactions" / "events.parquet"
    places = [f"events.path={events}", f"lake.path={lake}", f"inference.window={window}"]
    config = ["--config", str(root / "configs" / "dynamics.yaml")]
    return config + [word for place in places for word in ("--set", place)]


@pytest.mark.parametrize(("window", "model"), [("28d", "static"), ("350d", "local_level")])
def test_lines_drift_over_a_year_and_not_over_a_month(
    window: str, model: str, root: Path, reference: Path, tmp_path: Path
) -> None:
    given = arguments(root, reference, tmp_path / "lake", window)
    assert main(["run", "--quiet", *given]) == 0
    [fit] = hbpipe.read(str(tmp_path / "lake"), "fits").to_pylist()
    assert fit["dynamics"] == model
    assert fit["scored_days"] == 426
    posteriors = hbpipe.read(str(tmp_path / "lake"), "posteriors")
    assert posteriors.num_rows
    rows = duckdb.sql(
        f"""
        SELECT p.n, e.n, p.raw, e.raw
        FROM posteriors p LEFT JOIN (
            SELECT store_id, count(*) AS n, avg(ln(sales_value)) AS raw
            FROM '{reference}/retail_transactions/events.parquet'
            WHERE sales_value > 0 AND transaction_timestamp::timestamp::date
                > DATE '2017-12-31' - {window[:-1]}
            GROUP BY store_id
        ) e USING (store_id)
        """
    ).fetchall()
    for found_n, expected_n, found_raw, expected_raw in rows:
        assert found_n == (expected_n or 0)
        if expected_n:
            assert found_raw == pytest.approx(expected_raw, rel=1e-12)
    for verb in (["verify", "--full"], ["explain", "367"], ["audit"]):
        assert main([*verb, *given]) == 0
    assert main(["report", "--out", str(tmp_path / "report.html"), *given]) == 0
