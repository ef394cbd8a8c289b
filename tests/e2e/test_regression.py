"""Regressions and variances from odd Parquet files to a release, against numpy, DuckDB and fits.

The oracle applies the rules for events in a few lines of Python, sums with numpy, and fits with the
library interface.
"""

from __future__ import annotations

import math
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

import hbpipe
from hbpipe.data import units
from hbpipe.data.lake import Lake
from hbpipe.run.releases import read
from hbpipe.run.verification.verify import verify
from tests.nights import day, lake_of, night, rows_of, settings_for, write

LOG = {"transform": "log"}
METRICS: dict[str, Any] = {
    "elasticity": {
        "family": "normal_regression",
        "response": {"column": "volume", **LOG},
        "predictors": [1, "display", {"column": "price", **LOG}],
        "target": {"term": "log_price", "value": -2},
    },
    "line": {"family": "normal_regression", "response": "volume", "predictors": [1, "price"]},
    "spread": {"family": "normal_inverse_gamma", "value": "volume", **LOG},
}
TERMS = {"elasticity": ["intercept", "display", "log_price"], "line": ["intercept", "price"]}
QUANTILES = (0.05, 0.5, 0.95)
OPTIONS: dict[str, Any] = {
    "metrics": METRICS,
    "inference": {"uncertainty": "plug_in", "quantiles": QUANTILES},
    "audits": {"max_rejected_share": 0.2},
}
#: Hyperparameters integrated out, over one pool of all stores.
INTEGRATED = OPTIONS | {
    "metrics": {name: METRICS[name] for name in ("elasticity", "spread")},
    "inference": {"uncertainty": "auto", "quantiles": QUANTILES, "pool_by": []},
}
RELEASED = ("statistics", "hyperparameters", "fits", "posteriors", "new_stores")
Store = tuple[str, str]
Row = dict[str, Any]


def sales(number: int) -> list[Row]:
    """Sales of one day: 24 stores of two chains, some of them odd."""
    rng = np.random.default_rng([7, number])
    rows = []
    for store in range(24):
        intercept, slope = 3.0 + 0.4 * math.sin(store), -2.0 + 0.5 * math.cos(3 * store)
        for k in range(int(rng.integers(2, 7))):
            price = float(rng.lognormal(1.0, 0.25))
            display = bool(rng.random() < 0.4) and store != 3  # store 3 is never on display
            mean = intercept + 0.3 * display + slope * math.log(price)
            rows.append(
                {
                    "event_id": f"{number}/{store}/{k}",
                    "ts": datetime.combine(day(number), datetime.min.time()) + timedelta(hours=k),
                    "chain_id": "east" if store % 2 else "west",
                    "store_id": f"s{store:02}",
                    "volume": math.exp(mean + float(rng.normal(0, 0.3 + 0.02 * store))),
                    "display": display,
                    "price": price,
                }
            )
    return rows


def spoil(rows: list[Row], number: int) -> list[Row]:
    """Put in what real files have: nulls, prices of nothing, copies, and a store with one row."""
    faults: list[tuple[str, Any]] = [
        ("price", None),
        ("price", 0.0),
        ("price", -1.0),
        ("price", float("nan")),
        ("volume", None),
        ("volume", 0.0),
        ("volume", float("inf")),
        ("display", None),
    ]
    for k, (column, value) in enumerate(faults):
        rows[5 * k + number][column] = value
    rows.append({**rows[2], "volume": 1.0})  # a copy of an event, with other content
    if number == 1:
        rows.append({**rows[0], "event_id": "once", "store_id": "once", "price": 2.5})
    return rows


def late() -> list[Row]:
    """Rows of the first day that come with the files of the last."""
    return [{**row, "event_id": f"late/{row['event_id']}"} for row in sales(0)[:30:3]]


def deliver(folder: Path) -> None:
    for number in range(3):
        path = folder / "events" / f"{day(number)}.parquet"
        write(path, spoil(sales(number), number), row_group_size=37)
    write(folder / "events" / "late.parquet", late())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regression")
    deliver(folder)
    night(settings_for(folder, **OPTIONS))
    return folder


@pytest.fixture(scope="module")
def integrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("integrated")
    deliver(folder)
    night(settings_for(folder, **INTEGRATED))
    return folder


# --- the oracle ---------------------------------------------------------------------------------


def events() -> list[Row]:
    """Every event once: of its copies the first."""
    rows = [row for number in range(3) for row in spoil(sales(number), number)] + late()
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row["event_id"], row)
    return list(first.values())


def measured(metric: str) -> dict[Store, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Predictors and response of the events that count, by store; for all stores with events."""
    found: dict[Store, tuple[list[Any], list[float]]] = {}
    for row in events():
        own = found.setdefault((row["chain_id"], row["store_id"]), ([], []))
        volume, price = row["volume"], row["price"]
        if metric == "line":
            numbers, positive = (volume, price), ()
        else:
            numbers, positive = (volume, price, row["display"]), (volume, price)
        usable = all(value is not None and math.isfinite(value) for value in numbers)
        if usable and all(value > 0 for value in positive):
            line = metric == "line"
            own[0].append([1.0, price] if line else [1.0, row["display"], math.log(price)])
            own[1].append(volume if line else math.log(volume))
    size = len(TERMS[metric])
    return {
        store: (np.array(x, np.float64).reshape(-1, size), np.array(y, np.float64))
        for store, (x, y) in found.items()
    }


def statistics(metric: str, stores: list[Store]) -> dict[str, NDArray[Any]]:
    """Count, means and centred products of each store, by numpy."""
    sums: dict[str, list[Any]] = {"n": [], "means": [], "cross": []}
    data = measured(metric)
    for store in stores:
        x, y = data[store]
        z = np.column_stack([x, y])
        mean = z.mean(axis=0) if len(z) else np.zeros(z.shape[1])
        sums["n"].append(len(z))
        sums["means"].append(mean)
        sums["cross"].append((z - mean).T @ (z - mean))
    return {name: np.array(values) for name, values in sums.items()}


def rows_by(folder: Path, table: str, metric: str, *keys: str) -> dict[tuple[Any, ...], Row]:
    rows = read(Lake(str(folder / "lake")), table).to_pylist()
    mine = [row for row in rows if row["metric"] == metric]
    found = {tuple(row[key] for key in keys): row for row in mine}
    assert len(found) == len(mine), "a key occurs twice"
    return found


def stores_of(chain: str | None = None) -> list[Store]:
    return sorted(store for store in measured("line") if chain in (None, store[0]))


# --- statistics ---------------------------------------------------------------------------------


def test_the_statistics_are_the_sums_that_duckdb_finds(folder: Path) -> None:
    """Its regr_* aggregates over the raw files, against the lists in the lake."""
    statistics = lake_of(settings_for(folder)).read("statistics")
    lake = statistics.filter(pc.equal(statistics["metric"], "line"))
    raw = f"""
        WITH events AS (
            FROM read_parquet('{folder}/events/*.parquet', filename = true, file_row_number = true)
            QUALIFY row_number() OVER (
                PARTITION BY ts::DATE, event_id ORDER BY filename, file_row_number) = 1)
        SELECT ts::DATE AS day, store_id, regr_count(volume, price) AS n,
               regr_avgx(volume, price) AS x, regr_avgy(volume, price) AS y,
               regr_sxx(volume, price) AS sxx, regr_sxy(volume, price) AS sxy,
               regr_syy(volume, price) AS syy, regr_slope(volume, price) AS slope
        FROM events WHERE isfinite(price) AND isfinite(volume) GROUP BY ALL
    """
    query = f"""
        SELECT lake.n, raw.n, means[2] - x, means[3] - y, "cross"[5] - sxx, "cross"[6] - sxy,
               "cross"[9] - syy, "cross"[8] - sxy, "cross"[6] / "cross"[5] - slope
        FROM lake JOIN ({raw}) AS raw USING (day, store_id)
    """
    with duckdb.connect() as connection:
        connection.register("lake", lake)
        rows = connection.sql(query).fetchall()
    assert len(rows) > 70
    for n, expected, *differences in rows:
        assert n == expected
        assert [gap for gap in differences if gap is not None and abs(gap) > 1e-8] == []


def test_events_that_cannot_be_measured_are_counted_by_column(folder: Path) -> None:
    files = lake_of(settings_for(folder)).read("files").to_pylist()
    found: dict[tuple[str, str, str], int] = {}
    for rejection in [one for file in files for one in file["rejections"]]:
        key = (rejection["metric"], rejection["column"], rejection["reason"])
        found[key] = found.get(key, 0) + rejection["rows"]
    log = "logarithm of a value not above zero"
    assert {key: n for key, n in found.items() if key[0] == "elasticity"} == {
        ("elasticity", "volume", log): 3,
        ("elasticity", "volume", "infinite"): 3,
        ("elasticity", "price", log): 6,
        ("elasticity", "price", "not a number"): 3,
    }
    assert {key: n for key, n in found.items() if key[0] == "line"} == {
        ("line", "volume", "infinite"): 3,
        ("line", "price", "not a number"): 3,
    }
    (skipped,) = {
        sum(one["skipped"] for one in row["metrics"] if one["metric"] == "elasticity")
        for row in lake_of(settings_for(folder)).read("days").to_pylist()
    }
    assert skipped == 3


# --- what is estimated --------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["elasticity", "line"])
def test_raw_coefficients_are_those_of_lstsq(folder: Path, metric: str) -> None:
    rows = rows_by(folder, "posteriors", metric, "chain_id", "store_id", "term")
    data = measured(metric)
    assert rows.keys() == {(*store, term) for store in data for term in TERMS[metric]}
    undetermined = set()
    for store, (x, y) in data.items():
        expected, _, rank, _ = np.linalg.lstsq(x, y, rcond=None)
        for k, term in enumerate(TERMS[metric]):
            row = rows[(*store, term)]
            assert row["n"] == len(y)
            if row["raw"] is None:
                undetermined.add((store[1], term))
            else:
                assert row["raw"] == pytest.approx(expected[k], rel=1e-7, abs=1e-9), (store, term)
        assert rank == x.shape[1] or any(store[1] == name for name, _ in undetermined)
    never = {("s03", "display")} if metric == "elasticity" else set()
    assert undetermined == never | {("once", term) for term in TERMS[metric]}


@pytest.mark.parametrize("metric", ["elasticity", "line"])
@pytest.mark.parametrize("chain", ["east", "west"])
def test_hyperparameters_are_those_of_the_library(folder: Path, metric: str, chain: str) -> None:
    fit = hbpipe.fit("normal_regression", statistics(metric, stores_of(chain)))
    rows = rows_by(folder, "hyperparameters", metric, "pool", "parameter")
    found = {key[1]: row["value"] for key, row in rows.items() if key[0] == chain}
    terms = TERMS[metric]
    expected = {"sigma": fit.hyperparameters["sigma"]}
    for i, term in enumerate(terms):
        expected[f"mu[{term}]"] = fit.hyperparameters["mu"][i]
        expected[f"tau[{term}]"] = fit.hyperparameters["tau"][i]
        for k in range(i, len(terms)):
            pair = f"[{term},{terms[k]}]"
            expected[f"Sigma{pair}"] = fit.hyperparameters["Sigma"][i, k]
            if k > i:
                expected[f"correlation{pair}"] = fit.hyperparameters["correlation"][i, k]
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    likelihood = rows_by(folder, "fits", metric, "pool")[(chain,)]["log_marginal_likelihood"]
    assert likelihood == pytest.approx(fit.log_marginal_likelihood, rel=1e-9)


COLUMNS = ("mean", "sd", "sd_plug_in", "q0.05", "q0.5", "q0.95", "weight", "prior_mean")
OF_A_NEW_STORE = ("mean", "sd", "q0.05", "q0.5", "q0.95")


def assert_same(row: Row, expected: dict[str, float], slack: float, key: Any) -> None:
    """Compare with the library's posterior, in posterior sds."""
    for name, value in expected.items():
        unit = 1.0 if name == "weight" else expected["sd"]
        assert row[name] == pytest.approx(value, abs=slack * unit), (key, name)


def assert_posteriors(
    folder: Path, metric: str, stores: list[Store], pool: str, uncertainty: str, slack: float
) -> None:
    """Compare the posteriors of a pool's stores, and of a new one, with the library's."""
    data = statistics(metric, stores)
    fit = hbpipe.fit("normal_regression", data)
    absent = {name: np.zeros_like(values[:1]) for name, values in data.items()}
    found, new = (
        hbpipe.posterior(fit, some, uncertainty=uncertainty, quantiles=QUANTILES)
        for some in (data, absent)
    )
    rows = rows_by(folder, "posteriors", metric, "chain_id", "store_id", "term")
    unseen = rows_by(folder, "new_stores", metric, "pool", "term")
    for k, term in enumerate(TERMS[metric]):
        for j, store in enumerate(stores):
            row = rows[(*store, term)]
            assert row["method"] == found.method
            assert_same(row, {name: found[name][j, k] for name in COLUMNS}, slack, store)
        expected = {name: new[name][0, k] for name in OF_A_NEW_STORE}
        assert_same(unseen[pool, term], expected, slack, term)


@pytest.mark.parametrize("metric", ["elasticity", "line"])
@pytest.mark.parametrize("chain", ["east", "west"])
def test_posteriors_are_those_of_the_library(folder: Path, metric: str, chain: str) -> None:
    assert_posteriors(folder, metric, stores_of(chain), chain, "plug_in", 1e-3)


def test_integrated_posteriors_are_those_of_the_library(integrated: Path) -> None:
    """Both sample, from statistics that differ in their rounding."""
    assert_posteriors(integrated, "elasticity", stores_of(), "all", "auto", 0.01)
    (fit,) = rows_by(integrated, "fits", "elasticity", "pool").values()
    assert (fit["method"], fit["sampler"]) == ("integrated", "sobol")


def test_a_target_belongs_to_its_term(folder: Path) -> None:
    rows = rows_by(folder, "posteriors", "elasticity", "chain_id", "store_id", "term")
    for (_, _, term), row in rows.items():
        if term != "log_price":
            assert row["p_below_target"] is None
            continue
        normal = 0.5 * math.erfc((row["mean"] + 2.0) / row["sd"] / math.sqrt(2.0))
        assert row["p_below_target"] == pytest.approx(normal, abs=1e-9)


def test_a_variance_for_each_store(integrated: Path) -> None:
    """Posteriors of normal_inverse_gamma against the library, on moments of numpy."""
    logs: dict[Store, list[float]] = {}
    for row in events():
        own = logs.setdefault((row["chain_id"], row["store_id"]), [])
        if row["volume"] is not None and 0 < row["volume"] < math.inf:
            own.append(math.log(row["volume"]))
    rows = rows_by(integrated, "posteriors", "spread", "chain_id", "store_id", "term")
    assert rows.keys() == {(*store, "theta") for store in logs}
    values = [np.array(logs[store]) for store in stores_of()]
    sums = {
        "n": np.array([len(x) for x in values]),
        "mean": np.array([x.mean() for x in values]),
        "m2": np.array([np.sum((x - x.mean()) ** 2) for x in values]),
    }
    found = hbpipe.posterior(hbpipe.fit("normal_inverse_gamma", sums), sums, quantiles=QUANTILES)
    for j, store in enumerate(stores_of()):
        row = rows[(*store, "theta")]
        assert row["n"] == sums["n"][j]
        assert row["raw"] == pytest.approx(sums["mean"][j], rel=1e-12)
        assert row["method"] == found.method
        assert_same(row, {name: found[name][j] for name in COLUMNS}, 0.01, store)


# --- the same whatever happens ------------------------------------------------------------------


def tables(folder: Path) -> dict[str, list[str]]:
    return {name: rows_of(read(Lake(str(folder / "lake")), name)) for name in RELEASED}


THREADS = {"kind": "local", "workers": 2, "processes": False}
PROCESSES = THREADS | {"processes": True}


@pytest.mark.long
def test_processes_give_the_same_bits(integrated: Path, tmp_path: Path) -> None:
    shutil.copytree(integrated / "events", tmp_path / "events")
    night(settings_for(tmp_path, cluster=PROCESSES, **INTEGRATED))
    assert tables(tmp_path) == tables(integrated)


def test_shards_give_the_same_fit_and_threads_the_same_bits(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows of the regressions stay on the workers: only sums over them come back."""
    monkeypatch.setattr(units, "SHARD_ROWS", 60)
    options = {**OPTIONS, "metrics": {"elasticity": METRICS["elasticity"]}}
    for name, cluster in {"serial": {"kind": "serial"}, "threads": THREADS}.items():
        shutil.copytree(folder / "events", tmp_path / name / "events")
        settings = settings_for(tmp_path / name, cluster=cluster, **options)
        night(settings)
        assert len(lake_of(settings).files("posteriors")) == 2
    assert tables(tmp_path / "threads") == tables(tmp_path / "serial")
    keys = ("chain_id", "store_id", "term")
    whole, cut = (
        rows_by(at, "posteriors", "elasticity", *keys) for at in (folder, tmp_path / "serial")
    )
    assert whole.keys() == cut.keys()
    for key, row in whole.items():
        assert_same(cut[key], {name: row[name] for name in COLUMNS}, 1e-3, key)


def test_files_that_come_late_make_the_same_tables(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "events", tmp_path / "events")
    waiting = (tmp_path / "events" / "late.parquet").rename(tmp_path / "late.parquet")
    settings = settings_for(tmp_path, **OPTIONS)
    before = night(settings)
    waiting.rename(tmp_path / "events" / "late.parquet")
    after = night(settings)
    assert (before.release[-1], after.release[-1]) == ("1", "2")
    assert [one["day"] for one in after.days] == [str(day(0))]
    found, expected = tables(tmp_path), tables(folder)
    assert found["statistics"] == expected["statistics"]
    assert found["posteriors"] == expected["posteriors"]


def test_drift_is_measured_from_the_coefficients_of_the_day_before(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder / "events", tmp_path / "events")
    settings = settings_for(tmp_path, **OPTIONS)
    night(settings, as_of=day(1))
    night(settings, as_of=day(2))
    for metric in METRICS:
        for fit in rows_by(tmp_path, "fits", metric, "pool").values():
            assert fit["drift"] is not None
            assert -1e-6 < fit["drift"] < 100.0, (metric, "about chi-squared")


# --- verify -------------------------------------------------------------------------------------


def failed(folder: Path) -> dict[str, str]:
    settings = settings_for(folder, **OPTIONS)
    found = verify(settings, lake_of(settings), full=True)
    return {one.name: one.message for one in found if not one.fine}


def test_stores_with_several_coefficients_are_not_checked_and_it_is_said(folder: Path) -> None:
    rows = rows_by(folder, "diagnostics", "line", "pool", "check")
    for check in ("pit", "prior_shape", "calibration", "outliers", "next_day"):
        assert rows[None, check]["status"] == "not_applicable"
        assert "several coefficients" in rows[None, check]["message"]


def test_a_recount_of_the_raw_files_agrees(folder: Path) -> None:
    assert failed(folder) == {}


def test_a_planted_difference_in_a_list_is_found(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    lake = Lake(str(tmp_path / "lake"))
    rows = lake.read("statistics", filters=[("day", "==", day(1))]).to_pylist()
    row = next(row for row in rows if row["metric"] == "elasticity" and row["n"] > 2)
    row["cross"][6] *= 1.0 + 1e-6
    schema = lake.snapshot("statistics").schema
    table = pa.Table.from_pylist(rows, schema=schema)
    columns = [name for name in schema.names if name != "day"]
    lake.replace(
        "statistics",
        table.select(columns),
        run_id="planted",
        partition={"day": str(day(1))},
        statistics=["shard"],
    )
    ((name, message),) = failed(tmp_path).items()
    assert name == "recount[elasticity]"
    assert "cross[6]" in message
