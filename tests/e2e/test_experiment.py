"""Experiments from Parquet events to a release, against DuckDB, the library and the truth."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.compute as pc
import pytest

import hbpipe
from hbpipe.data.lake import Lake
from hbpipe.errors import StatisticsError
from hbpipe.run.releases import read
from hbpipe.run.store_story import explain_store
from hbpipe.run.verification.verify import verify
from tests.nights import day, lake_of, night, rows_of, settings_for, write

STORES, DAYS = 30, 4
QUANTILES = (0.025, 0.5, 0.975)
#: Planted: treatment less control.
RATE, LOG_MONEY = 0.06, 0.25
ARMS = {"arm": "group", "control": "A"}
METRICS: dict[str, Any] = {
    "conversion": {
        "family": "beta_binomial",
        "successes": "won",
        "trials": "rows",
        "experiment": ARMS,
        "target": 0.05,
    },
    "basket": {
        "family": "normal",
        "value": "amount",
        "transform": "log",
        "experiment": {**ARMS, "treatment": "B"},
    },
    "money": {"family": "normal", "value": "amount", "experiment": ARMS},
}
OPTIONS: dict[str, Any] = {
    "metrics": METRICS,
    "inference": {"uncertainty": "integrated", "quantiles": QUANTILES, "pool_by": []},
}


def visits(number: int, third: bool = False) -> list[dict[str, Any]]:
    """Visits of one day; the last store has no treatment, and some rows have no arm."""
    rng = np.random.default_rng([17, number])
    effects = np.random.default_rng(18).normal(0.0, 0.02, STORES)
    rows: list[dict[str, Any]] = []
    for store in range(STORES):
        for k in range(int(rng.integers(20, 60))):
            arm = [None, "A", "A", "B"][rng.integers(0, 4)]
            arm = "A" if arm == "B" and store == STORES - 1 else arm
            treated = arm == "B"
            rate = 0.15 + treated * (RATE + effects[store])
            rows.append(
                {
                    "event_id": f"{number}/{store}/{k}",
                    "ts": datetime.combine(day(number), datetime.min.time()) + timedelta(minutes=k),
                    "chain_id": "near",
                    "store_id": f"s{store:02}",
                    "group": "C" if third and k == 0 else arm,
                    "won": bool(rng.random() < rate),
                    "amount": float(rng.lognormal(3.0 + treated * LOG_MONEY, 0.5)),
                }
            )
    return rows


def write_day(folder: Path, number: int, **options: Any) -> None:
    write(folder / "events" / f"{day(number)}.parquet", visits(number, **options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment")
    for number in range(DAYS):
        write_day(folder, number)
    night(settings_for(folder, **OPTIONS))
    return folder


def table_of(folder: Path, name: str, metric: str) -> list[dict[str, Any]]:
    table = read(Lake(str(folder / "lake")), name)
    return table.filter(pc.equal(table["metric"], metric)).to_pylist()


def arms_of(folder: Path, value: str) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Statistics of each arm, as SQL has them: of visits, or of a value."""
    found: dict[str, dict[str, Any]] = {}
    for arm in "AB":
        columns = (
            "count(won) FILTER (won), count(won)"
            if value == "won"
            else f"count({value}), coalesce(avg({value}), 0), "
            f"coalesce(var_pop({value}) * count({value}), 0)"
        )
        rows = duckdb.sql(
            f"""
            WITH stores AS (SELECT DISTINCT store_id FROM '{folder}/events/*.parquet'),
            mine AS (FROM '{folder}/events/*.parquet' WHERE "group" = '{arm}')
            SELECT store_id, {columns} FROM stores LEFT JOIN mine USING (store_id)
            GROUP BY store_id ORDER BY store_id
            """
        ).fetchall()
        names = ("successes", "trials") if value == "won" else ("n", "mean", "m2")
        columns_of = list(zip(*rows, strict=True))
        found[arm] = dict(zip(names, map(np.array, columns_of[1:]), strict=True))
        stores = list(columns_of[0])
    return stores, found


@pytest.mark.parametrize("metric", METRICS)
def test_posteriors_are_those_of_the_library(folder: Path, metric: str) -> None:
    value = {"conversion": "won", "basket": "ln(amount)", "money": "amount"}[metric]
    stores, arms = arms_of(folder, value)
    family = METRICS[metric]["family"]
    statistics = hbpipe.effects(family, arms["A"], arms["B"])
    fit = hbpipe.fit("normal_known_variance", statistics)
    expected = hbpipe.posterior(fit, statistics, uncertainty="integrated", quantiles=QUANTILES)
    rows = {row["store_id"]: row for row in table_of(folder, "posteriors", metric)}
    assert sorted(rows) == stores
    above = 1.0 - expected.cdf(0.0)
    size = "trials" if metric == "conversion" else "n"
    for j, store in enumerate(stores):
        row = rows[store]
        assert (row["n_control"], row["n_treatment"]) == (arms["A"][size][j], arms["B"][size][j])
        assert row["n"] == row["n_control"] + row["n_treatment"]
        for name in ("mean", "sd", "q0.025", "q0.5", "q0.975", "weight"):
            assert row[name] == pytest.approx(expected[name][j], rel=1e-6, abs=1e-9), name
        assert row["p_above_zero"] == pytest.approx(above[j], abs=1e-6)
        alone = np.isinf(statistics["variance"][j])
        assert (row["raw"] is None) == (row["raw_sd"] is None) == alone
        if not alone:
            assert row["raw"] == pytest.approx(statistics["estimate"][j], rel=1e-9)
            assert row["raw_sd"] ** 2 == pytest.approx(statistics["variance"][j], rel=1e-9)
        assert row["next_exposure"] is None
        assert (row["p_below_target"] is None) == (metric != "conversion")
    assert rows[stores[-1]]["n_treatment"] == 0
    assert rows[stores[-1]]["raw"] is None


@pytest.mark.parametrize(("metric", "planted"), [("conversion", RATE), ("basket", LOG_MONEY)])
def test_the_pooled_effect_is_what_was_planted(folder: Path, metric: str, planted: float) -> None:
    rows = {row["parameter"]: row for row in table_of(folder, "hyperparameters", metric)}
    assert {row["family"] for row in rows.values()} == {"normal_known_variance"}
    mu, tau = rows["mu"], rows["tau"]
    assert mu["q0.025"] < planted < mu["q0.975"]
    assert mu["posterior_mean"] == pytest.approx(mu["value"], abs=0.3 * mu["posterior_sd"])
    assert mu["p_above_zero"] > 0.99
    assert tau["p_above_zero"] is None
    assert 0.0 < tau["q0.025"] < tau["posterior_mean"] < tau["q0.975"]
    [new] = table_of(folder, "new_stores", metric)
    assert new["sd"] > mu["posterior_sd"]
    assert new["mean"] == pytest.approx(mu["posterior_mean"])


def test_the_ledger_knows_the_rows_of_each_arm(folder: Path) -> None:
    days = lake_of(settings_for(folder)).read("days").to_pylist()
    for number, entry in enumerate(sorted(days, key=lambda entry: entry["day"])):
        groups = [row["group"] for row in visits(number)]
        found = {one["arm"]: one["rows"] for one in entry["arms"] if one["metric"] == "basket"}
        assert found == {arm: groups.count(arm) for arm in "AB"}
        [split] = [one for one in entry["metrics"] if one["metric"] == "basket"]
        assert split["skipped"] == groups.count(None)


def test_the_lake_is_verified_and_a_store_explained(folder: Path) -> None:
    settings = settings_for(folder, **OPTIONS)
    lake = lake_of(settings)
    findings = verify(settings, lake, full=True)
    assert [one for one in findings if not one.fine] == []
    [release] = read(lake, "releases").to_pylist()
    [story] = explain_store(lake, release, None, settings.events.levels, "s01")
    assert {one.metric for one in story.metrics} == set(METRICS)
    assert all(one.row["p_above_zero"] is not None for one in story.metrics)


def test_another_night_adds_a_day_and_a_restated_one_is_as_if_it_had_come_first(
    tmp_path: Path,
) -> None:
    for name in ("late", "whole"):
        for number in range(DAYS - 1 if name == "late" else DAYS):
            write_day(tmp_path / name, number)
    late, whole = (settings_for(tmp_path / name, **OPTIONS) for name in ("late", "whole"))
    write(
        tmp_path / "late" / "events" / f"{day(1)}.parquet",
        visits(1)[: len(visits(1)) // 2],
    )
    night(late)
    write_day(tmp_path / "late", DAYS - 1)
    write_day(tmp_path / "late", 1)
    night(late)
    night(whole)
    for name in ("statistics", "posteriors", "hyperparameters", "new_stores"):
        tables = [read(lake_of(one), name) for one in (late, whole)]
        changed = ("change", "change_sd", "drift")
        assert rows_of(tables[0], changed) == rows_of(tables[1], changed), name


def test_a_third_arm_stops_the_night_until_the_treatment_is_named(tmp_path: Path) -> None:
    write_day(tmp_path, 0)
    write_day(tmp_path, 1, third=True)
    with pytest.raises(StatisticsError, match=r"2 values beside A: B \([\d,]+ rows\), C \(30 row"):
        night(settings_for(tmp_path, **OPTIONS))
    named = {**ARMS, "treatment": "B"}
    metrics = {name: {**raw, "experiment": named} for name, raw in METRICS.items()}
    night(settings_for(tmp_path, **{**OPTIONS, "metrics": metrics}))
    rows = table_of(tmp_path, "posteriors", "conversion")
    groups = [row["group"] for number in (0, 1) for row in visits(number, third=number == 1)]
    assert sum(row["n_treatment"] for row in rows) == groups.count("B")


def test_an_arm_that_the_events_do_not_have_is_warned_of(tmp_path: Path) -> None:
    write_day(tmp_path, 0)
    raw = METRICS["money"]
    metrics = {"seen": raw, "misspelt": {**raw, "experiment": {**ARMS, "treatment": "b"}}}
    night(settings_for(tmp_path, **{**OPTIONS, "metrics": metrics}))
    checks = read(Lake(str(tmp_path / "lake")), "audits").to_pylist()
    found = {row["subject"]: row for row in checks if row["name"] == "arms_seen"}
    assert (found["seen"]["status"], found["misspelt"]["status"]) == ("pass", "warn")
    assert found["misspelt"]["message"].endswith("and no b: no store has an effect of its own")
    assert {row["method"] for row in table_of(tmp_path, "posteriors", "misspelt")} == {
        "unidentified"
    }


def test_chains_and_regions_have_pooled_effects_of_their_own(folder: Path, tmp_path: Path) -> None:
    """Nested levels and processes: it is a metric of ``normal_known_variance`` like any other."""
    for number in range(2):
        rows = visits(number)
        for row in rows:
            row["chain_id"] = f"c{int(row['store_id'][1:]) % 3}"
        write(tmp_path / "events" / f"{day(number)}.parquet", rows)
    inference = {**OPTIONS["inference"], "nest_by": ["chain_id"]}
    night(settings_for(tmp_path, metrics=METRICS, inference=inference))
    rows = table_of(tmp_path, "posteriors", "conversion")
    chains = [row for row in rows if row["level"] == "chain_id"]
    assert len(chains) == 3
    assert all(0.0 < row["p_above_zero"] < 1.0 for row in chains)
    parameters = table_of(tmp_path, "hyperparameters", "conversion")
    assert all(row["posterior_mean"] is None for row in parameters)


def households(number: int) -> list[dict[str, Any]]:
    """Households of four visits that all convert or none, each in one arm, on one day."""
    rng = np.random.default_rng([19, number])
    rows: list[dict[str, Any]] = []
    for store in range(40):
        for home in range(12):
            arm, won = "AB"[rng.integers(0, 2)], bool(rng.random() < 0.3)
            rows += [
                {
                    "event_id": f"{number}/{store}/{home}/{k}",
                    "ts": datetime.combine(day(number), datetime.min.time()),
                    "chain_id": "near",
                    "store_id": f"s{store:02}",
                    "home": f"{number}/{home}",
                    "group": arm,
                    "won": won,
                    "amount": 1.0,
                }
                for k in range(4)
            ]
    return rows


def test_households_that_were_assigned_as_one_widen_the_variances(tmp_path: Path) -> None:
    for number in range(2):
        write(tmp_path / "events" / f"{day(number)}.parquet", households(number))
    raw = {key: value for key, value in METRICS["conversion"].items() if key != "target"}
    together = {"by": "home", "correct": True}
    metrics = {"plain": raw, "lift": {**raw, "overdispersion": together}}
    settings = settings_for(tmp_path, **{**OPTIONS, "metrics": metrics})
    night(settings)
    [fit] = table_of(tmp_path, "fits", "lift")
    assert fit["overdispersion"] == pytest.approx(4.0, rel=0.1)
    assert fit["overdispersion_by"] == "home"
    plain = {row["store_id"]: row for row in table_of(tmp_path, "posteriors", "plain")}
    for row in table_of(tmp_path, "posteriors", "lift"):
        same = plain[row["store_id"]]
        assert row["raw"] == same["raw"]
        assert (row["raw_sd"] / same["raw_sd"]) ** 2 == pytest.approx(fit["overdispersion"])
        assert row["n_effective"] == pytest.approx(row["n"] / fit["overdispersion"])
    found = {
        (name, row["parameter"]): row
        for name in metrics
        for row in table_of(tmp_path, "hyperparameters", name)
    }
    assert found["lift", "mu"]["q0.025"] < 0.0 < found["lift", "mu"]["q0.975"]
    # What households make of a store is no effect that differs between stores.
    spreads = [found[name, "tau"]["posterior_mean"] for name in metrics]
    assert spreads[1] < 0.6 * spreads[0]
    findings = verify(settings, lake_of(settings), full=True)
    assert [one for one in findings if not one.fine] == []
