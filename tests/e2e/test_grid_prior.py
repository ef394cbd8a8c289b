"""Nonparametric priors from Parquet to two releases: what is published, against the library."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy import special

import hbpipe
from hbpipe.data.lake import Lake
from hbpipe.model.families import get_family
from hbpipe.model.mixtures.evidence import log_evidence
from hbpipe.run.releases import read
from hbpipe.run.verification.verify import verify
from tests.nights import day, lake_of, night, settings_for, write

QUANTILES = (0.05, 0.5, 0.95)
OPTIONS: dict[str, Any] = {
    "metrics": {
        "conversion": {
            "family": "beta_binomial",
            "prior": "grid",
            "successes": "converted",
            "trials": "visits",
            "target": 0.2,
        },
    },
    "inference": {"uncertainty": "auto", "quantiles": QUANTILES},
}


def visits(number: int) -> list[dict[str, Any]]:
    """Visits of one day: kiosks and flagships in the west, stores of one kind in the east."""
    rng, rows = np.random.default_rng([8, number]), []
    for chain in ("east", "west"):
        for store in range(40):
            theta = 0.1 + 0.02 * np.sin(store)
            if chain == "west" and store % 4 == 0:
                theta = 0.6
            trials = int(rng.integers(4, 30))
            rows.append(
                {
                    "event_id": f"{chain}/{number}/{store}",
                    "ts": datetime.combine(day(number), datetime.min.time())
                    + timedelta(hours=9, minutes=store),
                    "chain_id": chain,
                    "store_id": f"{chain[0]}{store:02}",
                    "converted": int(rng.binomial(trials, theta)),
                    "visits": trials,
                }
            )
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    for number in range(3):
        write(folder / "events" / f"{day(number)}.parquet", visits(number), row_group_size=37)
        if number:
            night(settings_for(folder, **OPTIONS))
    return folder


def rows_of(folder: Path, name: str, pool: str | None = None) -> list[dict[str, Any]]:
    table: pa.Table = read(Lake(str(folder / "lake")), name)
    if pool is not None:
        column = "pool" if "pool" in table.column_names else "chain_id"
        table = table.filter(pc.equal(table[column], pool))
    return table.to_pylist()


def statistics_of(chain: str) -> tuple[list[str], dict[str, np.ndarray]]:
    every = [row for number in range(3) for row in visits(number) if row["chain_id"] == chain]
    stores = sorted({row["store_id"] for row in every})
    place = {store: j for j, store in enumerate(stores)}
    found = {name: np.zeros(len(stores), np.int64) for name in ("successes", "trials")}
    for row in every:
        found["successes"][place[row["store_id"]]] += row["converted"]
        found["trials"][place[row["store_id"]]] += row["visits"]
    return stores, found


@pytest.mark.parametrize("chain", ["east", "west"])
def test_posteriors_are_those_of_the_library(folder: Path, chain: str) -> None:
    stores, statistics = statistics_of(chain)
    fit = hbpipe.fit("beta_binomial", statistics, prior="grid")
    expected = hbpipe.posterior(fit, statistics, quantiles=QUANTILES)
    found = {row["store_id"]: row for row in rows_of(folder, "posteriors", chain)}
    assert sorted(found) == stores
    for j, store in enumerate(stores):
        for name in ("mean", "sd", "sd_plug_in", "q0.05", "q0.5", "q0.95", "weight", "prior_mean"):
            value = expected[name][j]
            assert found[store][name] == pytest.approx(value, rel=1e-7), (store, name)
        assert found[store]["method"] == expected.method
        assert 0 <= found[store]["p_below_target"] <= 1
        assert 0 <= found[store]["false_sign_rate"] <= 0.5
        assert found[store]["q0.05"] < found[store]["q0.95"]


def test_fits_tell_which_prior_was_chosen_and_why(folder: Path) -> None:
    by_pool = {row["pool"]: row for row in rows_of(folder, "fits")}
    west, east = by_pool["west"], by_pool["east"]
    assert west["prior"] == "grid"
    assert west["method"] == west["sampler"] == "bootstrap"
    assert west["score_grid"] > west["score_single"]
    assert 0 <= west["duality_gap"] <= 1e-6
    assert (west["status"], west["converged"]) == ("ok", True)
    assert east["prior"] == "single"
    assert east["duality_gap"] is None
    for row in by_pool.values():
        assert row["drift"] is not None
        assert row["drift"] < 40.0


def test_a_reader_rebuilds_the_prior(folder: Path) -> None:
    found = {row["parameter"]: row["value"] for row in rows_of(folder, "hyperparameters", "west")}
    count = sum(name.startswith("proportion[") for name in found)
    law = {
        name: np.array([found[f"{name}[{k}]"] for k in range(count)])
        for name in ("alpha", "beta", "proportion")
    }
    proportion = law.pop("proportion")
    assert np.all(proportion > 0)
    assert proportion.sum() == pytest.approx(1.0)
    _, statistics = statistics_of("west")
    family = get_family("beta_binomial")
    own = {name: values[:, None] for name, values in statistics.items()}
    each = special.logsumexp(log_evidence(family, own, law), b=proportion, axis=1)
    value = np.sum(each + family.log_base_measure(statistics, {}))
    [fit] = rows_of(folder, "fits", "west")
    assert value == pytest.approx(fit["log_marginal_likelihood"], rel=1e-9)
    east = [row["parameter"] for row in rows_of(folder, "hyperparameters", "east")]
    assert [name for name in east if name.startswith("proportion")] == ["proportion[0]"]


def test_a_new_store_may_be_of_either_kind(folder: Path) -> None:
    [west] = rows_of(folder, "new_stores", "west")
    [east] = rows_of(folder, "new_stores", "east")
    assert west["q0.05"] < 0.15
    assert west["q0.95"] > 0.5
    assert east["q0.95"] < 0.3


def test_the_lake_is_verified_against_the_raw_files(folder: Path) -> None:
    settings = settings_for(folder, **OPTIONS)
    assert [one for one in verify(settings, lake_of(settings), full=True) if not one.fine] == []


def test_another_prior_is_another_release_of_the_same_days(folder: Path) -> None:
    metric = {**OPTIONS["metrics"]["conversion"], "prior": "single"}
    changed = settings_for(folder, **{**OPTIONS, "metrics": {"conversion": metric}})
    before = {row["as_of"] for row in rows_of(folder, "fits")}
    result = night(changed)
    assert result is not None
    assert {row["as_of"] for row in rows_of(folder, "fits")} == before
    assert {row["prior"] for row in rows_of(folder, "fits")} == {"single"}
