"""Mixes of classes from odd Parquet files to a release, against DuckDB and the library."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import hbpipe
from hbpipe.data.lake import Lake
from hbpipe.run.releases import read
from hbpipe.run.verification.verify import verify
from tests.nights import day, lake_of, night, settings_for, write

CLASSES = ["cash", "card", "voucher"]
TERMS = [*CLASSES, "other"]
QUANTILES = (0.05, 0.5, 0.95)
METRICS: dict[str, Any] = {
    "payment": {
        "family": "dirichlet_multinomial",
        "class": "kind",
        "classes": CLASSES,
        "other": "other",
        "target": {"term": "card", "value": 0.5},
    },
    "size": {
        "family": "dirichlet_multinomial",
        "counts": {
            "small": {"where": [["amount", "<", 20]]},
            "large": {"where": [["amount", ">=", 20]]},
        },
    },
    "again": {
        "family": "beta_binomial",
        "successes": {"where": [["amount", "<", 20]]},
        "trials": {"where": [["amount", "not_null"]]},
    },
    "items": {"family": "dirichlet_multinomial", "counts": {"a": "n_a", "b": "n_b"}},
}
OPTIONS: dict[str, Any] = {
    "metrics": METRICS,
    "inference": {"uncertainty": "integrated", "quantiles": QUANTILES},
    "audits": {"max_rejected_share": 0.2},
}


def payments(number: int) -> list[dict[str, Any]]:
    """Payments of one day in 20 stores of two chains; the second chain takes no vouchers."""
    rng = np.random.default_rng([3, number])
    rows: list[dict[str, Any]] = []
    for store in range(20):
        weights = np.array([3.0, 5.0, 0.0 if store % 2 else 0.5, 0.3, 0.1]) + 0.0
        share = weights * (1.0 + 0.4 * np.sin(store + np.arange(5)))
        for k in range(int(rng.integers(2, 9))):
            kind = rng.choice(["cash", "card", "voucher", "points", ""], p=share / share.sum())
            rows.append(
                {
                    "event_id": f"{number}/{store}/{k}",
                    "ts": datetime.combine(day(number), datetime.min.time())
                    + timedelta(hours=k, minutes=store),
                    "chain_id": "east" if store % 2 else "west",
                    "store_id": f"s{store:02}",
                    "kind": str(kind) or None,
                    "amount": float(rng.lognormal(3.0, 0.5)),
                    "n_a": int(rng.integers(0, 4)),
                    "n_b": int(rng.integers(0, 4)),
                }
            )
    return rows


def spoil(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A null amount and count, a negative count, and a copy of an event."""
    rows[3]["amount"] = rows[4]["n_a"] = None
    rows[7]["n_b"] = -1
    return [*rows, {**rows[2], "kind": "card"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mix")
    for number in range(3):
        path = folder / "events" / f"{day(number)}.parquet"
        rows = spoil(payments(number))
        # The class as a dictionary in one file, as plain text in the others.
        write(path, rows, row_group_size=29, use_dictionary=number != 1)
    night(settings_for(folder, **OPTIONS))
    return folder


def table_of(folder: Path, name: str, metric: str) -> pa.Table:
    table = read(Lake(str(folder / "lake")), name)
    return table.filter(pc.equal(table["metric"], metric))


def counts_of(folder: Path, chain: str) -> tuple[list[str], np.ndarray]:
    """Counts of each store and class over all days, as SQL has them."""
    columns = ", ".join(f"count(*) FILTER (kind = '{name}')" for name in CLASSES)
    rows = duckdb.sql(
        f"""
        WITH events AS (
            FROM read_parquet('{folder}/events/*.parquet', filename = true, file_row_number = true)
            QUALIFY row_number() OVER (
                PARTITION BY ts::DATE, event_id ORDER BY filename, file_row_number) = 1)
        SELECT store_id, {columns},
               count(*) FILTER (kind IS NOT NULL AND kind NOT IN ('cash', 'card', 'voucher'))
        FROM events WHERE chain_id = '{chain}' GROUP BY store_id ORDER BY store_id
        """
    ).fetchall()
    return [row[0] for row in rows], np.array([row[1:] for row in rows], np.int64)


@pytest.mark.parametrize("chain", ["east", "west"])
def test_statistics_are_the_counts_of_sql(folder: Path, chain: str) -> None:
    table = lake_of(settings_for(folder)).read("statistics")
    of_chain = pc.equal(table["chain_id"], chain)
    mine = table.filter(pc.and_(pc.equal(table["metric"], "payment"), of_chain))
    stores, expected = counts_of(folder, chain)
    found = dict.fromkeys(stores, np.zeros(4, np.int64))
    assert mine.schema.field("counts").type == pa.list_(pa.int64())
    for row in mine.to_pylist():
        found[row["store_id"]] = found[row["store_id"]] + row["counts"]
    np.testing.assert_array_equal([found[store] for store in stores], expected)


@pytest.mark.parametrize("chain", ["east", "west"])
def test_posteriors_are_those_of_the_library(folder: Path, chain: str) -> None:
    stores, counts = counts_of(folder, chain)
    fit = hbpipe.fit("dirichlet_multinomial", {"counts": counts})
    expected = hbpipe.posterior(
        fit, {"counts": counts}, uncertainty="integrated", quantiles=QUANTILES
    )
    rows = table_of(folder, "posteriors", "payment").to_pylist()
    found = {(row["store_id"], row["term"]): row for row in rows if row["chain_id"] == chain}
    assert found.keys() == {(store, term) for store in stores for term in TERMS}
    for j, store in enumerate(stores):
        for k, term in enumerate(TERMS):
            row = found[store, term]
            assert row["n"] == counts[j].sum()
            assert row["raw"] == pytest.approx(counts[j, k] / counts[j].sum())
            for name in ("mean", "sd", "sd_plug_in", "q0.05", "q0.5", "q0.95", "weight"):
                value = expected[name][j, k]
                assert row[name] == pytest.approx(value, rel=1e-6, abs=1e-9), (store, term, name)
            assert (row["p_below_target"] is None) == (term != "card")
        total = sum(found[store, term]["mean"] for term in TERMS)
        assert total == pytest.approx(1.0, abs=1e-12)
    [pool] = [r for r in table_of(folder, "fits", "payment").to_pylist() if r["pool"] == chain]
    assert pool["status"] == fit.status
    assert (fit.status == "empty_classes") == (chain == "east")
    assert pool["log_marginal_likelihood"] == pytest.approx(fit.log_marginal_likelihood)


def test_hyperparameters_have_a_row_for_each_class(folder: Path) -> None:
    rows = table_of(folder, "hyperparameters", "payment").to_pylist()
    west = {row["parameter"]: row["value"] for row in rows if row["pool"] == "west"}
    names = [f"{name}[{term}]" for name in ("alpha", "mean") for term in TERMS]
    assert west.keys() == {*names, "concentration"}
    assert sum(west[f"mean[{term}]"] for term in TERMS) == pytest.approx(1.0)
    for term in TERMS:
        expected = west[f"mean[{term}]"] * west["concentration"]
        assert west[f"alpha[{term}]"] == pytest.approx(expected)


def test_a_new_store_has_the_mean_shares(folder: Path) -> None:
    rows = table_of(folder, "new_stores", "payment").to_pylist()
    for chain in ("east", "west"):
        mine = {row["term"]: row for row in rows if row["pool"] == chain}
        assert list(mine) == TERMS
        assert sum(row["mean"] for row in mine.values()) == pytest.approx(1.0)
        assert all(row["q0.05"] < row["q0.5"] < row["q0.95"] for row in mine.values())


def test_two_classes_are_a_rate(folder: Path) -> None:
    """The same counts as ``beta_binomial``: means and limits within 0.03 posterior sds."""
    mix, rate = (
        {
            row["store_id"]: row
            for row in table_of(folder, "posteriors", name).to_pylist()
            if row["term"] in ("small", "theta")
        }
        for name in ("size", "again")
    )
    assert mix.keys() == rate.keys()
    for store, row in rate.items():
        assert mix[store]["n"] == row["n"]
        for name in ("mean", "q0.05", "q0.95"):
            assert mix[store][name] == pytest.approx(row[name], abs=0.03 * row["sd"]), (store, name)


def test_counts_of_columns_are_added_and_impossible_ones_rejected(folder: Path) -> None:
    rows = [row for number in range(3) for row in spoil(payments(number))[:-1]]
    sound = [row for row in rows if row["n_a"] is not None and row["n_b"] >= 0]
    total = sum(row["n_a"] + row["n_b"] for row in sound)
    found = table_of(folder, "posteriors", "items").to_pylist()
    assert sum(row["n"] for row in found if row["term"] == "a") == total
    files = lake_of(settings_for(folder)).read("files").to_pylist()
    reasons = [one for file in files for one in file["rejections"] if one["metric"] == "items"]
    assert [(one["column"], one["reason"], one["rows"]) for one in reasons] == [
        ("n_b", "negative", 1)
    ] * 3


def test_the_lake_is_verified_against_the_raw_files(folder: Path) -> None:
    settings = settings_for(folder, **OPTIONS)
    findings = verify(settings, lake_of(settings), full=True)
    assert [one for one in findings if not one.fine] == []
