"""Revenue per visit from odd Parquet files to a release, against its parts and the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import hbpipe
from hbpipe.data.lake import Lake
from hbpipe.report.store_story import store_text
from hbpipe.run.releases import current_release, read
from hbpipe.run.store_story import explain_store
from hbpipe.run.verification.verify import verify
from tests.nights import day, lake_of, night, settings_for, visits, write

QUANTILES = (0.05, 0.5, 0.95)
HURDLE: dict[str, Any] = {"family": "hurdle_lognormal", "value": "amount", "trials": "rows"}
METRICS: dict[str, Any] = {
    "revenue": {**HURDLE, "target": 5.0},
    "known": {**HURDLE, "fixed": {"sigma": 0.4, "tau": 0.2}},
    "bought": {
        "family": "beta_binomial",
        "successes": {"where": [["amount", ">", 0]]},
        "trials": "rows",
        "where": [["odd", "==", False]],
    },
    "paid": {
        "family": "normal",
        "value": "amount",
        "transform": "log",
        "where": [["amount", ">", 0]],
    },
}
OPTIONS: dict[str, Any] = {
    "metrics": METRICS,
    "inference": {"uncertainty": "integrated", "quantiles": QUANTILES},
    "audits": {"max_rejected_share": 0.2},
}


def tills(number: int) -> list[dict[str, Any]]:
    """Visits of one day; of those without a purchase the amount is null, or 0, or a refund."""
    rows = visits(number, rows=150, stores=9)
    rng = np.random.default_rng([5, number])
    for row in rows:
        if not row["converted"]:
            row["amount"] = None if rng.random() < 0.7 else 0.0
        row["odd"] = False
    rows[5] |= {"amount": -3.0, "odd": True}
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("revenue")
    for number in range(3):
        write(folder / "events" / f"{day(number)}.parquet", tills(number), row_group_size=60)
    night(settings_for(folder, **OPTIONS))
    return folder


def table_of(folder: Path, name: str, metric: str) -> pa.Table:
    table = read(Lake(str(folder / "lake")), name)
    return table.filter(pc.equal(table["metric"], metric))


def statistics_of(chain: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """What the stores of a chain have shown, from the rows themselves."""
    rows = [row for number in range(3) for row in tills(number)]
    kept = [row for row in rows if row["chain_id"] == chain and not row["odd"]]
    stores = sorted({row["store_id"] for row in kept})
    amounts = [
        np.log([r["amount"] for r in kept if r["store_id"] == store and (r["amount"] or 0) > 0])
        for store in stores
    ]
    trials = [sum(row["store_id"] == store for row in kept) for store in stores]
    return stores, {
        "successes": np.array([len(x) for x in amounts]),
        "trials": np.array(trials),
        "mean": np.array([x.mean() if len(x) else 0.0 for x in amounts]),
        "m2": np.array([np.sum((x - x.mean()) ** 2) if len(x) else 0.0 for x in amounts]),
    }


@pytest.mark.parametrize("chain", ["near", "far"])
def test_posteriors_are_those_of_the_library(folder: Path, chain: str) -> None:
    stores, statistics = statistics_of(chain)
    rows = table_of(folder, "posteriors", "revenue").to_pylist()
    found = {row["store_id"]: row for row in rows if row["chain_id"] == chain}
    assert sorted(found) == stores
    fit = hbpipe.fit("hurdle_lognormal", statistics)
    expected = hbpipe.posterior(fit, statistics, uncertainty="integrated", quantiles=QUANTILES)
    below = expected.cdf(5.0)
    for j, store in enumerate(stores):
        row = found[store]
        assert row["n"] == statistics["trials"][j]
        for name in ("q0.05", "q0.5", "q0.95", "sd_plug_in", "weight", "complete_pooling"):
            assert row[name] == pytest.approx(expected[name][j], rel=1e-5), (store, name)
        assert row["raw"] == pytest.approx(expected["no_pooling"][j], rel=1e-9)
        assert row["p_below_target"] == pytest.approx(below[j], abs=1e-6)
        # With sigma and tau estimated no store has a mean, and none is published.
        assert row["mean"] is row["sd"] is row["prior_mean"] is row["predictive_mean"] is None
        assert 0.0 < row["expected_percentile"] < 1.0
        assert 0.0 < row["false_sign_rate"] <= 0.5
    fits = table_of(folder, "fits", "revenue").to_pylist()
    [pool] = [row for row in fits if row["pool"] == chain]
    assert pool["log_marginal_likelihood"] == pytest.approx(fit.log_marginal_likelihood)
    assert pool["status"] == fit.status


def test_where_sigma_and_tau_are_known_there_are_means(folder: Path) -> None:
    for row in table_of(folder, "posteriors", "known").to_pylist():
        assert row["q0.05"] < row["mean"] < row["q0.95"]
        assert row["sd"] > 0
        assert row["prior_mean"] > 0
    for row in table_of(folder, "new_stores", "known").to_pylist():
        assert row["mean"] > row["q0.5"]
    for row in table_of(folder, "new_stores", "revenue").to_pylist():
        assert row["mean"] is row["sd"] is None
        assert row["q0.05"] < row["q0.5"] < row["q0.95"]


def test_it_is_what_its_parts_are_by_themselves(folder: Path) -> None:
    own, bought, paid = (
        {
            (row["pool"], row["parameter"]): row["value"]
            for row in table_of(folder, "hyperparameters", metric).to_pylist()
        }
        for metric in ("revenue", "bought", "paid")
    )
    assert own.keys() == bought.keys() | paid.keys()
    for key, value in (bought | paid).items():
        assert own[key] == pytest.approx(value, rel=1e-4, abs=1e-4), key


def test_a_store_is_explained_without_a_mean(folder: Path) -> None:
    lake = lake_of(settings_for(folder, **OPTIONS))
    release = current_release(lake, "prod")
    assert release is not None
    [story] = explain_store(lake, release, None, ["chain_id", "store_id"], "s1")
    text = store_text(story)
    assert "in the median" in text
    assert "The mean does not exist." in text
    assert "It has no posterior" not in text


def test_the_lake_is_verified_against_the_raw_files(folder: Path) -> None:
    settings = settings_for(folder, **OPTIONS)
    findings = verify(settings, lake_of(settings), full=True)
    assert [one for one in findings if not one.fine] == []


def test_a_second_night_compares_nothing_where_there_is_no_mean(folder: Path) -> None:
    write(folder / "events" / f"{day(3)}.parquet", tills(3))
    night(settings_for(folder, **OPTIONS))
    rows = table_of(folder, "posteriors", "revenue").to_pylist()
    assert all(row["change"] is row["change_sd"] is None for row in rows)
    known = table_of(folder, "posteriors", "known").to_pylist()
    assert any(row["change"] for row in known)
