"""From Parquet events to the columns on which somebody decides, and back by other ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hbpipe.run.releases import read
from tests.nights import BASKET, CONVERSION, day, lake_of, night, settings_for, visits, write

METRICS = {
    **CONVERSION,
    "basket": BASKET,
    "orders": {"family": "gamma_poisson", "count": "converted", "exposure": "days", "per": "7d"},
}
DAYS = 10
Rows = dict[tuple[str, str], dict[str, Any]]


def posteriors(settings: Any) -> Rows:
    rows = read(lake_of(settings), "posteriors").to_pylist()
    return {(row["metric"], row["store_id"]): row for row in rows}


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Rows, Rows, list[dict[str, Any]]]:
    """Two nights that end with days 8 and 9, and all visits; s9 opens on day 5."""
    folder = tmp_path_factory.mktemp("decisions")
    settings = settings_for(folder, metrics=METRICS, inference={"window": "30d"})
    every, found = [], []
    for k in range(DAYS):
        rows = visits(k, rows=90)
        if k >= 5:
            rows += [
                {**row, "store_id": "s9", "event_id": f"new/{k}/{n}"}
                for n, row in enumerate(visits(k, rows=12, seed=3))
            ]
        for row in rows:
            row["chain_id"] = "near"
            row["amount"] *= 1.0 + 0.2 * int(row["store_id"][1:])  # so that stores differ
        every += [{**row, "day": k} for row in rows]
        write(folder / "events" / f"{day(k)}.parquet", rows)
        if k >= DAYS - 2:
            night(settings)
            found.append(posteriors(settings))
    return found[0], found[1], every


def of_store(every: list[dict[str, Any]], store: str, days: range) -> list[dict[str, Any]]:
    return [row for row in every if row["store_id"] == store and row["day"] in days]


STORES = ("s0", "s1", "s2", "s3", "s4", "s5", "s9")


@pytest.mark.parametrize("store", STORES)
def test_successes(store: str, nights: Any) -> None:
    """``plug_in``: posteriors are Beta laws around what the fit says."""
    _, now, every = nights
    row, mine = now["conversion", store], of_store(every, store, range(DAYS))
    days = 5 if store == "s9" else DAYS
    n, y = len(mine), sum(one["converted"] for one in mine)
    assert row["next_exposure"] == max(1, round(n / days))
    size = n / row["weight"] - n
    a, b = row["prior_mean"] * size, (1 - row["prior_mean"]) * size
    ahead = stats.betabinom(int(row["next_exposure"]), a + y, b + n - y)
    assert row["predictive_mean"] == pytest.approx(ahead.mean(), rel=1e-9)
    assert row["predictive_sd"] == pytest.approx(ahead.std(), rel=1e-9)
    assert (row["predictive_low"], row["predictive_high"]) == (ahead.ppf(0.05), ahead.ppf(0.95))
    below = stats.beta(a + y, b + n - y).cdf(row["prior_mean"])
    # From a normal score: 4e-5 in the middle, 3 % of a small rate.
    expected = pytest.approx(min(below, 1 - below), rel=0.03, abs=1e-6)
    assert row["false_sign_rate"] == expected
    assert row["false_sign_rate"] == pytest.approx(min(below, 1 - below), abs=4e-5)
    last = of_store(every, store, range(DAYS - 1, DAYS))
    n1, y1 = len(last), sum(one["converted"] for one in last)
    assert (row["last_day_n"], row["last_day_raw"]) == (n1, pytest.approx(y1 / n1))
    before = stats.betabinom(n1, a + y - y1, b + n - n1 - y + y1)
    half = before.cdf(y1) - 0.5 * before.pmf(y1)
    assert row["last_day_p"] == pytest.approx(2 * min(half, 1 - half), rel=1e-6)
    assert row["is_new"] is (store == "s9")
    assert row["silent"] is row["at_boundary"] is False


@pytest.mark.parametrize("store", STORES)
def test_values(store: str, nights: Any) -> None:
    _, now, every = nights
    row, mine = now["basket", store], of_store(every, store, range(DAYS))
    last = np.log([one["amount"] for one in of_store(every, store, range(DAYS - 1, DAYS))])
    n = len(mine)
    # The noise from the sd, (1 − B) σ²/n; the prior size from the weight.
    sigma2 = row["sd"] ** 2 * n / row["weight"]
    ahead = row["sd"] ** 2 + sigma2 / row["next_exposure"]
    assert row["predictive_sd"] == pytest.approx(np.sqrt(ahead), rel=1e-9)
    assert row["predictive_high"] == pytest.approx(
        row["mean"] + np.sqrt(ahead) * stats.norm.ppf(0.95), rel=1e-9
    )
    assert (row["last_day_n"], row["last_day_raw"]) == (len(last), pytest.approx(last.mean()))
    earlier = np.log([one["amount"] for one in of_store(every, store, range(DAYS - 1))])
    size = n / row["weight"] - n
    centre = (size * row["prior_mean"] + earlier.sum()) / (size + len(earlier))
    sd = np.sqrt(sigma2 / (size + len(earlier)) + sigma2 / len(last))
    p = 2 * stats.norm.sf(abs(last.mean() - centre) / sd)
    assert row["last_day_p"] == pytest.approx(p, rel=1e-6)


@pytest.mark.parametrize("store", STORES)
def test_counts_a_day(store: str, nights: Any) -> None:
    _, now, every = nights
    row, mine = now["orders", store], of_store(every, store, range(DAYS))
    days = 5 if store == "s9" else DAYS
    y = sum(one["converted"] for one in mine)
    weeks = days / 7
    size = weeks / row["weight"] - weeks
    shape, rate = row["prior_mean"] * size + y, size + weeks
    ahead = stats.nbinom(shape, rate / (rate + 1 / 7))
    assert row["next_exposure"] == row["last_day_n"] == 1
    assert row["predictive_mean"] == pytest.approx(ahead.mean(), rel=1e-6)
    assert (row["predictive_low"], row["predictive_high"]) == (ahead.ppf(0.05), ahead.ppf(0.95))
    y1 = sum(one["converted"] for one in of_store(every, store, range(DAYS - 1, DAYS)))
    before = stats.nbinom(shape - y1, (rate - 1 / 7) / rate)
    half = before.cdf(y1) - 0.5 * before.pmf(y1)
    assert row["last_day_p"] == pytest.approx(2 * min(half, 1 - half), rel=1e-5)
    assert row["last_day_raw"] == pytest.approx(7 * y1)


def test_columns_that_compare_stores(nights: Any) -> None:
    _, now, _ = nights
    for metric in METRICS:
        rows = [now[metric, store] for store in STORES]
        rates, p = (
            np.array([row[name] for row in rows]) for name in ("false_sign_rate", "last_day_p")
        )
        np.testing.assert_allclose(
            [row["last_day_q"] for row in rows], stats.false_discovery_control(p), rtol=1e-12
        )
        expected = [rates[rates <= rate].mean() for rate in rates]
        np.testing.assert_allclose([row["s_value"] for row in rows], expected, rtol=1e-12)


def test_change_since_the_night_before(nights: Any) -> None:
    before, now, _ = nights
    for key, row in now.items():
        assert before[key]["change"] is None, "there was no release before"
        assert row["change"] == row["mean"] - before[key]["mean"]
        assert row["change_sd"] == pytest.approx(row["change"] / row["sd"], rel=1e-15)


def test_a_store_unlike_its_pool_is_an_outlier(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = []
    for store in range(40):
        rate = 0.9 if store == 7 else rng.beta(40, 360)
        base = visits(0, rows=200)
        for n, row in enumerate(base):
            row |= {"store_id": f"t{store}", "chain_id": "near", "event_id": f"{store}/{n}"}
            row["converted"] = bool(rng.random() < rate)
        rows += base
    write(tmp_path / "events" / "all.parquet", rows)
    settings = settings_for(tmp_path)
    night(settings)
    found = {store: row["outlier"] for (_, store), row in posteriors(settings).items()}
    assert [store for store, flag in found.items() if flag] == ["t7"]
    checks = read(lake_of(settings), "diagnostics").to_pylist()
    shares = {row["pool"]: row["value"] for row in checks if row["check"] == "outliers"}
    assert shares == {"near": 1 / 40, None: 1 / 40}, "the check counts the flags"


def test_another_definition_is_not_compared(tmp_path: Path) -> None:
    for k in range(2):
        write(tmp_path / "events" / f"{day(k)}.parquet", visits(k))
        per = "7d" if k else "1d"
        orders = {**METRICS["orders"], "per": per}
        settings = settings_for(tmp_path, metrics={**CONVERSION, "orders": orders})
        night(settings)
    rows = posteriors(settings)
    assert {row["change"] is None for (metric, _), row in rows.items() if metric == "orders"} == {
        True
    }
    assert {row["change"] is None for (m, _), row in rows.items() if m == "conversion"} == {False}
