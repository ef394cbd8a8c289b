"""Covariates on the prior mean from Parquet events and a table of stores to a release.

The oracle adds up events with numpy, codes attributes by hand from what the release says of the
coding, and fits with the library interface.
"""

from __future__ import annotations

import json
import math
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from numpy.typing import NDArray

import hbpipe
from hbpipe.config import Settings, load_settings
from hbpipe.errors import ConfigError, EventsError, FitError, GateError
from hbpipe.run.releases import read
from hbpipe.run.simulate import simulate_events
from tests.nights import FIRST, day, lake_of, night, rows_of, settings_for, write

STORES, DAYS = 72, 3
FORMATS = ("kiosk", "mall", "street")
EFFECT = {"kiosk": -0.6, "mall": 0.8, "street": 0.0}
CHAINS = ("east", "west")
SHARED = ["format", {"column": "size_m2", "transform": "log"}]
METRICS: dict[str, Any] = {
    "conversion": {
        "family": "beta_binomial",
        "successes": "converted",
        "trials": "rows",
        "covariates": SHARED,
        "target": 0.25,
    },
    "basket": {
        "family": "normal",
        "value": "amount",
        "transform": "log",
        "covariates": ["format", {"spline": "n", "df": 3}],
    },
    "orders": {
        "family": "gamma_poisson",
        "count": "converted",
        "exposure": "days",
        "covariates": SHARED,
    },
}
QUANTILES = (0.05, 0.5, 0.95)
#: Integration takes most of a night's time; tests that are about something else do without.
QUICK = {"uncertainty": "plug_in"}
Row = dict[str, Any]


def stores() -> list[Row]:
    """All stores, with the truth: mostly on the street, no kiosk in the west."""
    rng = np.random.default_rng(11)
    found = []
    for number in range(STORES):
        chain = CHAINS[number % 2]
        kind = str(rng.choice(FORMATS, p=[0.2, 0.3, 0.5]))
        kind = "street" if chain == "west" and kind == "kiosk" else kind
        size = float(np.round(np.exp(rng.normal(6.0, 0.5))))
        line = -1.2 + EFFECT[kind] + 0.5 * (math.log(size) - 6.0)
        mean = 1.0 / (1.0 + math.exp(-line))
        found.append(
            {
                "chain_id": chain,
                "store_id": f"s{number:02}",
                "format": kind,
                "size_m2": size,
                "theta": float(rng.beta(60.0 * mean, 60.0 * (1.0 - mean))),
                "mu": 1.0 + EFFECT[kind] + float(rng.normal(0.0, 0.2)),
                "visits": int(rng.integers(2, 30)),
            }
        )
    return found


def events(number: int) -> list[Row]:
    """Visits of one day; s70 and s71 have none."""
    rng = np.random.default_rng([5, number])
    start = datetime.combine(day(number), datetime.min.time())
    return [
        {
            "event_id": f"{number}/{store['store_id']}/{k}",
            "ts": start + timedelta(minutes=k),
            "chain_id": store["chain_id"],
            "store_id": store["store_id"],
            "converted": bool(rng.random() < store["theta"]),
            "amount": float(np.exp(rng.normal(store["mu"], 0.5))),
        }
        for store in stores()[:70]
        for k in range(store["visits"] + number)
    ]


def table() -> list[Row]:
    """The table of stores: s03 has no format, s04 no row, and the west plans a kiosk."""
    rows = [
        {name: store[name] for name in ("chain_id", "store_id", "format", "size_m2")}
        for store in stores()
        if store["store_id"] != "s04"
    ]
    rows[3]["format"] = None
    rows.append({"chain_id": "west", "store_id": "new", "format": "kiosk", "size_m2": 150.0})
    return rows


def options(folder: Path, **changes: Any) -> dict[str, Any]:
    return {
        "stores": {"path": str(folder / "stores.parquet")},
        "metrics": METRICS,
        "inference": {"uncertainty": "auto", "quantiles": list(QUANTILES)},
        **changes,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("covariates")
    for number in range(DAYS):
        write(folder / "events" / f"{day(number)}.parquet", events(number), row_group_size=301)
    write(folder / "stores.parquet", table())
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    settings = settings_for(folder, **options(folder))
    night(settings)
    return settings


def released(settings: Settings, name: str, **wanted: Any) -> list[Row]:
    rows = read(lake_of(settings), name, environment="prod").to_pylist()
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def audits(settings: Settings, name: str) -> dict[str, Row]:
    """The latest results of a check, by subject."""
    rows = lake_of(settings).snapshot("audits").read().to_pylist()
    rows.sort(key=lambda row: row["checked_at"])
    return {row["subject"]: row for row in rows if row["name"] == name}


# --- the oracle ---------------------------------------------------------------------------------


def summed(metric: str, store_ids: list[str]) -> dict[str, NDArray[Any]]:
    """Statistics of stores, from their events."""
    found: dict[str, list[Row]] = {name: [] for name in store_ids}
    for number in range(DAYS):
        for row in events(number):
            if row["store_id"] in found:
                found[row["store_id"]].append(row)
    rows = list(found.values())
    if metric == "basket":
        logs = [np.log([row["amount"] for row in one]) for one in rows]
        mean = np.array([values.mean() if len(values) else 0.0 for values in logs])
        m2 = [np.sum((values - mean[k]) ** 2) for k, values in enumerate(logs)]
        return {"n": np.array([len(values) for values in logs]), "mean": mean, "m2": np.array(m2)}
    successes = np.array([sum(row["converted"] for row in one) for one in rows])
    if metric == "orders":
        seen = np.array([DAYS if one else 0 for one in rows], float)
        return {"count": successes, "exposure": seen}
    return {"successes": successes, "trials": np.array([len(one) for one in rows])}


def natural_spline(x: NDArray[np.float64], knots: list[float]) -> NDArray[np.float64]:
    """Elements of Statistical Learning, equations 5.4 and 5.5, cubes scaled."""

    def d(k: int) -> NDArray[np.float64]:
        cubes = [np.clip(x - knot, 0, None) ** 3 for knot in (knots[k], knots[-1])]
        return (cubes[0] - cubes[1]) / (knots[-1] - knots[k])

    scale = (knots[-1] - knots[0]) ** 2
    last = len(knots) - 2
    return np.column_stack([x - knots[0], *((d(k) - d(last)) / scale for k in range(last))])


def coded(metric: str, rows: list[Row], told: dict[str, Any]) -> NDArray[np.float64]:
    """Covariates of rows of the table of stores, as ``fits.covariates`` tells."""
    kinds = [row["format"] for row in rows]
    columns = [np.ones(len(rows))]
    columns += [np.array([kind == level for kind in kinds]) for level in told["format"]["levels"]]
    if metric == "basket":
        n = summed(metric, [row["store_id"] for row in rows])["n"]
        log_n = np.log(np.maximum(n, np.exp(told["n"]["lowest"])))
        return np.column_stack([*columns, natural_spline(log_n, told["n"]["knots"])])
    size = np.log([row["size_m2"] for row in rows]) - told["size_m2"]["centre"]
    return np.column_stack([*columns, size])


def members(chain: str) -> list[Row]:
    """Rows of the table whose covariates are known."""
    return [row for row in table() if row["chain_id"] == chain and row["format"] is not None]


# --- what a release says ------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("chain", CHAINS)
def test_a_release_is_what_the_library_gives_for_the_same_covariates(settings, metric, chain):
    (story,) = released(settings, "fits", metric=metric, pool=chain)
    told = json.loads(story["covariates"])
    rows = [row for row in members(chain) if row["store_id"] != "new"]
    x = coded(metric, rows, told)
    # The west has no kiosk: its column is left out there.
    kept = np.ptp(x, axis=0) > 0
    kept[0] = True
    statistics = summed(metric, [row["store_id"] for row in rows])
    family = METRICS[metric]["family"]
    fit = hbpipe.fit(family, statistics, covariates=x[:, kept])
    expected = hbpipe.posterior(fit, statistics, covariates=x[:, kept], quantiles=QUANTILES)
    found = {row["store_id"]: row for row in released(settings, "posteriors", metric=metric)}
    ours = [found[row["store_id"]] for row in rows]
    assert {row["method"] for row in ours} == {expected.method}
    columns = ["mean", "sd", "sd_plug_in", "prior_mean", "weight", "q0.05", "q0.95"]
    for name in [*columns, "complete_pooling", "complete_pooling_sd"]:
        values = [row[name] for row in ours]
        assert np.allclose(values, expected[name], rtol=1e-8, atol=1e-11), name
    assert story["n_groups"] == fit.n_groups
    assert math.isclose(story["log_marginal_likelihood"], fit.log_marginal_likelihood)
    complete = fit.pooling.complete.log_likelihood
    assert math.isclose(story["log_likelihood_complete_pooling"], complete)
    assert math.isclose(
        story["log_likelihood_no_pooling"], fit.pooling.none.log_likelihood, rel_tol=1e-9
    )


def test_hyperparameters_name_every_coefficient(settings):
    rows = released(settings, "hyperparameters", metric="conversion", pool="east")
    labels = ["intercept", "format=kiosk", "format=mall", "log_size_m2"]
    assert [row["parameter"] for row in rows] == [
        *(f"coefficients[{label}]" for label in labels),
        "concentration",
    ]
    truth = [-1.2, -0.6, 0.8, 0.5]
    (story,) = released(settings, "fits", metric="conversion", pool="east")
    told = json.loads(story["covariates"])
    assert told["format"] == {"reference": "street", "levels": ["kiosk", "mall"]}
    truth[0] += 0.5 * (told["size_m2"]["centre"] - 6.0)
    for row, true in zip(rows, truth, strict=False):
        assert abs(row["value"] - true) < 3.5 * row["sd"]
    spline = released(settings, "hyperparameters", metric="basket", pool="west")
    assert [r["parameter"] for r in spline if "log_n" in r["parameter"]] == [
        f"coefficients[spline_log_n_{k}]" for k in (1, 2, 3)
    ]


def test_a_chain_without_kiosks_has_no_coefficient_of_kiosks(settings):
    rows = released(settings, "hyperparameters", metric="conversion", pool="west")
    found = {row["parameter"]: row for row in rows}
    assert found["coefficients[format=kiosk]"]["value"] is None
    assert found["coefficients[format=kiosk]"]["sd"] is None
    assert found["coefficients[format=mall]"]["sd"] > 0
    (planned,) = released(settings, "posteriors", metric="conversion", store_id="new")
    assert planned["method"] == "not_estimable"
    assert planned["mean"] is None
    assert planned["prior_mean"] is None
    check = audits(settings, "prior_means_estimable")["conversion"]
    assert (check["status"], check["value"]) == ("warn", 1.0)


def test_stores_whose_covariates_are_unknown_are_set_aside_and_counted(settings):
    for store in ("s03", "s04"):
        for row in released(settings, "posteriors", store_id=store):
            assert row["method"] == "no_covariates"
            nothing = ["mean", "sd", "q0.05", "prior_mean", "weight", "complete_pooling"]
            assert all(row[name] is None for name in [*nothing, "predictive_mean"])
            assert row["n_events"] > 0
            assert row["raw"] is not None
    check = audits(settings, "covariates_known")["conversion"]
    assert check["status"] == "warn"
    assert math.isclose(check["value"], 2 / 73)


def test_stores_without_events_are_expected_to_be_like_their_format(settings):
    for store in stores()[70:]:
        for row in released(settings, "posteriors", store_id=store["store_id"]):
            assert row["n_events"] == 0
            assert row["weight"] == 0
            assert row["mean"] == row["prior_mean"]
            assert row["sd"] > 0
    new = released(settings, "new_stores", metric="conversion")
    kinds = {(row["pool"], row["covariates"].partition(",")[0]): row["mean"] for row in new}
    assert ("west", "format=kiosk") not in kinds
    means = [kinds["east", f"format={kind}"] for kind in ("kiosk", "street", "mall")]
    assert means == sorted(means)
    (basket, *_) = released(settings, "new_stores", metric="basket", pool="east")
    assert basket["covariates"].startswith("format=kiosk, n=")


def test_intervals_cover_the_truth(settings):
    truth = {store["store_id"]: store for store in stores()}
    for metric, name in (("conversion", "theta"), ("basket", "mu")):
        rows = [row for row in released(settings, "posteriors", metric=metric) if row["mean"]]
        inside = [row["q0.05"] <= truth[row["store_id"]][name] <= row["q0.95"] for row in rows]
        assert len(rows) == STORES - 2
        assert sum(inside) >= 57  # 63 of 70 are expected, sd 2.5


def test_threads_give_the_same_bits(folder, settings, tmp_path):
    cluster = {"kind": "local", "workers": 2}
    other = settings_for(folder, **options(folder, lake={"path": str(tmp_path)}, cluster=cluster))
    night(other)
    for name in ("hyperparameters", "fits", "posteriors", "new_stores"):
        ours, theirs = (read(lake_of(one), name, environment="prod") for one in (settings, other))
        assert rows_of(ours) == rows_of(theirs), name


def one_metric(folder: Path, target: Path, rows: list[Row], covariates: list[Any]) -> Settings:
    """Settings of one metric with these covariates and this table of stores."""
    shutil.copytree(folder / "events", target / "events")
    write(target / "stores.parquet", rows)
    metrics = {"c": {**METRICS["conversion"], "covariates": covariates}}
    return settings_for(target, **options(target, metrics=metrics, inference=QUICK))


def test_drift_is_measured_where_columns_mean_the_same(folder, tmp_path):
    settings = one_metric(folder, tmp_path, table(), SHARED)
    night(settings, as_of=day(1))
    night(settings, as_of=day(2))
    fits = released(settings, "fits")
    assert [row["pool"] for row in fits] == list(CHAINS)
    assert all(0 <= row["drift"] < 20 for row in fits)
    kept = [row for row in table() if row["format"] != "kiosk"]
    rows = [{**row, "format": "hall" if row["format"] == "mall" else row["format"]} for row in kept]
    write(tmp_path / "stores.parquet", rows)
    renamed = settings.model_copy(
        update={"audits": settings.audits.model_copy(update={"max_unknown_covariates": 1.0})}
    )
    night(renamed, as_of=day(2))
    assert [row["drift"] for row in released(settings, "fits")] == [None, None]


# --- the table of stores changes ----------------------------------------------------------------


def test_a_store_that_gets_its_row_gets_its_posterior(folder, tmp_path):
    settings = one_metric(folder, tmp_path, table(), SHARED)
    night(settings)
    assert not night(settings).published
    late = {"chain_id": "east", "store_id": "s04", "format": "mall", "size_m2": 300.0}
    rows = [{**row, "format": row["format"] or "street"} for row in table()]
    write(tmp_path / "stores.parquet", [*rows, late])
    night(settings)
    (row,) = released(settings, "posteriors", store_id="s04")
    assert row["mean"] is not None
    assert audits(settings, "covariates_known")["c"]["value"] == 0


def test_many_stores_without_covariates_stop_the_release(folder, tmp_path):
    settings = one_metric(folder, tmp_path, table()[:50], SHARED)
    with pytest.raises(GateError, match="covariates_known of c: 21 of 70 units"):
        night(settings)


# --- does the prior mean depend on size? --------------------------------------------------------


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_size_dependence_warns_where_large_stores_differ(tmp_path, slope):
    rng = np.random.default_rng(2)
    visits = np.exp(rng.uniform(1.0, 4.5, 120)).astype(int) + 1
    line = -1.0 + slope * (np.log(visits) - 2.7) + rng.normal(0, 0.2, 120)
    rate = 1.0 / (1.0 + np.exp(-line))
    start = datetime.combine(FIRST, datetime.min.time())
    rows = [
        {
            "event_id": f"{store}/{k}",
            "ts": start + timedelta(seconds=k),
            "chain_id": "one",
            "store_id": f"s{store:03}",
            "converted": bool(rng.random() < rate[store]),
        }
        for store in range(120)
        for k in range(visits[store])
    ]
    write(tmp_path / "events" / "day.parquet", rows)
    plain = {"family": "beta_binomial", "successes": "converted", "trials": "rows"}
    metrics = {"plain": plain, "curved": {**plain, "covariates": [{"spline": "n", "df": 1}]}}
    settings = settings_for(tmp_path, metrics=metrics, inference=QUICK)
    night(settings)
    found = audits(settings, "size_dependence")
    assert list(found) == ["plain"]
    assert found["plain"]["status"] == ("warn" if slope else "pass")
    (curve,) = released(
        settings, "hyperparameters", metric="curved", parameter="coefficients[spline_log_n_1]"
    )
    assert abs(curve["value"] - slope) < 3 * curve["sd"]
    if slope:
        assert "add {spline: n}" in found["plain"]["message"]


@pytest.mark.parametrize(
    ("odd", "columns", "story"),
    [
        ((2, 5), 1, "a straight line, with 1 column(s) in place of 3: too many stores are of one"),
        ((10, 10), 0, "left out, with 0 column(s) in place of 3: all stores with data are of one"),
    ],
)
def test_stores_of_one_size_do_not_stop_a_night(tmp_path, odd, columns, story):
    """All stores have ten visits, but the first two of one chain."""
    rng = np.random.default_rng(9)
    start = datetime.combine(FIRST, datetime.min.time())
    rows = [
        {
            "event_id": f"{store}/{k}",
            "ts": start + timedelta(seconds=k),
            "chain_id": CHAINS[store % 2],
            "store_id": f"s{store:02}",
            "converted": bool(k == 0 or rng.random() < 0.2 + 0.01 * store),
            "amount": float(rng.lognormal(1.0, 0.3)),
        }
        for store in range(50)
        for k in range({0: odd[0], 2: odd[1]}.get(store, 10))
    ]
    write(tmp_path / "events" / "day.parquet", rows)
    curve = {"covariates": [{"spline": "n", "df": 3}]}
    basket = {"family": "normal", "value": "amount", "transform": "log"}
    counts = {"family": "beta_binomial", "successes": "converted", "trials": "rows"}
    metrics = {"conversion": {**counts, **curve}, "basket": {**basket, **curve}}
    settings = settings_for(tmp_path, metrics=metrics, inference={"uncertainty": "auto"})
    night(settings)
    found = audits(settings, "spline_columns")
    assert {row["status"] for row in found.values()} == {"warn"}
    assert all(row["value"] == 3 - columns and story in row["message"] for row in found.values())
    for row in released(settings, "fits"):
        told = json.loads(row["covariates"])["n"]
        assert (len(told["knots"]), told["asked"]) == (2 * columns, 3)
        assert row["status"] in ("ok", "no_spread")
    # The chain whose stores are all of one size determines no slope.
    slopes = [r for r in released(settings, "hyperparameters") if "spline" in r["parameter"]]
    known = {row["pool"] for row in slopes if row["value"] is not None}
    assert (len(slopes), known) == ((4, {"east"}) if columns else (0, set()))
    for row in released(settings, "posteriors"):
        assert row["q0.05"] < row["mean"] < row["q0.95"]


# --- what cannot be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("covariates", "error", "message"),
    [
        (["fromat"], EventsError, "did you mean 'format'"),
        ([{"column": "opened", "categorical": True}], FitError, "'opened' has 1 levels, 2000"),
        (["opened"], FitError, "'opened' is constant: 2000"),
        (["half", "size_m2"], FitError, "'size_m2' is a combination of .*half"),
        (["group", "format"], FitError, "'format=kiosk' is a combination of group=0"),
        (["code"], FitError, "'code' has 140 levels"),
        (["list"], EventsError, "is list"),
    ],
)
def test_covariates_that_cannot_be_used_are_named(folder, tmp_path, covariates, error, message):
    rows = [
        {
            **row,
            "store_id": f"s{number:03}",
            "code": f"c{number}",
            "opened": 2000,
            "half": row["size_m2"] / 2,
            "group": str(FORMATS.index(row["format"] or "mall")),
            "format": row["format"] or "mall",
            "list": [1],
        }
        for number, row in enumerate(table()[:70] * 2)
    ]
    with pytest.raises(error, match=message):
        night(one_metric(folder, tmp_path, rows, covariates))


def test_a_level_may_be_a_covariate_but_says_nothing_within_itself(folder, tmp_path):
    settings = one_metric(folder, tmp_path, table(), ["chain_id", *SHARED])
    night(settings)
    rows = released(settings, "hyperparameters", parameter="coefficients[chain_id=east]")
    assert [row["value"] for row in rows] == [None, None]


def test_the_configuration_of_the_example_runs(tmp_path, monkeypatch):
    simulate_events(
        tmp_path / "covariates",
        first_day=FIRST,
        days=5,
        chains=2,
        stores=60,
        events_per_day=2000,
        seed=3,
    )
    monkeypatch.chdir(tmp_path)
    example = Path(__file__).parents[2] / "configs" / "covariates.yaml"
    night(load_settings(example, overrides=["cluster.kind=serial"]))
    rows = released(load_settings(example), "hyperparameters", metric="conversion")
    found = {row["parameter"]: row for row in rows if row["pool"] == "chain-0"}
    assert found["coefficients[format=mall]"]["value"] > 0
    assert found["coefficients[format=kiosk]"]["value"] < 0
    assert pq.read_table("covariates/stores.parquet").num_rows == 60


def test_covariates_need_a_table_of_stores(tmp_path):
    raw = {
        "pipeline": "p",
        "events": {"path": "e", "time": "ts", "levels": ["chain_id", "store_id"]},
        "metrics": {"c": METRICS["conversion"]},
        "lake": {"path": "l"},
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"covariates of c \(format, size_m2\) are columns"):
        load_settings(tmp_path / "p.yaml")
