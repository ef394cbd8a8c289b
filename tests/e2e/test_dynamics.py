"""Levels that drift from Parquet files to a release, against SQL, the library and the raw files."""

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
from hbpipe.model.families import get_family
from hbpipe.model.local_level.algebra import NAMES
from hbpipe.model.local_level.choice import choose
from hbpipe.run.releases import read
from tests.nights import BASKET, day, lake_of, night, settings_for, write, write_config
from tests.verbs import verbs_of

DAYS, STORES = 21, 24
QUANTILES = (0.05, 0.5, 0.95)
OPTIONS: dict[str, Any] = {
    "metrics": {"basket": {**BASKET, "dynamics": "local_level"}, "mean": BASKET},
    "inference": {"window": f"{DAYS}d", "uncertainty": "auto", "quantiles": QUANTILES},
}
CHAINS = {"far": "static", "near": "local_level"}


def baskets() -> list[list[dict[str, Any]]]:
    """Baskets day by day: stores of ``near`` drift, those of ``far`` do not."""
    rng = np.random.default_rng(14)
    level = rng.normal(3.0, 0.3, STORES)
    drifts = np.arange(STORES) % 2 == 0
    days = []
    for number in range(DAYS):
        rows = []
        for store in range(STORES):
            # Some stores are closed on some days, and one opens late.
            closed = (store + number) % 5 == 0 or (store == 7 and number < 15)
            for k in range(0 if closed else int(rng.integers(3, 12))):
                rows.append(
                    {
                        "event_id": f"{number}/{store}/{k}",
                        "ts": datetime.combine(day(number), datetime.min.time())
                        + timedelta(minutes=60 * k + store),
                        "chain_id": "near" if drifts[store] else "far",
                        "store_id": f"s{store:02}",
                        "amount": float(np.exp(rng.normal(level[store], 0.5))),
                    }
                )
        days.append(rows)
        level = level + np.where(drifts, rng.normal(0.0, 0.12, STORES), 0.0)
    return days


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dynamics")
    for number, rows in enumerate(baskets()):
        write(folder / "events" / f"{day(number)}.parquet", rows, row_group_size=71)
    night(settings_for(folder, **OPTIONS))
    return folder


def table_of(folder: Path, name: str, metric: str = "basket") -> pa.Table:
    table = read(Lake(str(folder / "lake")), name)
    return table.filter(pc.equal(table["metric"], metric))


def days_of(folder: Path, chain: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """Counts, means and squares of each store and day, as SQL has them."""
    rows = duckdb.sql(
        f"""
        SELECT store_id, datediff('day', DATE '{day(0)}', ts::DATE), count(*), avg(ln(amount)),
               count(*) * var_pop(ln(amount))
        FROM read_parquet('{folder}/events/*.parquet') WHERE chain_id = '{chain}' GROUP BY ALL
        """
    ).fetchall()
    stores = sorted({row[0] for row in rows})
    shape = (len(stores), DAYS)
    found = {"n": np.zeros(shape, np.int64), "mean": np.zeros(shape), "m2": np.zeros(shape)}
    for store, number, *values in rows:
        for name, value in zip(found, values, strict=True):
            found[name][stores.index(store), number] = value
    return stores, found


@pytest.mark.parametrize("chain", CHAINS)
def test_posteriors_are_those_of_the_library(folder: Path, chain: str) -> None:
    stores, statistics = days_of(folder, chain)
    family = get_family("local_level", DAYS)
    chosen = choose(family, family.compress(statistics, np.zeros(len(stores), np.int64), 1))
    assert chosen.words == [CHAINS[chain]]
    fixed = {"signal_ratio": 0.0} if CHAINS[chain] == "static" else None
    fit = hbpipe.fit("local_level", statistics, fixed=fixed)
    expected = hbpipe.posterior(fit, statistics, quantiles=QUANTILES)
    rows = table_of(folder, "posteriors").to_pylist()
    found = {row["store_id"]: row for row in rows if row["chain_id"] == chain}
    assert sorted(found) == stores
    for j, store in enumerate(stores):
        row = found[store]
        assert row["n"] == statistics["n"][j].sum()
        assert row["method"] == expected.method
        for name in ("mean", "sd", "sd_plug_in", "q0.05", "q0.5", "q0.95", "weight"):
            assert row[name] == pytest.approx(expected[name][j], rel=1e-6, abs=1e-9), (store, name)
        assert row["raw"] == pytest.approx(expected["no_pooling"][j])
        assert row["raw_sd"] == pytest.approx(expected["no_pooling_sd"][j])


@pytest.mark.parametrize("chain", CHAINS)
def test_fits_tell_the_choice_and_both_scores(folder: Path, chain: str) -> None:
    stores, statistics = days_of(folder, chain)
    family = get_family("local_level", DAYS)
    chosen = choose(family, family.compress(statistics, np.zeros(len(stores), np.int64), 1))
    [row] = [row for row in table_of(folder, "fits").to_pylist() if row["pool"] == chain]
    assert row["family"] == "local_level"
    assert row["dynamics"] == CHAINS[chain]
    assert row["log_score_static"] == pytest.approx(chosen.static[0], rel=1e-9)
    assert row["log_score_drifting"] == pytest.approx(chosen.drifting[0], rel=1e-9)
    assert row["scored_days"] == chosen.scored[0] == np.sum(statistics["n"][:, -7:] > 0)
    table = table_of(folder, "hyperparameters").to_pylist()
    values = {row["parameter"]: row["value"] for row in table if row["pool"] == chain}
    assert values.keys() == set(NAMES)
    assert (values["signal_ratio"] == 0.0) == (CHAINS[chain] == "static")
    others = table_of(folder, "fits", "mean").to_pylist()
    assert {row["dynamics"] for row in others} == {None}


def test_a_static_chain_has_the_numbers_of_the_static_metric(folder: Path) -> None:
    """Within a hundredth of a posterior sd: the hyperparameters are integrated in other ways."""
    drifting, static = (
        {row["store_id"]: row for row in table_of(folder, "posteriors", name).to_pylist()}
        for name in ("basket", "mean")
    )
    for store, row in static.items():
        if row["chain_id"] == "far":
            for name in ("mean", "sd", "q0.05", "q0.95", "predictive_mean", "predictive_sd"):
                expected = pytest.approx(row[name], abs=0.01 * row["sd"])
                assert drifting[store][name] == expected, (store, name)
        else:
            assert abs(drifting[store]["mean"] - row["mean"]) > 0.0


def test_levels_are_those_of_today(folder: Path) -> None:
    """The stores that drift are nearer to their last days than the mean of three weeks is."""
    stores, statistics = days_of(folder, "near")
    recent = {name: values[:, -4:] for name, values in statistics.items()}
    last = np.sum(recent["n"] * recent["mean"], axis=1) / recent["n"].sum(axis=1)
    rows = {row["store_id"]: row for row in table_of(folder, "posteriors").to_pylist()}
    mean, raw = (np.array([rows[store][name] for store in stores]) for name in ("mean", "raw"))
    assert np.mean((mean - last) ** 2) < 0.2 * np.mean((raw - last) ** 2)


def test_tomorrow_is_as_uncertain_as_a_step_makes_it(folder: Path) -> None:
    """The next day's mean of m values: the level, a step, and the noise of a mean."""
    rows = table_of(folder, "posteriors").to_pylist()
    table = table_of(folder, "hyperparameters").to_pylist()
    for chain in CHAINS:
        at = {row["parameter"]: row["value"] for row in table if row["pool"] == chain}
        for row in (row for row in rows if row["chain_id"] == chain):
            noise = at["sigma"] ** 2 * (at["signal_ratio"] + 1.0 / row["next_exposure"])
            assert row["predictive_mean"] == pytest.approx(row["mean"], rel=1e-9)
            expected = np.sqrt(row["sd"] ** 2 + noise)
            assert row["predictive_sd"] == pytest.approx(expected, rel=0.05), row["store_id"]
            assert row["last_day_p"] is None or 0.0 < row["last_day_p"] <= 1.0


def test_a_new_store_may_have_drifted_since_the_first_day(folder: Path) -> None:
    table = table_of(folder, "hyperparameters").to_pylist()
    for row in table_of(folder, "new_stores").to_pylist():
        at = {one["parameter"]: one["value"] for one in table if one["pool"] == row["pool"]}
        variance = at["tau"] ** 2 + (DAYS - 1) * at["signal_ratio"] * at["sigma"] ** 2
        assert row["sd"] ** 2 > variance
        assert row["q0.05"] < at["mu"] < row["q0.95"]


def test_the_lake_is_verified_and_explained_and_reported(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = verbs_of(write_config(folder, **OPTIONS), capsys)
    code, _, errors = run("verify", "--full")
    assert code == 0, errors
    code, told, errors = run("explain", "s04")
    assert code == 0, errors
    assert "basket" in told
    code, _, errors = run("report", "--out", str(folder / "report.html"))
    assert code == 0, errors
    assert (folder / "report.html").stat().st_size > 10_000
    code, _, errors = run("audit")
    assert code == 0, errors


def test_the_same_days_counted_once_serve_both_models(folder: Path) -> None:
    """A metric that begins to drift is fitted anew, from statistics that are there already."""
    settings = settings_for(folder, **{**OPTIONS, "metrics": {"basket": BASKET, "mean": BASKET}})
    report = night(settings)
    assert report.days == []
    [row] = [row for row in table_of(folder, "fits").to_pylist() if row["pool"] == "near"]
    assert row["family"] == "normal"
    assert row["dynamics"] is None
    assert lake_of(settings).read("days").num_rows == DAYS
