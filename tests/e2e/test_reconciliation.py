"""Nights whose estimates are reconciled with known totals, and what is told of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hbpipe.config import load_settings
from hbpipe.data import units
from hbpipe.errors import EventsError
from hbpipe.run.ledger import read_days
from hbpipe.run.releases import read
from hbpipe.run.simulate import simulate_events
from hbpipe.run.stale import stale_releases
from tests.nights import (
    CONVERSION,
    day,
    lake_of,
    night,
    rows_of,
    settings_for,
    visits,
    write,
    write_days,
)

ORDERS = {"family": "gamma_poisson", "count": "converted", "exposure": "days", "per": "7d"}
RATES = {"near": 0.35, "far": 0.45}
Row = dict[str, Any]


def write_totals(folder: Path, **columns: list[Any]) -> str:
    path = folder / "totals.parquet"
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return str(path)


def of_chains(folder: Path, **rates: float) -> str:
    return write_totals(folder, chain_id=list(rates), rate=list(rates.values()))


def settings_of(folder: Path, path: str, /, key: str = "mean", **sections: Any) -> Any:
    """Settings of conversion, whose column ``rate`` is known by chain."""
    known = {"totals": path, key: "rate"}
    metrics = {"conversion": {**CONVERSION["conversion"], "reconcile": known}}
    return settings_for(folder, **{"metrics": metrics, **sections})


def posteriors(settings: Any, metric: str = "conversion") -> list[Row]:
    found = read(lake_of(settings), "posteriors").to_pylist()
    return [row for row in found if row["metric"] == metric]


def weighted(rows: list[Row], column: str) -> float:
    return float(np.average([row[column] for row in rows], weights=[row["n"] for row in rows]))


def checks(settings: Any) -> dict[str, Row]:
    found = read(lake_of(settings), "audits").to_pylist()
    return {row["name"]: row for row in found if row["subject"] == "conversion"}


def test_the_estimates_of_each_chain_meet_its_rate(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    settings = settings_of(
        tmp_path, of_chains(tmp_path, **RATES), inference={"uncertainty": "auto"}
    )
    report = night(settings)
    rows = posteriors(settings)
    for chain, rate in RATES.items():
        of_chain = [row for row in rows if row["chain_id"] == chain]
        assert weighted(of_chain, "reconciled") == pytest.approx(rate, rel=1e-14)
        assert weighted(of_chain, "mean") != pytest.approx(rate, rel=1e-3)
    for row in rows:
        shift = row["reconciled"] - row["mean"]
        assert row["reconciled_rmse"] == pytest.approx(np.hypot(row["sd"], shift), rel=1e-13)
    assert {name for name in checks(settings) if "total" in name or "reconciled" in name} == {
        "totals_known",
        "totals_met",
        "totals_near",
        "reconciled_possible",
    }
    assert not [note for note in report.notes if "total" in note or "reconciled" in note]


def test_without_the_key_the_columns_are_null(tmp_path: Path) -> None:
    write_days(tmp_path, 1)
    settings = settings_for(tmp_path)
    night(settings)
    found = posteriors(settings)
    assert {(row["reconciled"], row["reconciled_rmse"]) for row in found} == {(None, None)}


def test_one_total_over_pools_of_orders_a_week(tmp_path: Path) -> None:
    """Every store alike: the estimates are rates a week, and head office knows their sum."""
    write_days(tmp_path, 3)
    known = {"totals": write_totals(tmp_path, orders=[100]), "total": "orders", "weight": "equal"}
    settings = settings_for(tmp_path, metrics={"orders": {**ORDERS, "reconcile": known}})
    night(settings)
    rows = posteriors(settings, "orders")
    assert {row["pool"] for row in rows} == {"near", "far"}
    assert sum(row["reconciled"] for row in rows) == pytest.approx(100, rel=1e-14)


def test_shards_and_workers_give_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At given hyperparameters: in a fit, the order of sums follows the shards."""
    rate = {**CONVERSION["conversion"], "fixed": {"alpha": 2.0, "beta": 3.0}}
    orders = {**ORDERS, "fixed": {"shape": 2.0, "rate": 0.1}}
    found = []
    for name, shard_rows in (("whole", 10**6), ("cut", 60)):
        folder = tmp_path / name
        monkeypatch.setattr(units, "SHARD_ROWS", shard_rows)
        for k in range(3):
            write(folder / "events" / f"{k}.parquet", visits(k, rows=300, stores=40))
        known = {"totals": of_chains(folder, **RATES), "total": "rate"}
        both = {"conversion": rate, "orders": orders}
        metrics = {metric: {**raw, "reconcile": known} for metric, raw in both.items()}
        threads = {"kind": "local", "workers": 2, "processes": False}
        cluster = threads if name == "cut" else {}
        settings = settings_for(folder, metrics=metrics, cluster=cluster)
        night(settings)
        told = ["metric", "store_id", "mean", "sd", "reconciled", "reconciled_rmse"]
        found.append(rows_of(read(lake_of(settings), "posteriors", columns=told)))
        shards = read(lake_of(settings), "days").column("shards").to_pylist()
        assert (max(shards) > 1) == (name == "cut")
    assert found[0] == found[1]


def test_groups_without_a_total_are_named_and_keep_their_means(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    settings = settings_of(tmp_path, of_chains(tmp_path, near=0.35, farr=0.2))
    report = night(settings)
    (note,) = [note for note in report.notes if note.startswith("totals_known of conversion")]
    assert "1 of 3 groups have no known total (far)" in note
    assert "1 totals are of groups without stores (farr)" in note
    for row in posteriors(settings):
        assert (row["reconciled"] is None) == (row["chain_id"] == "far")
        assert row["mean"] is not None


def test_a_night_without_totals_publishes_without_them(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    path = write_totals(tmp_path, as_of=[day(1)], chain_id=["near"], rate=[0.3])
    settings = settings_of(tmp_path, path)
    report = night(settings)
    assert any("2 of 2 groups have no known total (far, near)" in note for note in report.notes)
    assert {row["reconciled"] for row in posteriors(settings)} == {None}
    night(settings, as_of=day(1))
    found = read(lake_of(settings), "posteriors", as_of=day(1)).to_pylist()
    of_near = [row for row in found if row["chain_id"] == "near"]
    assert weighted(of_near, "reconciled") == pytest.approx(0.3, rel=1e-14)


def test_totals_far_off_are_told_and_nothing_is_capped(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    settings = settings_of(tmp_path, of_chains(tmp_path, near=0.999, far=0.4))
    report = night(settings)
    near = [row for row in posteriors(settings) if row["chain_id"] == "near"]
    beyond = [row for row in near if row["reconciled"] > 1]
    assert weighted(near, "reconciled") == pytest.approx(0.999, rel=1e-14)
    assert beyond
    told = {note.partition(" ")[0]: note for note in report.notes}
    assert f"{len(beyond)} of 6 reconciled" in told["reconciled_possible"]
    assert "published as they are" in told["reconciled_possible"]
    assert "in near, from 0.3" in told["totals_near"]
    assert "may be of other stores or days" in told["totals_near"]
    assert settings.audits.max_reconciled_shift == checks(settings)["totals_near"]["threshold"]


def write_stores(folder: Path, sizes: dict[str, Any]) -> dict[str, str]:
    """Write the table of stores with a size of each but s0, and of those that differ."""
    stores = {row["store_id"]: row["chain_id"] for k in range(3) for row in visits(k)}
    size = [sizes.get(store, None if store == "s0" else float(ord(store[1]))) for store in stores]
    listed = {"store_id": list(stores), "chain_id": list(stores.values()), "size": size}
    pq.write_table(pa.table(listed), folder / "stores.parquet")
    return {"path": str(folder / "stores.parquet")}


def test_a_chain_with_a_store_that_has_no_posterior_is_not_reconciled(tmp_path: Path) -> None:
    """Nobody knows which part of the total is that store's."""
    write_days(tmp_path, 3)
    known = {"totals": of_chains(tmp_path, **RATES), "mean": "rate"}
    metric = {**CONVERSION["conversion"], "covariates": ["size"], "reconcile": known}
    settings = settings_for(
        tmp_path,
        metrics={"conversion": metric},
        stores=write_stores(tmp_path, {}),
        inference={"pool_by": []},
        audits={"max_unknown_covariates": 0.5},
    )
    report = night(settings)
    (note,) = [note for note in report.notes if note.startswith("totals_met")]
    assert "1 groups have a total that no estimates were moved to (near)" in note
    for row in posteriors(settings):
        assert (row["reconciled"] is None) == (row["chain_id"] == "near")


@pytest.mark.parametrize("covariates", [[], ["size"]])
def test_weights_of_the_table_of_stores(tmp_path: Path, covariates: list[str]) -> None:
    write_days(tmp_path, 3)
    known = {"totals": of_chains(tmp_path, **RATES), "mean": "rate", "weight": "size"}
    metric = {**CONVERSION["conversion"], "reconcile": known}
    settings = settings_for(
        tmp_path,
        metrics={"conversion": {**metric, "covariates": covariates} if covariates else metric},
        stores=write_stores(tmp_path, {"s0": 0.0}),
        inference={"pool_by": []},
    )
    night(settings)
    rows = posteriors(settings)
    for chain, rate in RATES.items():
        of_chain = [row for row in rows if row["chain_id"] == chain]
        weights = [0.0 if r["store_id"] == "s0" else ord(r["store_id"][1]) for r in of_chain]
        found = np.average([row["reconciled"] for row in of_chain], weights=weights)
        assert found == pytest.approx(rate, rel=1e-14)
    (still,) = [row for row in rows if row["store_id"] == "s0"]
    assert (still["reconciled"], still["reconciled_rmse"]) == (still["mean"], still["sd"])


@pytest.mark.parametrize(
    ("size", "message"),
    [(-1.0, "'size' of the table of stores is -1 in a row"), (float("inf"), "is inf in a row")],
)
def test_what_is_no_weight(tmp_path: Path, size: float, message: str) -> None:
    write_days(tmp_path, 1)
    known = {"totals": of_chains(tmp_path, **RATES), "mean": "rate", "weight": "size"}
    metrics = {"conversion": {**CONVERSION["conversion"], "reconcile": known}}
    stores = write_stores(tmp_path, {"s3": size})
    with pytest.raises(EventsError, match=message):
        night(settings_for(tmp_path, metrics=metrics, stores=stores))
    with pytest.raises(ValueError, match=r"weights of conversion \(size\) are columns of"):
        settings_for(tmp_path, metrics=metrics)


def test_a_weight_that_nobody_knows_leaves_its_chain(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    known = {"totals": of_chains(tmp_path, **RATES), "mean": "rate", "weight": "size"}
    metrics = {"conversion": {**CONVERSION["conversion"], "reconcile": known}}
    settings = settings_for(tmp_path, metrics=metrics, stores=write_stores(tmp_path, {}))
    assert any("(near): a weight is not known" in note for note in night(settings).notes)
    for row in posteriors(settings):
        assert (row["reconciled"] is None) == (row["chain_id"] == "near")


def test_another_total_makes_another_release(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    settings = settings_of(tmp_path, of_chains(tmp_path, **RATES))
    first = night(settings)
    assert night(settings).release == first.release
    of_chains(tmp_path, near=0.35, far=0.5)
    lake = lake_of(settings)
    (stale,) = stale_releases(lake, settings, read_days(lake))
    assert (stale.kind, stale.reason) == (
        "stores",
        "the table of stores, or of totals, changed since",
    )
    again = night(settings)
    assert again.release != first.release
    assert again.reason == "the table of stores, or of totals, changed since its release"
    far = [row for row in posteriors(settings) if row["chain_id"] == "far"]
    assert weighted(far, "reconciled") == pytest.approx(0.5, rel=1e-14)


def test_a_table_that_cannot_be_used_stops_the_night(tmp_path: Path) -> None:
    write_days(tmp_path, 3)
    settings = settings_of(tmp_path, of_chains(tmp_path, **RATES))
    first = night(settings)
    of_chains(tmp_path, near=35.0, far=0.5)
    with pytest.raises(EventsError, match="the mean of near is 35"):
        night(settings)
    assert read(lake_of(settings), "releases").column("release").to_pylist() == [first.release]


def test_the_example_of_configs_runs(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On fewer events than the demo's; the totals by the statement of its comment."""
    path = root / "configs" / "totals.yaml"
    statement = re.findall(r"^#   (.*)", path.read_text(encoding="utf-8"), re.M)
    monkeypatch.chdir(tmp_path)
    options = {"chains": 3, "stores": 30, "events_per_day": 1500, "bad": 0.002, "seed": 1}
    simulate_events(Path("demo"), first_day=day(0), days=3, **options)
    with duckdb.connect() as connection:
        connection.execute("\n".join(statement))
        found = connection.execute("SELECT chain_id, conversion FROM 'demo/totals.parquet'")
        rates = dict(found.fetchall())
    settings = load_settings(path, overrides=["cluster.kind=serial"])
    report = night(settings)
    assert not [note for note in report.notes if note.startswith("totals_")]
    rows = posteriors(settings)
    for chain, rate in rates.items():
        of_chain = [row for row in rows if row["chain_id"] == chain]
        assert weighted(of_chain, "reconciled") == pytest.approx(rate, rel=1e-12)
