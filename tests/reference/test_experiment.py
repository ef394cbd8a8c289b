"""Effects on till lines as they come, against DuckDB over the same file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import hbpipe

pytestmark = pytest.mark.reference

CONFIG = "experiment.yaml"


def test_effects_equal_duckdb(lake: Path, events: Path) -> None:
    posteriors = hbpipe.read(str(lake), "posteriors")  # read by DuckDB under this name
    assert posteriors.num_rows == 293 * 4
    rows = duckdb.sql(
        f"""
        WITH own AS (
            SELECT store_id,
                   count(*) FILTER (brand = 'National') AS control,
                   count(*) FILTER (brand = 'Private') AS treatment,
                   avg(sales_value) FILTER (brand = 'Private')
                   - avg(sales_value) FILTER (brand = 'National') AS effect
            FROM '{events}' GROUP BY store_id
        )
        SELECT own.control, n_control, own.treatment, n_treatment, own.effect, raw, raw_sd,
               p_above_zero
        FROM own JOIN posteriors USING (store_id) WHERE metric = 'line_value'
        """
    ).fetchall()
    assert len(rows) == 293
    for control, n_control, treatment, n_treatment, effect, raw, raw_sd, above in rows:
        assert (n_control, n_treatment) == (control, treatment)
        assert raw == (None if effect is None else pytest.approx(effect, rel=1e-9, abs=1e-12))
        assert (raw_sd is None) == (effect is None)
        assert 0.0 <= above <= 1.0


def test_coupons_are_rarer_on_the_stores_own_brand(lake: Path) -> None:
    """Most stores have an arm without any, and none of them a variance of zero."""
    rows = hbpipe.read(str(lake), "hyperparameters").to_pylist()
    [mu] = [r for r in rows if (r["metric"], r["parameter"]) == ("coupon_use", "mu")]
    assert mu["q0.95"] < 0.0
    stores = hbpipe.read(str(lake), "posteriors").to_pylist()
    sds = [r["raw_sd"] for r in stores if r["metric"] == "coupon_use" and r["raw"] is not None]
    assert len(sds) == 192
    assert min(sds) > 0.0
