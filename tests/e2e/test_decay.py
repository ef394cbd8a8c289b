"""Metrics whose days lose weight, from Parquet files to releases: against SQL and the library."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import hbpipe
from hbpipe.config import Settings
from hbpipe.model.decay import decay
from hbpipe.run.ledger import read_days
from hbpipe.run.nightly import run_night
from hbpipe.run.releases import read
from hbpipe.run.verification.verify import verify
from tests.nights import CONVERSION, day, lake_of, rows_of, settings_for, visits, write

#: Days with events, over two months: January is rolled up in the second night.
DAYS = range(0, 45, 4)
LATER = datetime(2026, 3, 1, 3, tzinfo=UTC)
HALF_LIFE = 10
AGES = {"decay": {"half_life": f"{HALF_LIFE}d"}}
RATE = CONVERSION["conversion"]
METRICS: dict[str, Any] = {
    "conversion": {**RATE, **AGES},
    "of_all_days": {**RATE, "decay": {"half_life": "10d", "fit": "undecayed"}},
    "plain": RATE,
    "basket": {"family": "normal", "value": "amount", "transform": "log", **AGES},
    "orders": {"family": "gamma_poisson", "count": "rows", "exposure": "days", "per": "7d", **AGES},
    "sizes": {
        "family": "dirichlet_multinomial",
        "counts": {
            "small": {"where": [["amount", "<", 20]]},
            "large": {"where": [["amount", ">=", 20]]},
        },
        **AGES,
    },
}
OPTIONS: dict[str, Any] = {
    "metrics": METRICS,
    "inference": {"window": "all", "uncertainty": "integrated"},
}
NAMES = ("mean", "sd", "q0.05", "q0.5", "q0.95", "weight", "prior_mean")
Row = dict[str, Any]


def deliver(folder: Path, days: range) -> None:
    for number in days:
        # Half of the stores fall silent on the way.
        rows = visits(number, rows=90, stores=20 if number < 20 else 10)
        write(folder / "events" / f"{day(number)}.parquet", rows)


def run(settings: Settings) -> Any:
    return run_night(settings, now=LATER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One night, then a second with one new day."""
    folder = tmp_path_factory.mktemp("decay")
    deliver(folder, DAYS[:-1])
    run(settings_for(folder, **OPTIONS))
    deliver(folder, DAYS[-1:])
    run(settings_for(folder, **OPTIONS))
    return folder


def posteriors(folder: Path, metric: str, chain: str, **options: Any) -> list[Row]:
    table = read(lake_of(settings_for(folder, **{**OPTIONS, **options})), "posteriors")
    mine = pc.and_(pc.equal(table["metric"], metric), pc.equal(table["chain_id"], chain))
    return sorted(table.filter(mine).to_pylist(), key=lambda row: (row["store_id"], row["term"]))


def daily(folder: Path, chain: str) -> tuple[list[str], np.ndarray, dict[str, np.ndarray]]:
    """Stores, and by store and day age and sums as SQL has them."""
    found = duckdb.sql(
        f"""
        SELECT store_id, (DATE '{day(DAYS[-1])}' - ts::DATE)::INT AS age, count(*) AS n,
               sum(converted::INT)::BIGINT AS hits, avg(ln(amount)) AS mean,
               sum(ln(amount) * ln(amount)) - count(*) * avg(ln(amount)) ** 2 AS m2,
               sum((amount >= 20)::INT)::BIGINT AS large
        FROM read_parquet('{folder}/events/*.parquet') WHERE chain_id = '{chain}'
        GROUP BY ALL ORDER BY store_id, age
        """
    ).fetchnumpy()
    stores, codes = np.unique(np.asarray(found.pop("store_id"), str), return_inverse=True)
    return stores.tolist(), codes, {name: np.asarray(values) for name, values in found.items()}


def statistics_of(metric: str, codes: np.ndarray, rows: dict[str, np.ndarray]) -> Any:
    """Daily statistics of a metric, and the stores and ages of their rows."""
    n, age = rows["n"], rows["age"]
    if metric == "basket":
        m2 = np.maximum(rows["m2"], 0.0)
        return {"n": n, "mean": rows["mean"], "m2": m2}, codes, age
    if metric == "sizes":  # terms come in the order of the alphabet here
        return {"counts": np.stack([rows["large"], n - rows["large"]], axis=1)}, codes, age
    if metric == "orders":
        first = np.zeros(codes.max() + 1, np.int64)
        np.maximum.at(first, codes, age)
        days = np.concatenate([np.arange(last + 1) for last in first])
        stores = np.repeat(np.arange(len(first)), first + 1)
        count = np.zeros((len(first), first.max() + 1), np.int64)
        count[codes, age] = n
        return {"count": count[stores, days], "exposure": days * 0 + 1 / 7}, stores, days
    return {"successes": rows["hits"], "trials": n}, codes, age


@pytest.mark.parametrize("chain", ["near", "far"])
@pytest.mark.parametrize("metric", [name for name in METRICS if name != "plain"])
def test_posteriors_are_those_of_decayed_days(folder: Path, metric: str, chain: str) -> None:
    stores, codes, rows = daily(folder, chain)
    days, owners, ages = statistics_of(metric, codes, rows)
    family, window = METRICS[metric]["family"], DAYS[-1] + 1
    aged = decay(family, days, owners, ages, half_life=HALF_LIFE, window=window)
    whole = decay(family, days, owners, ages, half_life=np.inf, window=window)
    fit = hbpipe.fit(family, (whole if metric == "of_all_days" else aged).for_fit)
    expected = hbpipe.posterior(
        fit, aged.for_update, uncertainty="integrated", quantiles=(0.05, 0.5, 0.95)
    )
    found = posteriors(folder, metric, chain)
    terms = 2 if metric == "sizes" else 1
    assert [row["store_id"] for row in found[::terms]] == stores
    for name in NAMES:
        mine = np.array([row[name] for row in found]).reshape(len(stores), terms)
        other = np.asarray(expected[name]).reshape(len(stores), -1)
        np.testing.assert_allclose(mine, np.broadcast_to(other, mine.shape), rtol=2e-6, atol=1e-9)
    n, effective = (
        np.array([row[name] for row in found[::terms]]) for name in ("n", "n_effective")
    )
    np.testing.assert_array_equal(n, np.bincount(codes, rows["n"]))
    assert np.all(effective < n)
    if family in ("beta_binomial", "normal"):
        size = "trials" if family == "beta_binomial" else "n"
        np.testing.assert_allclose(effective, aged.for_update[size], rtol=1e-8)


def test_silent_stores_return_to_their_chain(folder: Path) -> None:
    weights = {
        name: np.array([row["weight"] for row in posteriors(folder, name, "near")])
        for name in ("plain", "conversion")
    }
    stores, codes, rows = daily(folder, "near")
    latest = np.full(len(stores), 99)
    np.minimum.at(latest, codes, rows["age"])
    silent = latest > 20
    assert 0 < silent.sum() < len(silent)
    assert np.all(1.0 - weights["conversion"][silent] > 3.0 * (1.0 - weights["plain"][silent]))


def test_night_after_night_is_one_night_from_scratch(folder: Path, tmp_path: Path) -> None:
    assert lake_of(settings_for(folder, **OPTIONS)).files("months")
    shutil.copytree(folder / "events", tmp_path / "events")
    run(settings_for(tmp_path, **OPTIONS))
    since = {"posteriors": ("change", "change_sd"), "fits": ("drift",)}
    for table in ("posteriors", "fits", "hyperparameters", "new_stores"):
        one, other = (
            rows_of(read(lake_of(settings_for(where, **OPTIONS)), table), since.get(table, ()))
            for where in (folder, tmp_path)
        )
        assert one == other, table


def test_another_half_life_is_another_release_of_the_same_days(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    before = posteriors(tmp_path, "conversion", "near")
    versions = {key: entry.statistics_version for key, entry in ledger(tmp_path).items()}
    assert not run(settings_for(tmp_path, **OPTIONS)).published
    faster = {**METRICS, "conversion": {**RATE, "decay": {"half_life": "3d"}}}
    report = run(settings_for(tmp_path, **{**OPTIONS, "metrics": faster}))
    assert report.published
    assert versions == {key: one.statistics_version for key, one in ledger(tmp_path).items()}
    after = posteriors(tmp_path, "conversion", "near", metrics=faster)
    assert [row["n"] for row in after] == [row["n"] for row in before]
    assert all(b["n_effective"] > a["n_effective"] for a, b in zip(after, before, strict=True))


def ledger(folder: Path) -> Any:
    return read_days(lake_of(settings_for(folder, **OPTIONS)))


def test_the_lake_is_verified_against_the_raw_files(folder: Path) -> None:
    settings = settings_for(folder, **OPTIONS)
    findings = verify(settings, lake_of(settings), full=True)
    assert [one for one in findings if not one.fine] == []


def test_a_decay_goes_with_all_that_is_done_with_sizes(folder: Path, tmp_path: Path) -> None:
    """Nested levels, covariates, a known total, and sizes divided by an overdispersion."""
    shutil.copytree(folder / "events", tmp_path / "events")
    stores = [f"s{k}" for k in range(20)]
    chains = ["far" if k % 3 == 2 else "near" for k in range(20)]
    listed = {"chain_id": chains, "store_id": stores, "size": [1.0 + k % 5 for k in range(20)]}
    pq.write_table(pa.table(listed), tmp_path / "stores.parquet")
    pq.write_table(
        pa.table({"chain_id": ["near", "far"], "rate": [0.6, 0.7]}), tmp_path / "totals.parquet"
    )
    one = {**RATE, "nest": False, **AGES}
    metrics = {
        "basket": METRICS["basket"],
        "nested": {**RATE, **AGES},
        "curved": {**one, "covariates": ["size", {"spline": "n", "df": 3}]},
        "divided": {**one, "overdispersion": {"by": "amount", "correct": True}},
        "alone": one,
        "two_kinds": {**METRICS["orders"], "nest": False, "prior": "mixture"},
        "known": {
            **one,
            "reconcile": {
                "totals": str(tmp_path / "totals.parquet"),
                "mean": "rate",
                "weight": "n",
            },
        },
    }
    settings = settings_for(
        tmp_path,
        metrics=metrics,
        inference={"window": "28d", "uncertainty": "auto", "pool_by": [], "nest_by": ["chain_id"]},
        stores={"path": str(tmp_path / "stores.parquet"), "keep_silent": "40d"},
    )
    assert run(settings).published
    rows = read(lake_of(settings), "posteriors").to_pylist()
    for row in rows:
        assert row["n_effective"] <= row["n"] + 1e-9, row
        assert row["sd"] > 0
        assert row["q0.05"] < row["q0.95"]
    of = {
        name: {r["store_id"]: r for r in rows if r["metric"] == name and r["level"] == "store_id"}
        for name in metrics
    }
    assert all(len(found) == 20 for found in of.values())
    groups = [row for row in rows if row["level"] == "chain_id"]
    assert {(row["metric"], row["chain_id"]) for row in groups} == {
        (metric, chain) for metric in ("basket", "nested") for chain in ("near", "far")
    }
    for row in groups:
        mine = [r for r in of[row["metric"]].values() if r["chain_id"] == row["chain_id"]]
        size = np.array([r["n_effective"] for r in mine])
        raw = np.array([r["raw"] if r["raw"] is not None else 0.0 for r in mine])
        assert row["n_effective"] == pytest.approx(size.sum())
        assert row["raw"] == pytest.approx(np.sum(size * raw) / size.sum())
    assert all(
        row["n_effective"] == of["nested"][name]["n_effective"] for name, row in of["alone"].items()
    )
    for chain, rate in (("near", 0.6), ("far", 0.7)):
        mine = [r for r in of["known"].values() if r["chain_id"] == chain]
        weights = [r["n"] for r in mine]
        assert np.average([r["reconciled"] for r in mine], weights=weights) == pytest.approx(rate)
