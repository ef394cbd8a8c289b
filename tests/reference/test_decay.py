"""Decayed metrics on till lines as they come, against DuckDB over the same file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import hbpipe

pytestmark = pytest.mark.reference

CONFIG = "decay.yaml"


def test_decayed_shares_equal_duckdb(lake: Path, events: Path) -> None:
    posteriors = hbpipe.read(str(lake), "posteriors")  # read by DuckDB under this name
    assert posteriors.num_rows == 220 * (4 + 6)
    rows = duckdb.sql(
        f"""
        WITH lines AS (
            SELECT *, transaction_timestamp::timestamp::date AS day FROM '{events}'
        ), own AS (
            SELECT store_id, count(department) AS n,
                   sum(w) FILTER (department IS NOT NULL) AS size,
                   sum(w * w) FILTER (department IS NOT NULL) AS squares,
                   coalesce(sum(w) FILTER (department = 'PRODUCE'), 0) AS produce
            FROM (SELECT *, pow(2, -(DATE '2017-12-31' - day) / 28.0) AS w FROM lines
                  WHERE day > DATE '2017-12-31' - 168)
            GROUP BY store_id
        ), days AS (
            SELECT sum(w) / sum(w * w) AS most
            FROM (SELECT pow(2, -age / 28.0) AS w FROM range(168) ages(age))
        )
        SELECT own.n, p.n, produce / size, p.raw, size * least(size / squares, most), p.n_effective
        FROM own CROSS JOIN days JOIN posteriors p USING (store_id)
        WHERE p.metric = 'departments' AND p.term = 'PRODUCE' AND own.n > 0
        """
    ).fetchall()
    assert len(rows) > 200
    for n, found_n, raw, found_raw, effective, found_effective in rows:
        assert found_n == n
        assert found_raw == pytest.approx(raw, rel=1e-5, abs=1e-9)
        assert found_effective == pytest.approx(effective, rel=1e-6)


def test_every_fit_is_an_ordinary_one(lake: Path) -> None:
    fits = hbpipe.read(str(lake), "fits").to_pylist()
    assert {fit["status"] for fit in fits} == {"ok"}
    assert all(fit["converged"] and fit["starts_agree"] for fit in fits)
