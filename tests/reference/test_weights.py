"""Weights of each meaning on till lines as they come, against DuckDB over the same file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import hbpipe

pytestmark = pytest.mark.reference

CONFIG = "weights.yaml"

#: Metric -> weighted rate or mean, and effective size where nothing else divides it.
EXPECTED = {
    "private_items": (
        """coalesce(sum(quantity) FILTER (brand = 'Private' AND quantity <= 50), 0)
           / nullif(sum(quantity) FILTER (brand IS NOT NULL AND quantity <= 50), 0)""",
        "NULL",
    ),
    "line_value": (
        """sum(quantity * ln(sales_value)) FILTER (sales_value > 0 AND quantity <= 50)
           / nullif(sum(quantity) FILTER (sales_value > 0 AND quantity <= 50), 0)""",
        "count(*) FILTER (sales_value > 0 AND quantity BETWEEN 1 AND 50)",
    ),
    "private_money": (
        """coalesce(sum(sales_value) FILTER (brand = 'Private'), 0)
           / nullif(sum(sales_value) FILTER (brand IS NOT NULL), 0)""",
        "NULL",
    ),
}


@pytest.mark.parametrize("metric", EXPECTED)
def test_weighted_rates_equal_duckdb(metric: str, lake: Path, events: Path) -> None:
    raw, size = EXPECTED[metric]
    posteriors = hbpipe.read(str(lake), "posteriors")  # read by DuckDB under this name
    assert posteriors.num_rows == 293 * 3
    rows = duckdb.sql(
        f"""
        WITH own AS (SELECT store_id, {raw} AS raw, {size} AS size FROM '{events}' GROUP BY ALL)
        SELECT own.raw, own.size, p.raw, p.n_effective, p."q0.05", p.mean, p."q0.95"
        FROM own JOIN posteriors p USING (store_id) WHERE p.metric = '{metric}'
        """
    ).fetchall()
    assert len(rows) == 293
    for raw, size, found, effective, low, mean, high in rows:
        assert found == (None if raw is None else pytest.approx(raw, rel=1e-6, abs=1e-6))
        assert size is None or effective == size
        assert low < mean < high


def test_the_effective_size_of_money(lake: Path, events: Path) -> None:
    """Kish's share of the lines that count, of a store's events."""
    posteriors = hbpipe.read(str(lake), "posteriors")
    assert posteriors.num_rows
    rows = duckdb.sql(
        f"""
        WITH own AS (
            SELECT store_id, count(*) AS events, count(*) AS n,
                   sum(sales_value) ** 2 / nullif(sum(sales_value ** 2), 0) AS kish
            FROM '{events}' WHERE brand IS NOT NULL GROUP BY store_id
        )
        SELECT own.n, own.kish, p.n, p.n_effective
        FROM own JOIN posteriors p USING (store_id) WHERE p.metric = 'private_money'
        """
    ).fetchall()
    for n, kish, events_of_store, effective in rows:
        if kish is not None:
            assert effective == pytest.approx(events_of_store * kish / n, rel=1e-6)
