"""What the night says of each store, against DuckDB over the same files."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from hbpipe.run.releases import read
from hbpipe.run.simulate import simulate_events
from tests.nights import lake_of, night, settings_for

METRICS = {
    "conversion": {"family": "beta_binomial", "successes": "converted", "trials": "rows"},
    "basket": {
        "family": "normal",
        "value": "amount",
        "transform": "log",
        "where": [["converted", "==", True]],
    },
    "orders": {"family": "gamma_poisson", "count": "converted", "exposure": "active_days"},
}
#: The window: the last five of eight days.
WINDOW = "ts >= TIMESTAMP '2026-01-04' AND ts < TIMESTAMP '2026-01-09'"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("duckdb")
    simulate_events(
        folder,
        first_day=date(2026, 1, 1),
        days=8,
        chains=2,
        stores=12,
        events_per_day=400,
        seed=3,
        late=0.02,
        repeated=0.02,
    )
    settings = settings_for(folder, metrics=METRICS, inference={"window": "5d"})
    night(settings, as_of=date(2026, 1, 8))
    return folder


@pytest.fixture(scope="module")
def counted(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """One GROUP BY over the files; of the copies of an event the first by file and row counts."""
    query = f"""
        WITH events AS (
            FROM read_parquet('{folder}/events/*.parquet', filename = true,
                              file_row_number = true)
            WHERE {WINDOW}
            QUALIFY row_number() OVER (
                PARTITION BY ts::DATE, event_id ORDER BY filename, file_row_number) = 1)
        SELECT chain_id, store_id, count(*) AS visits,
               count(*) FILTER (WHERE converted) AS orders,
               count(amount) FILTER (WHERE converted) AS baskets,
               avg(ln(amount)) FILTER (WHERE converted) AS mean,
               count(DISTINCT ts::DATE) AS days
        FROM events GROUP BY ALL
    """
    with duckdb.connect() as connection:
        rows = connection.sql(query).to_arrow_table().to_pylist()
    return {(row["chain_id"], row["store_id"]): row for row in rows}


def posteriors(folder: Path, metric: str) -> dict[tuple[str, str], dict[str, Any]]:
    table = read(folder / "lake", "posteriors")
    return {
        (row["chain_id"], row["store_id"]): row
        for row in table.to_pylist()
        if row["metric"] == metric
    }


def test_every_store_is_there_once(
    folder: Path, counted: dict[tuple[str, str], dict[str, Any]]
) -> None:
    table = read(folder / "lake", "posteriors")
    assert table.num_rows == 3 * len(counted)
    for metric in METRICS:
        assert posteriors(folder, metric).keys() == counted.keys()


def test_counts_are_equal(folder: Path, counted: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert sum(row["visits"] for row in counted.values()) > 1500
    for store, row in posteriors(folder, "conversion").items():
        assert row["n_events"] == row["n"] == counted[store]["visits"], store
        assert row["raw"] == counted[store]["orders"] / counted[store]["visits"], store


def test_means_are_equal(folder: Path, counted: dict[tuple[str, str], dict[str, Any]]) -> None:
    for store, row in posteriors(folder, "basket").items():
        assert row["n"] == counted[store]["baskets"], store
        if row["n"]:
            assert row["raw"] == pytest.approx(counted[store]["mean"], rel=1e-12), store


def test_rates_are_equal(folder: Path, counted: dict[tuple[str, str], dict[str, Any]]) -> None:
    for store, row in posteriors(folder, "orders").items():
        assert row["raw"] == counted[store]["orders"] / counted[store]["days"], store


def test_the_plug_in_posterior_is_the_conjugate_formula(
    folder: Path, counted: dict[tuple[str, str], dict[str, Any]]
) -> None:
    """Beta(α + y, β + n − y) with the released α and β of the store's chain."""
    prior: dict[str, dict[str, float]] = {}
    for row in read(folder / "lake", "hyperparameters").to_pylist():
        if row["metric"] == "conversion":
            prior.setdefault(row["pool"], {})[row["parameter"]] = row["value"]
    for store, row in posteriors(folder, "conversion").items():
        a = prior[store[0]]["alpha"] + counted[store]["orders"]
        b = prior[store[0]]["beta"] + counted[store]["visits"] - counted[store]["orders"]
        assert row["method"] == "plug_in"
        assert row["mean"] == pytest.approx(a / (a + b), rel=1e-12)
        assert row["sd"] == pytest.approx(np.sqrt(a * b / (a + b + 1)) / (a + b), rel=1e-9)


def test_the_files_of_the_lake_are_read_by_duckdb_itself(folder: Path) -> None:
    """As the release says which files, any reader of Parquet gets the same rows."""
    settings = settings_for(folder)
    table = read(lake_of(settings), "posteriors")
    snapshot = lake_of(settings).snapshot("posteriors")
    paths = [lake_of(settings).path("posteriors", file.path) for file in snapshot.files]
    with duckdb.connect() as connection:
        rows = connection.read_parquet(paths)
        count, total = rows.aggregate("count(*), sum(mean)").fetchall()[0]
    assert count == table.num_rows
    assert total == pytest.approx(sum(table["mean"].to_pylist()), rel=1e-12)
