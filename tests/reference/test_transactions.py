"""Till lines as they come, from Parquet to a release, against DuckDB over the same file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

import hbpipe
from hbpipe.cli import main

pytestmark = pytest.mark.reference

CONFIG = "transactions.yaml"

#: Metric -> sample size and raw value, as a user would write them in SQL.
EXPECTED = {
    "private_label": ("count(brand)", "sum((brand = 'Private')::int) / count(brand)"),
    "coupon_use": ("count(*)", "sum((coupon_disc > 0)::int) / count(*)"),
    "line_value": (
        "count(*) FILTER (sales_value > 0)",
        "avg(ln(sales_value)) FILTER (sales_value > 0)",
    ),
    "lines_per_week": (
        "count(*)",
        "7 * count(*) / (date '2017-12-31' - min(ts::date) + 1)",
    ),
}


def test_every_line_is_accounted_for(lake: Path) -> None:
    [file] = hbpipe.read(str(lake), "files").to_pylist()
    assert file["rows"] == file["accepted"] == 75_000


@pytest.mark.parametrize("metric", EXPECTED)
def test_counts_and_raw_values_equal_duckdb(metric: str, lake: Path, events: Path) -> None:
    n, raw = EXPECTED[metric]
    posteriors = hbpipe.read(str(lake), "posteriors")  # read by DuckDB under this name
    assert posteriors.num_rows
    rows = duckdb.sql(
        f"""
        SELECT p.n, e.n, p.raw, e.raw
        FROM (FROM posteriors WHERE metric = '{metric}') p
        FULL JOIN (
            SELECT store_id, {n} AS n, {raw} AS raw
            FROM (SELECT *, transaction_timestamp::timestamp AS ts FROM '{events}')
            GROUP BY store_id
        ) e USING (store_id)
        """
    ).fetchall()
    assert len(rows) == 293
    for found_n, expected_n, found_raw, expected_raw in rows:
        assert found_n == expected_n
        if expected_n:
            assert found_raw == pytest.approx(expected_raw, rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "trials", "successes", "known"),
    [
        ("private_label", "count(brand)", "count(*) FILTER (brand = 'Private')", 2.85),
        ("coupon_use", "count(*)", "count(*) FILTER (coupon_disc > 0)", 3.26),
    ],
)
def test_the_lines_of_a_household_hang_together(
    metric: str, trials: str, successes: str, known: float, lake: Path, events: Path
) -> None:
    """The design effect of households within stores over the year, as SQL has it."""
    [[expected]] = duckdb.sql(
        f"""
        WITH cell AS (
            SELECT store_id, {trials}::double AS n, {successes}::double AS y
            FROM '{events}' GROUP BY store_id, household_id HAVING n > 0
        ),
        store AS (
            SELECT store_id, sum(n) AS n, sum(y) AS y, sum(n * n) AS nn
            FROM cell GROUP BY store_id
        ),
        square AS (
            SELECT sum((c.y - c.n * s.y / s.n) ** 2) AS squares
            FROM cell c JOIN store s USING (store_id)
        ),
        model AS (
            SELECT sum(s.y * (1 - s.y / s.n) * s.n / (s.n - 1) * (1 - s.nn / s.n ** 2)) AS expected
            FROM store s WHERE s.n > 1
        )
        SELECT squares / expected FROM square, model
        """
    ).fetchall()
    [fit] = [r for r in hbpipe.read(str(lake), "fits").to_pylist() if r["metric"] == metric]
    assert fit["overdispersion"] == pytest.approx(expected, rel=1e-9)
    assert expected == pytest.approx(known, abs=0.01)


def test_only_what_is_not_divided_is_warned_of(lake: Path) -> None:
    audits = hbpipe.read(str(lake), "audits").to_pylist()
    found = {r["subject"]: r["status"] for r in audits if r["name"] == "overdispersion"}
    assert (found["private_label"], found["coupon_use"]) == ("pass", "warn")
    posteriors = hbpipe.read(str(lake), "posteriors").to_pylist()
    share = [r["n_effective"] / r["n"] for r in posteriors if r["metric"] == "private_label"]
    assert min(share) == pytest.approx(1 / 2.85, rel=0.01)


def test_the_recount_agrees(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["verify", "--full", "--json", *command])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert code == 0, [one for one in found["findings"] if not one["fine"]]


def test_a_drafted_configuration_runs(
    events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["suggest", str(events)]) == 0
    draft = tmp_path / "draft.yaml"
    draft.write_text(capsys.readouterr().out)
    lake = ["--set", f"lake.path={tmp_path / 'lake'}"]
    assert main(["run", "--quiet", "--config", str(draft), *lake]) == 0
    assert hbpipe.read(str(tmp_path / "lake"), "posteriors").num_rows >= 293


def test_every_interval_is_open_and_ordered(lake: Path) -> None:
    for row in hbpipe.read(str(lake), "posteriors").to_pylist():
        assert row["q0.05"] < row["q0.5"] < row["q0.95"], row
        assert row["sd"] > 0
        assert 0 <= row["weight"] <= 1
