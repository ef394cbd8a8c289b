"""Chains of a platform and their regions, from Parquet files to a release, against library fits.

The oracle aggregates the events with numpy and fits with ``hbpipe.fit(..., nesting=...)``.
"""

from __future__ import annotations

import math
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hbpipe
from hbpipe.data.lake import Lake
from hbpipe.run.releases import read
from hbpipe.run.verification.verify import verify
from tests.nights import day, lake_of, night, rows_of, settings_for, write

CONVERSION = {"family": "beta_binomial", "successes": "converted", "trials": "rows"}
BASKET = {"family": "normal", "value": "amount", "transform": "log"}
METRICS: dict[str, Any] = {
    "basket": BASKET | {"target": 3.0},
    "conversion": CONVERSION | {"nest": ["chain_id"], "overdispersion": {"correct": True}},
    "flat": BASKET | {"nest": False},
}
LEVELS = ["chain_id", "region", "store_id"]
EVENTS = {"levels": LEVELS}
INFERENCE = {"pool_by": [], "nest_by": ["chain_id", "region"], "uncertainty": "auto"}
#: A pool of all chains is called so too.
CHAINS = ("all", "bell", "corn", "dune", "elm", "tiny", "once")
TINY, ONCE = 5, 6
QUANTILES = ("q0.05", "q0.5", "q0.95")
Row = dict[str, Any]
Key = tuple[Any, ...]


def visits(number: int) -> list[Row]:
    """Visits of one day: a chain of eight stores far from the others, and one seen on day 1."""
    rows = []
    for chain, name in enumerate(CHAINS):
        if chain == ONCE and number != 1:
            continue
        for store in range(8 if chain == TINY else 10):
            rng = np.random.default_rng([chain, store, number])
            fixed = np.random.default_rng([chain, store])
            region = "north" if store % 2 else "south"
            centre = 3.0 + 0.3 * math.sin(2 * chain) + (1.0 if chain == TINY else 0.0)
            mean = centre + 0.2 * (region == "north") + 0.15 * fixed.normal()
            rate = 1 / (1 + math.exp(1.5 - 0.4 * chain - 0.5 * fixed.normal()))
            for k in range(2 if chain == TINY else int(rng.integers(8, 30))):
                rows.append(
                    {
                        "event_id": f"{number}/{chain}/{store}/{k}",
                        "ts": datetime.combine(day(number), datetime.min.time())
                        + timedelta(minutes=7 * k),
                        "chain_id": name,
                        "region": region,
                        "store_id": 100 * chain + store,
                        "converted": bool(rng.random() < rate),
                        "amount": math.exp(rng.normal(mean, 0.8)),
                    }
                )
    return rows


def deliver(folder: Path, days: int = 2) -> None:
    for number in range(days):
        write(folder / "events" / f"{day(number)}.parquet", visits(number), row_group_size=99)


def nested_settings(folder: Path, **sections: Any) -> Any:
    options = {"metrics": METRICS, "events": EVENTS, "inference": INFERENCE} | sections
    return settings_for(folder, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nested")
    deliver(folder)
    night(nested_settings(folder))
    return folder


def rows_by(folder: Path, table: str, metric: str, *keys: str, **chosen: Any) -> dict[Key, Row]:
    rows = read(Lake(str(folder / "lake")), table).to_pylist()
    mine = [row for row in rows if row["metric"] == metric]
    mine = [row for row in mine if all(row[name] == value for name, value in chosen.items())]
    found = {tuple(row[key] for key in keys): row for row in mine}
    assert len(found) == len(mine), "a key occurs twice"
    return found


# --- the oracle ---------------------------------------------------------------------------------


def stores() -> list[Key]:
    return sorted({tuple(row[name] for name in LEVELS) for row in visits(0) + visits(1)})


def by_store(column: str) -> list[NDArray[np.float64]]:
    rows = visits(0) + visits(1)
    return [
        np.array([row[column] for row in rows if row["store_id"] == key[-1]], np.float64)
        for key in stores()
    ]


def statistics(metric: str) -> dict[str, NDArray[Any]]:
    """Sum up each store by numpy."""
    if metric == "conversion":
        values = by_store("converted")
        trials = np.array([len(v) for v in values])
        return {"successes": np.array([int(v.sum()) for v in values]), "trials": trials}
    logs = [np.log(v) for v in by_store("amount")]
    m2 = np.array([np.sum((v - v.mean()) ** 2) for v in logs])
    return {
        "n": np.array([len(v) for v in logs]),
        "mean": np.array([v.mean() for v in logs]),
        "m2": m2,
    }


def nesting(*levels: str) -> dict[str, list[str]]:
    return {name: [key[LEVELS.index(name)] for key in stores()] for name in levels}


@pytest.fixture(scope="module")
def basket() -> tuple[Any, Any]:
    """Fit and posterior of the basket by the library."""
    labels = nesting("chain_id", "region")
    fit = hbpipe.fit("normal", statistics("basket"), nesting=labels)
    quantiles = (0.05, 0.5, 0.95)
    return fit, hbpipe.posterior(fit, statistics("basket"), nesting=labels, quantiles=quantiles)


# --- the release --------------------------------------------------------------------------------


def test_hyperparameters_are_those_of_the_library(folder: Path, basket: tuple[Any, Any]) -> None:
    fit, _ = basket
    rows = rows_by(folder, "hyperparameters", "basket", "parameter")
    assert rows.keys() == {(name,) for name in ("mu", "tau", "sigma", "tau_chain_id", "tau_region")}
    for (name,), row in rows.items():
        assert row["value"] == pytest.approx(fit.hyperparameters[name], rel=1e-5)
        assert (row["pool"], row["chain_id"], row["region"]) == ("all", None, None)
        assert row["sd"] > 0
    (row,) = rows_by(folder, "fits", "basket", "pool").values()
    assert row["log_marginal_likelihood"] == pytest.approx(fit.log_marginal_likelihood, rel=1e-10)
    assert row["log_likelihood_complete_pooling"] == pytest.approx(
        fit.pooling.complete.log_likelihood, rel=1e-9
    )
    assert (row["n_groups"], row["status"], row["method"]) == (len(stores()), "ok", "integrated")
    assert row["starts"] == len(row["start_values"]) == 6
    assert row["ess"] > 100


def test_units_are_those_of_the_library(folder: Path, basket: tuple[Any, Any]) -> None:
    rows = rows_by(folder, "posteriors", "basket", *LEVELS, level="store_id")
    assert sorted(rows) == stores()
    found = [rows[key] for key in stores()]
    for name in ("mean", "sd", *QUANTILES, "weight", "prior_mean", "sd_plug_in"):
        np.testing.assert_allclose([row[name] for row in found], basket[1][name], rtol=1e-4)
    assert {row["pool"] for row in found} == {
        f"{chain} / {region}" for chain, region, _ in stores()
    }
    np.testing.assert_allclose(
        [row["complete_pooling"] for row in found], basket[1]["complete_pooling"], rtol=1e-9
    )


@pytest.mark.parametrize("level", ["chain_id", "region"])
def test_groups_are_those_of_the_library(folder: Path, basket: tuple[Any, Any], level: str) -> None:
    place = LEVELS.index(level) + 1
    keys = sorted({key[:place] for key in stores()})
    rows = rows_by(folder, "posteriors", "basket", *LEVELS[:place], level=level)
    assert sorted(rows) == keys
    means = basket[1].levels[level]
    for name in ("mean", "sd", *QUANTILES):
        np.testing.assert_allclose([rows[key][name] for key in keys], means[name], rtol=1e-4)
    below = means.cdf(3.0)
    np.testing.assert_allclose([rows[key]["p_below_target"] for key in keys], below, atol=1e-4)
    numbers = statistics("basket")
    for key, row in rows.items():
        inside = np.array([store[:place] == key for store in stores()])
        n = numbers["n"][inside]
        assert (row["n"], row["n_events"]) == (n.sum(), n.sum())
        assert row["raw"] == pytest.approx(
            np.average(numbers["mean"][inside], weights=n), rel=1e-12
        )
        assert 0 < row["weight"] < 1
        assert row["pool"] == (" / ".join(key[:-1]) or "all")
        assert all(row[name] is None for name in (*LEVELS[place:], "raw_sd", "sd_plug_in"))


def test_a_group_is_shrunk_to_its_parent(folder: Path) -> None:
    chains = rows_by(folder, "posteriors", "basket", "chain_id", level="chain_id")
    regions = rows_by(folder, "posteriors", "basket", "chain_id", "region", level="region")
    for (chain, _), row in regions.items():
        assert row["prior_mean"] == pytest.approx(chains[chain,]["mean"], rel=1e-9)
    (root,) = {row["prior_mean"] for row in chains.values()}
    assert min(row["mean"] for row in chains.values()) < root < chains["tiny",]["mean"]


def test_counts_have_the_priors_of_their_chains(folder: Path) -> None:
    """Of effective sizes: those divided by the overdispersion of the platform."""
    rows = rows_by(folder, "hyperparameters", "conversion", "chain_id", "parameter")
    own = {"alpha", "beta", "mean", "concentration"}
    of_law = {"tau_chain_id", "tau_chain_id_spread", "correlation_chain_id"}
    assert rows.keys() == {(chain, name) for chain in CHAINS for name in own} | {
        (None, name) for name in own | of_law
    }
    units = rows_by(folder, "posteriors", "conversion", *LEVELS, level="store_id")
    for (chain, _, _), row in units.items():
        assert row["pool"] == chain
        alpha, beta = (rows[chain, name]["value"] for name in ("alpha", "beta"))
        assert row["prior_mean"] == pytest.approx(alpha / (alpha + beta), rel=0.15)
    chains = rows_by(folder, "posteriors", "conversion", "chain_id", level="chain_id")
    (fit,) = rows_by(folder, "fits", "conversion", "pool").values()
    divisor = max(1.0, fit["overdispersion"])
    for (chain,), row in chains.items():
        sizes = [unit["n"] for key, unit in units.items() if key[0] == chain]
        assert row["n"] == sum(sizes)
        assert row["n_effective"] == pytest.approx(sum(sizes) / divisor, rel=1e-9)
        assert row["sd"] > 0
        assert 0 < row["weight"] < 1


def test_a_metric_without_nesting_has_one_prior(folder: Path) -> None:
    rows = rows_by(folder, "posteriors", "flat", *LEVELS)
    assert sorted(rows) == stores(), "no rows of groups"
    assert {(row["pool"], row["level"]) for row in rows.values()} == {("all", "store_id")}
    fit = hbpipe.fit("normal", statistics("flat"))
    p = hbpipe.posterior(fit, statistics("flat"))
    np.testing.assert_allclose([rows[key]["mean"] for key in stores()], p["mean"], rtol=1e-8)


def test_units_of_nested_groups_are_not_checked_and_it_is_said(folder: Path) -> None:
    rows = rows_by(folder, "diagnostics", "basket", "pool", "check")
    for check in ("pit", "prior_shape", "calibration", "outliers", "next_day", "size_dependence"):
        assert rows[None, check]["status"] == "not_applicable"
        assert "groups" in rows[None, check]["message"]
    assert rows_by(folder, "diagnostics", "flat", "pool", "check")["all", "outliers"]["n_groups"]


def test_new_stores_of_known_and_of_new_groups(folder: Path, basket: tuple[Any, Any]) -> None:
    rows = rows_by(folder, "new_stores", "basket", "level", "chain_id", "region")
    regions = {key[:2] for key in stores()}
    assert rows.keys() == {
        ("chain_id", None, None),
        *(("region", chain, None) for chain in CHAINS),
        *(("store_id", *key) for key in regions),
    }
    labels = {"chain_id": ["new", "bell", "bell"], "region": ["north", "new", "north"]}
    nothing = {"n": np.zeros(3, int), "mean": np.zeros(3), "m2": np.zeros(3)}
    p = hbpipe.posterior(basket[0], nothing, nesting=labels, quantiles=(0.05, 0.5, 0.95))
    keys = [("chain_id", None, None), ("region", "bell", None), ("store_id", "bell", "north")]
    for name in ("mean", "sd", *QUANTILES):
        np.testing.assert_allclose([rows[key][name] for key in keys], p[name], rtol=1e-4)
    assert rows[keys[0]]["sd"] > rows[keys[1]]["sd"] > rows[keys[2]]["sd"]
    counts = rows_by(folder, "new_stores", "conversion", "level", "chain_id", "region")
    assert counts.keys() == {("chain_id", None, None)} | {("store_id", c, None) for c in CHAINS}


def test_a_small_chain_borrows_from_the_platform(folder: Path, tmp_path: Path) -> None:
    """Against a prior of its own, estimated from its eight stores alone."""
    shutil.copytree(folder / "events", tmp_path / "events")
    alone = {"pool_by": ["chain_id"], "nest_by": [], "uncertainty": "auto"}
    night(nested_settings(tmp_path, metrics={"basket": BASKET}, inference=alone))
    by_itself = rows_by(tmp_path, "new_stores", "basket", "chain_id")["tiny",]
    nested = rows_by(folder, "new_stores", "basket", "level", "chain_id", "region")
    new, platform = nested["region", "tiny", None], nested["chain_id", None, None]
    assert abs(new["mean"] - platform["mean"]) < abs(by_itself["mean"] - platform["mean"])
    width = {
        name: row["q0.95"] - row["q0.05"] for name, row in {"in": new, "by": by_itself}.items()
    }
    assert width["in"] < width["by"]
    units = rows_by(folder, "posteriors", "basket", *LEVELS, chain_id="tiny", level="store_id")
    lonely = rows_by(tmp_path, "posteriors", "basket", *LEVELS, chain_id="tiny")
    assert len(units) == 8
    assert np.mean([row["sd"] for row in units.values()]) < np.mean(
        [row["sd"] for row in lonely.values()]
    )


def test_verify_counts_units_and_not_groups(folder: Path) -> None:
    settings = nested_settings(folder)
    assert [one for one in verify(settings, lake_of(settings), full=True) if not one.fine] == []


def test_the_report_lists_pools_and_units(folder: Path) -> None:
    report = night(nested_settings(folder))
    assert [(pool["metric"], pool["pool"]) for pool in report.pools] == [
        (metric, "all") for metric in METRICS
    ]
    assert report.pools[0]["mu"] == pytest.approx(3.1, abs=0.3)
    assert all(row["store_id"] is not None for row in report.most_shrunk)


def test_threads_give_the_same_bits(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "events", tmp_path / "events")
    cluster = {"kind": "local", "workers": 2, "processes": False}
    settings = nested_settings(tmp_path, cluster=cluster)
    night(settings)
    for name in ("hyperparameters", "fits", "posteriors", "new_stores"):
        assert rows_of(read(lake_of(settings), name)) == rows_of(
            read(Lake(str(folder / "lake")), name)
        ), name


def test_a_chain_of_one_night_comes_and_goes(tmp_path: Path) -> None:
    """It has rows while its day is in the window; of the night after it drift can be told."""
    deliver(tmp_path, 4)
    inference = INFERENCE | {"window": "2d", "nest_by": ["chain_id"], "uncertainty": "plug_in"}
    settings = nested_settings(tmp_path, metrics={"basket": BASKET}, inference=inference)
    for last, seen in ((1, True), (2, True), (3, False)):
        night(settings, as_of=day(last))
        rows = rows_by(tmp_path, "posteriors", "basket", "chain_id", level="chain_id")
        assert (("once",) in rows) is seen
        (fit,) = rows_by(tmp_path, "fits", "basket", "pool").values()
        assert (fit["drift"] is None) is (last == 1)
