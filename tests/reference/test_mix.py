"""The mix of departments on till lines as they come, against DuckDB over the same file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import hbpipe

pytestmark = pytest.mark.reference

CONFIG = "mix.yaml"


def test_shares_of_departments_equal_duckdb(lake: Path, events: Path) -> None:
    posteriors = hbpipe.read(str(lake), "posteriors")  # read by DuckDB under this name
    assert posteriors.num_rows == 293 * (10 + 3)
    rows = duckdb.sql(
        f"""
        WITH own AS (
            SELECT store_id, count(department) AS n,
                   count(*) FILTER (department = 'PRODUCE') AS y
            FROM '{events}' GROUP BY store_id
        )
        SELECT own.n, p.n, own.y, p.raw, p.mean, p."q0.05", p."q0.95"
        FROM own JOIN posteriors p USING (store_id)
        WHERE p.metric = 'departments' AND p.term = 'PRODUCE'
        """
    ).fetchall()
    assert len(rows) == 293
    for n, found_n, y, raw, mean, low, high in rows:
        assert found_n == n
        assert raw == (pytest.approx(y / n, rel=1e-12) if n else None)
        assert 0.0 < low < mean < high < 1.0


def test_shares_of_a_store_add_up_to_one(lake: Path) -> None:
    posteriors = hbpipe.read(str(lake), "posteriors")
    assert posteriors.num_rows
    [[least, greatest]] = duckdb.sql(
        """
        SELECT min(total), max(total)
        FROM (SELECT sum(mean) AS total FROM posteriors GROUP BY metric, store_id)
        """
    ).fetchall()
    assert least == pytest.approx(1.0, abs=1e-9)
    assert greatest == pytest.approx(1.0, abs=1e-9)


def test_every_fit_is_an_ordinary_one(lake: Path) -> None:
    fits = hbpipe.read(str(lake), "fits").to_pylist()
    assert {fit["metric"]: fit["status"] for fit in fits} == {"departments": "ok", "basket": "ok"}
    assert all(fit["converged"] and fit["starts_agree"] for fit in fits)
