"""Revenue per line on till lines as they come, against DuckDB over the same file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import hbpipe

pytestmark = pytest.mark.reference

CONFIG = "revenue.yaml"


def test_statistics_and_raw_values_equal_duckdb(lake: Path, events: Path) -> None:
    posteriors = hbpipe.read(str(lake), "posteriors")  # read by DuckDB under this name
    assert posteriors.num_rows == 293 * 2
    rows = duckdb.sql(
        f"""
        WITH own AS (
            SELECT store_id, count(*) AS n, count(*) FILTER (sales_value > 0) AS y,
                   avg(ln(sales_value)) FILTER (sales_value > 0) AS m,
                   var_pop(ln(sales_value)) FILTER (sales_value > 0) AS v
            FROM '{events}' GROUP BY store_id
        )
        SELECT own.n, p.n, y / own.n * exp(m + v / 2), p.raw, p.mean, p."q0.05", p."q0.95"
        FROM own JOIN posteriors p USING (store_id) WHERE p.metric = 'sales_per_line'
        """
    ).fetchall()
    assert len(rows) == 293
    for n, found_n, own_raw, raw, mean, low, high in rows:
        assert found_n == n
        assert raw == pytest.approx(own_raw, rel=1e-9)
        assert 0.0 < low < mean < high


def test_what_has_no_mean_has_a_median(lake: Path) -> None:
    posteriors = hbpipe.read(str(lake), "posteriors")
    assert posteriors.num_rows
    [[rows, means, medians]] = duckdb.sql(
        """SELECT count(*), count(mean), count("q0.5") FROM posteriors
        WHERE metric = 'coupon_per_line'"""
    ).fetchall()
    assert (rows, means, medians) == (293, 0, 293)
