"""Priors of two laws from Parquet events to a release: flagships among many small stores."""

from __future__ import annotations

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
from hbpipe.data.lake import Lake
from hbpipe.run.releases import read
from hbpipe.run.verification.verify import verify
from tests.nights import day, lake_of, night, rows_of, settings_for, write

STORES, DAYS, FLAGSHIPS = 60, 3, 8
QUANTILES = (0.05, 0.5, 0.95)
RATE: dict[str, Any] = {"family": "beta_binomial", "successes": "converted", "trials": "rows"}
METRICS: dict[str, Any] = {
    "robust": {**RATE, "prior": "mixture"},
    "plain": RATE,
    "alike": {
        "family": "gamma_poisson",
        "count": "rows",
        "exposure": "days",
        "prior": "mixture",
    },
}
OPTIONS: dict[str, Any] = {
    "metrics": METRICS,
    "inference": {"pool_by": [], "uncertainty": "first_order", "quantiles": QUANTILES},
}


def rate(store: int) -> float:
    """A twentieth, and half in flagships."""
    return 0.5 if store < FLAGSHIPS else 0.05


def visits(number: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng([8, number])
    return [
        {
            "event_id": f"{number}/{store}/{k}",
            "ts": datetime.combine(day(number), datetime.min.time()) + timedelta(minutes=k),
            "chain_id": "one",
            "store_id": f"s{store:02}",
            "converted": bool(rng.random() < rate(store)),
        }
        for store in range(STORES)
        for k in range(int(rng.integers(4, 16)))
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("robust")
    for number in range(DAYS):
        write(folder / "events" / f"{day(number)}.parquet", visits(number), row_group_size=101)
    night(settings_for(folder, **OPTIONS))
    return folder


def rows_in(folder: Path, name: str, metric: str) -> list[dict[str, Any]]:
    table: pa.Table = read(Lake(str(folder / "lake")), name)
    found: list[dict[str, Any]] = table.filter(pc.equal(table["metric"], metric)).to_pylist()
    return found


def counted(folder: Path) -> dict[str, NDArray[np.int64]]:
    """Successes and trials of each store, as SQL has them."""
    rows = duckdb.sql(
        f"SELECT store_id, count(*) FILTER (converted), count(*) "
        f"FROM read_parquet('{folder}/events/*.parquet') GROUP BY store_id ORDER BY store_id"
    ).fetchall()
    successes, trials = np.array([row[1:] for row in rows], np.int64).T
    return {"successes": successes, "trials": trials}


def test_posteriors_are_those_of_the_library(folder: Path) -> None:
    statistics = counted(folder)
    fit = hbpipe.fit("beta_binomial", statistics, prior="mixture")
    expected = hbpipe.posterior(fit, statistics, uncertainty="first_order", quantiles=QUANTILES)
    rows = sorted(rows_in(folder, "posteriors", "robust"), key=lambda row: row["store_id"])
    assert len(rows) == STORES
    for name in ("mean", "sd", "sd_plug_in", "q0.05", "q0.5", "q0.95", "weight", "prior_mean"):
        found = [row[name] for row in rows]
        np.testing.assert_allclose(found, expected[name], rtol=1e-7, err_msg=name)
    assert all(row["raw"] == y / n for row, y, n in zip(rows, *statistics.values(), strict=True))
    assert all(row["predictive_low"] <= row["predictive_high"] for row in rows)
    assert all(row["p_top_10"] is not None for row in rows)


def test_flagships_are_not_dragged_to_the_others(folder: Path) -> None:
    robust, plain = (
        {row["store_id"]: row["mean"] for row in rows_in(folder, "posteriors", name)}
        for name in ("robust", "plain")
    )
    flagships = [f"s{store:02}" for store in range(FLAGSHIPS)]
    missed = [sum(abs(of[store] - 0.5) for store in flagships) for of in (robust, plain)]
    assert missed[0] < 0.8 * missed[1]


def test_fits_tell_the_prior_and_what_spoke_for_it(folder: Path) -> None:
    by_metric = {name: rows_in(folder, "fits", name)[0] for name in METRICS}
    assert by_metric["robust"]["prior"] == "mixture"
    assert by_metric["robust"]["bic_mixture"] > by_metric["robust"]["bic_single"] + 3.0
    assert by_metric["alike"]["prior"] == "single"
    assert by_metric["alike"]["bic_mixture"] < by_metric["alike"]["bic_single"] + 3.0
    assert by_metric["plain"]["prior"] == "single"
    assert by_metric["plain"]["bic_single"] is None
    # Rates do not differ within a kind of store, and a bound is named with its component.
    bounds = {"concentration[0]", "concentration[1]", ""}
    assert set(by_metric["robust"]["at_bound"].split(", ")) <= bounds
    assert all(row["converged"] for row in by_metric.values())


def test_hyperparameters_have_a_row_for_each_component(folder: Path) -> None:
    found = {row["parameter"]: row for row in rows_in(folder, "hyperparameters", "robust")}
    names = ("proportion", "alpha", "beta", "mean", "concentration")
    assert found.keys() == {f"{name}[{k}]" for name in names for k in (0, 1)}
    assert found["proportion[1]"]["value"] == pytest.approx(FLAGSHIPS / STORES, abs=0.03)
    assert found["mean[0]"]["value"] == pytest.approx(0.05, abs=0.02)
    assert found["mean[1]"]["value"] == pytest.approx(0.5, abs=0.1)
    assert found["mean[1]"]["sd"] > 0


def test_a_new_store_is_of_either_kind(folder: Path) -> None:
    (row,) = rows_in(folder, "new_stores", "robust")
    (plain,) = rows_in(folder, "new_stores", "plain")
    assert row["q0.5"] < plain["q0.5"]
    assert row["q0.95"] > 0.4


def test_the_lake_is_verified_against_the_raw_files(folder: Path) -> None:
    settings = settings_for(folder, **OPTIONS)
    findings = verify(settings, lake_of(settings), full=True)
    assert [one for one in findings if not one.fine] == []


def test_another_prior_is_another_release_of_the_same_days(folder: Path, tmp_path: Path) -> None:
    one_law = {**METRICS, "robust": RATE}
    options = {**OPTIONS, "lake": {"path": str(tmp_path / "lake")}}
    first = night(settings_for(folder, **options))
    again = night(settings_for(folder, **options))
    other = night(settings_for(folder, **{**options, "metrics": one_law}))
    assert again.release == first.release
    assert other.release != first.release
    assert other.days == []


def test_two_workers_give_the_same_bits(folder: Path, tmp_path: Path) -> None:
    options = {
        **OPTIONS,
        "lake": {"path": str(tmp_path / "lake")},
        "cluster": {"kind": "local", "workers": 2, "processes": False},
    }
    night(settings_for(folder, **options))
    for name in ("fits", "posteriors", "new_stores"):
        mine, other = (read(Lake(str(at / "lake")), name) for at in (folder, tmp_path))
        assert rows_of(mine) == rows_of(other), name
