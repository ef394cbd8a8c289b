"""Nested levels of rates and of estimates in two countries, one of which sells nothing.

The oracle aggregates the events with numpy and fits with ``hbpipe.fit(..., nesting=...)``.
"""

from __future__ import annotations

import shutil
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import hbpipe
from hbpipe.data.lake import Lake
from hbpipe.errors import GateError
from hbpipe.model.integration import drawing
from hbpipe.model.numerics import chains
from hbpipe.report.night import NightReport
from hbpipe.run.releases import read, releases
from hbpipe.run.verification.verify import verify
from tests.e2e.test_nested import QUANTILES, rows_by
from tests.nights import day, lake_of, night, rows_of, settings_for, write

EFFECT = {"family": "normal_known_variance", "estimate": "effect", "variance": "v"}
METRICS: dict[str, Any] = {
    "orders": {
        "family": "gamma_poisson",
        "count": "sold",
        "exposure": "hours",
        "nest": ["chain_id"],
        "target": 0.5,
    },
    "effect": EFFECT,
    "held": EFFECT | {"fixed": {"tau_chain_id": 0.5}, "nest": ["chain_id"]},
}
LEVELS = ["country", "chain_id", "region", "store_id"]
INFERENCE = {"pool_by": ["country"], "nest_by": ["chain_id", "region"], "uncertainty": "auto"}
#: Chains of each country; the second sells nothing.
COUNTRIES = {"busy": 4, "mute": 2}
OF_LAW = ("tau_chain_id", "tau_chain_id_spread", "correlation_chain_id")
#: What tells of the release before, which only one of two lakes has.
SINCE = {"drift", "change", "change_sd"}
Row = dict[str, Any]


def visits(number: int) -> list[Row]:
    """Three visits a day of six stores in each chain, in two regions."""
    rows = []
    for country, count in COUNTRIES.items():
        for chain in range(count):
            for store in range(6):
                key = [len(country), chain, store]
                fixed, rng = np.random.default_rng(key), np.random.default_rng([*key, number])
                rate = fixed.gamma(4.0, 0.05 * (1 + chain)) * (country == "busy")
                truth = 0.6 * chain + 0.4 * (store % 2) + 0.3 * fixed.normal()
                for k in range(3):
                    hours, v = float(rng.integers(1, 9)), float(rng.uniform(0.5, 1.5))
                    moment = datetime.combine(day(number), datetime.min.time())
                    rows.append(
                        {
                            "event_id": f"{number}/{country}/{chain}/{store}/{k}",
                            "ts": moment + timedelta(hours=k),
                            "country": country,
                            "chain_id": f"c{chain}",
                            "region": ("south", "north")[store % 2],
                            "store_id": f"{country}-{chain}-{store}",
                            "sold": int(rng.poisson(rate * hours)),
                            "hours": hours,
                            "effect": truth + float(rng.normal(0.0, np.sqrt(v))),
                            "v": v,
                        }
                    )
    return rows


def settings_of(folder: Path, **sections: Any) -> Any:
    options = {"metrics": METRICS, "events": {"levels": LEVELS}, "inference": INFERENCE} | sections
    return settings_for(folder, **options)


def deliver(folder: Path) -> None:
    for number in range(2):
        write(folder / "events" / f"{day(number)}.parquet", visits(number))


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NightReport]:
    """Two nights; the second has both days, and tells the drift from the estimates of the first."""
    folder = tmp_path_factory.mktemp("nested")
    deliver(folder)
    night(settings_of(folder, inference=INFERENCE | {"uncertainty": "plug_in"}), as_of=day(0))
    return folder, night(settings_of(folder), as_of=day(1))


def stores(country: str) -> list[tuple[str, ...]]:
    keys = {tuple(str(row[name]) for name in LEVELS) for row in visits(0)}
    return sorted(key for key in keys if key[0] == country)


def sums(country: str, column: str) -> NDArray[np.float64]:
    """Add up a column of both days, store by store."""
    rows = visits(0) + visits(1)
    return np.array(
        [sum(row[column] for row in rows if row["store_id"] == key[-1]) for key in stores(country)]
    )


def statistics(family: str, country: str) -> dict[str, NDArray[Any]]:
    if family == "gamma_poisson":
        return {"count": sums(country, "sold"), "exposure": sums(country, "hours")}
    found = []
    for key in stores(country):
        mine = [row for row in visits(0) + visits(1) if row["store_id"] == key[-1]]
        effect, v = (np.array([row[name] for row in mine]) for name in ("effect", "v"))
        precision = np.sum(1 / v)
        found.append((np.sum(effect / v) / precision, 1 / precision))
    estimate, variance = np.array(found).T
    return {"estimate": estimate, "variance": variance}


@cache
def of_library(metric: str, country: str) -> tuple[Any, Any]:
    """Fit and posterior of a country by the library."""
    raw, levels = METRICS[metric], METRICS[metric].get("nest", ["chain_id", "region"])
    labels = {name: [key[LEVELS.index(name)] for key in stores(country)] for name in levels}
    data = statistics(raw["family"], country)
    fit = hbpipe.fit(raw["family"], data, nesting=labels, fixed=raw.get("fixed"))
    return fit, hbpipe.posterior(fit, data, nesting=labels, quantiles=(0.05, 0.5, 0.95))


@pytest.mark.parametrize(
    ("metric", "country"), [("orders", "busy"), ("effect", "busy"), ("held", "mute")]
)
def test_a_night_has_the_numbers_of_the_library(
    nights: tuple[Path, NightReport], metric: str, country: str
) -> None:
    folder, _ = nights
    fit, posterior = of_library(metric, country)
    found = rows_by(folder, "hyperparameters", metric, "parameter", pool=country)
    assert found.keys() == {(name,) for name in fit.hyperparameters}
    for name, value in fit.hyperparameters.items():
        assert found[name,]["value"] == pytest.approx(value, rel=1e-4, abs=1e-9)
    (row,) = rows_by(folder, "fits", metric, "pool", country=country).values()
    assert row["log_marginal_likelihood"] == pytest.approx(fit.log_marginal_likelihood, rel=1e-7)
    assert (row["status"], row["converged"]) == (fit.status, True)
    units = rows_by(folder, "posteriors", metric, *LEVELS, level="store_id", country=country)
    assert sorted(units) == stores(country)
    for name in ("mean", "sd", *QUANTILES, "weight", "prior_mean"):
        column = [units[key][name] for key in stores(country)]
        np.testing.assert_allclose(column, posterior[name], rtol=1e-3, atol=1e-4)
    of_chains = rows_by(folder, "posteriors", metric, "chain_id", level="chain_id", country=country)
    assert len(of_chains) == COUNTRIES[country]
    for name in ("mean", "sd", *QUANTILES):
        column = [row[name] for _, row in sorted(of_chains.items())]
        np.testing.assert_allclose(column, posterior.levels["chain_id"][name], rtol=1e-3, atol=1e-4)


def test_what_is_held_of_a_level_is_published_as_it_is(nights: tuple[Path, NightReport]) -> None:
    rows = rows_by(nights[0], "hyperparameters", "held", "country", "parameter")
    for country in COUNTRIES:
        row = rows[country, "tau_chain_id"]
        assert row["value"] == pytest.approx(0.5, rel=1e-12)
        assert row["sd"] is None


def test_a_root_without_counts_has_nulls_and_a_word(nights: tuple[Path, NightReport]) -> None:
    """The other root is released all the same."""
    folder, report = nights
    fits = rows_by(folder, "fits", "orders", "pool")
    assert fits["busy",]["status"] == "ok"
    assert fits["mute",]["status"] == "no_counts"
    assert (fits["mute",]["method"], fits["mute",]["converged"]) == ("unidentified", False)
    assert fits["mute",]["drift"] is None
    hyper = rows_by(folder, "hyperparameters", "orders", "country", "chain_id", "parameter")
    own = ("shape", "rate", "mean")
    assert {key[1:] for key in hyper if key[0] == "mute"} == {
        *((chain, name) for chain in (None, "c0", "c1") for name in own),
        *((None, name) for name in OF_LAW),
    }
    for key, row in hyper.items():
        assert (row["value"] is None) is (key[0] == "mute"), key
    for table in ("posteriors", "new_stores"):
        rows = read(Lake(str(folder / "lake")), table).to_pylist()
        mine = [row for row in rows if row["metric"] == "orders"]
        assert {(row["country"], row["method"] == "unidentified") for row in mine} == {
            ("busy", False),
            ("mute", True),
        }
        for row in mine:
            for name in ("mean", "sd", *QUANTILES):
                assert (row[name] is None) is (row["country"] == "mute"), (table, row)
    (note,) = [text for text in report.notes if text.startswith("pools_identified of orders")]
    assert "12 of 36 units are in pools whose data determine no prior" in note


def test_the_drift_of_counts_is_told_from_the_night_before(
    nights: tuple[Path, NightReport],
) -> None:
    """Against both likelihoods by the library, on grids placed for each law."""
    folder, _ = nights
    fit, _ = of_library("orders", "busy")
    (row,) = rows_by(folder, "fits", "orders", "pool", country="busy").values()
    first = min(releases(Lake(str(folder / "lake")), "prod"), key=lambda one: one["as_of"])
    table = read(
        Lake(str(folder / "lake")), "hyperparameters", environment="prod", release=first["release"]
    )
    before = {
        one["parameter"]: one["value"]
        for one in table.to_pylist()
        if (one["metric"], one["pool"]) == ("orders", "busy")
    }
    old = fit.pools.model.to_coordinates({n: np.array([v]) for n, v in before.items()})
    lost = fit.pools.log_likelihood(fit.pools.coordinates) - fit.pools.log_likelihood(old)
    assert row["drift"] == pytest.approx(2 * float(lost[0]), abs=1e-3)
    assert abs(row["drift"]) > 0.01


def test_verify_finds_nothing(nights: tuple[Path, NightReport]) -> None:
    settings = settings_of(nights[0])
    assert [one for one in verify(settings, lake_of(settings), full=True) if not one.fine] == []


def test_any_engine_gives_the_same_bits(nights: tuple[Path, NightReport], tmp_path: Path) -> None:
    """Roots are fitted as tasks: in a thread each, or one after the other."""
    shutil.copytree(nights[0] / "events", tmp_path / "events")
    metrics = {name: METRICS[name] for name in ("effect", "held")}
    cluster = {"kind": "local", "workers": 3, "processes": False}
    settings = settings_of(tmp_path, metrics=metrics, cluster=cluster)
    night(settings)
    for name in ("hyperparameters", "fits", "posteriors", "new_stores"):
        lakes = lake_of(settings), Lake(str(nights[0] / "lake"))
        mine, other = (rows_of(read(lake, name), without=SINCE) for lake in lakes)
        assert mine == [row for row in other if "'metric': 'orders'" not in row], name


def test_chains_that_disagree_stop_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(tmp_path)
    metrics = {"held": METRICS["held"] | {"fixed": {"tau": 0.3}}}
    settings = settings_of(tmp_path, metrics=metrics)
    night(settings, as_of=day(0))
    monkeypatch.setattr(drawing, "LIMIT", -10.0)
    for name, value in (("_FIRST", 20), ("_WINDOWS", (20,)), ("_LENGTH", 40), ("_TIMES", 1)):
        monkeypatch.setattr(chains, name, value)
    for module in (chains, drawing):
        monkeypatch.setattr(module, "R_HAT_LIMIT", 0.5)
    with pytest.raises(GateError, match="integration_converged of held: 2 of 2 pools") as stopped:
        night(settings, as_of=day(1))
    assert stopped.value.exit_code == 3
    assert [row["as_of"] for row in releases(lake_of(settings), "prod")] == [day(0)]
    night(settings_of(tmp_path, metrics=metrics, audits={"max_unconverged_share": 1.0}))
    for row in rows_by(tmp_path, "fits", "held", "pool", as_of=day(1)).values():
        assert (row["status"], row["converged"]) == ("chains_disagree", False)
        assert row["sampler"] == "nuts"
        assert row["r_hat"] > 0.5
