"""The posteriors of one shard: columns, nulls, and what the tally counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hbpipe.data.lake import Lake
from hbpipe.data.posterior_schemas import posteriors_table
from hbpipe.data.quantities import Metric
from hbpipe.data.recent import Apart, Recent
from hbpipe.data.terms import parse_quantity
from hbpipe.data.window import Folded
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.pooling import complete_pooling
from hbpipe.run.audits import PosteriorTally
from hbpipe.run.inference.fits import UnitPriors
from hbpipe.run.inference.posterior_table import write_posteriors
from hbpipe.run.inference.update import update_shard
from hbpipe.run.inference.updated import UpdateOrder

QUANTILES = (0.1, 0.9)
LEVELS = {"chain_id": pa.string(), "store_id": pa.int64()}


def folded(trials: list[int], successes: list[int], chains: list[str]) -> Folded:
    counts = np.array(trials, np.int64)
    statistics = {"successes": np.array(successes, np.int64), "trials": counts}
    nothing = {name: np.zeros_like(values) for name, values in statistics.items()}
    stores = pa.array(np.arange(len(trials)), pa.int64())
    return Folded(
        (pa.array(chains), stores),
        counts,
        {"conversion": statistics},
        {"conversion": 0},
        recent=Recent(np.full(len(trials), 10), None, {"conversion": Apart(nothing, statistics)}),
    )


def updated(
    tmp_path: Path, shard: Folded, uncertainty: str = "plug_in", target: float | None = None
) -> tuple[list[dict[str, Any]], PosteriorTally]:
    """Fit the shard's own pools, update it, and read back what was written."""
    family = get_family("beta_binomial")
    roles = {name: parse_quantity(name, name) for name in ("successes", "trials")}
    metric = Metric("conversion", "beta_binomial", roles, target=target)
    pools = sorted({(chain,) for chain in shard.keys[0].to_pylist()})
    codes = np.array([pools.index((chain,)) for chain in shard.keys[0].to_pylist()])
    fits = fit_pools(family, family.compress(shard.statistics["conversion"], codes, len(pools)))
    order = UpdateOrder(
        metrics=(metric,),
        levels=tuple(LEVELS),
        priors={
            "conversion": UnitPriors(
                family=fits.model,
                levels=("chain_id",),
                pools=pools,
                nodes=integrate_pools(fits, uncertainty=uncertainty),
                hyperparameters=fits.hyperparameters,
                complete=complete_pooling(fits),
                divisor=None,
                at_boundary=fits.boundary,
            )
        },
        quantiles=QUANTILES,
        table=posteriors_table(LEVELS, QUANTILES),
        label="2026-01-01",
        run_id="run",
        last_day=True,
    )
    lake = Lake(str(tmp_path / "lake"))
    lake.create("posteriors", order.table.schema, order.table.partition_by)
    receipt, (tally,) = write_posteriors(
        lake.storage, order, shard, update_shard(order, shard, {}), []
    )
    day = {"as_of": "2026-01-01"}
    lake.publish("posteriors", [receipt], app_id="posteriors/x", replaces=[day])
    return lake.read("posteriors").to_pylist(), tally


SPREAD = folded([100, 200, 50, 400, 0], [10, 60, 30, 80, 0], ["a"] * 5)


def test_every_unit_has_one_row(tmp_path: Path) -> None:
    rows, tally = updated(tmp_path, SPREAD)
    assert [row["store_id"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["n"] for row in rows] == [100, 200, 50, 400, 0]
    assert {(row["metric"], row["level"], row["term"]) for row in rows} == {
        ("conversion", "store_id", "theta")
    }
    assert (tally.units, tally.n_events) == (5, 750)
    assert (tally.not_finite, tally.zero_width, tally.disordered, tally.unidentified) == (0,) * 4


def test_a_mean_lies_between_raw_and_prior_by_its_weight(tmp_path: Path) -> None:
    rows, _ = updated(tmp_path, SPREAD)
    for row in rows[:4]:
        between = row["weight"] * row["raw"] + (1 - row["weight"]) * row["prior_mean"]
        assert row["mean"] == pytest.approx(between, rel=1e-9)
        assert 0 < row["weight"] < 1
        assert row["q0.1"] < row["mean"] < row["q0.9"]


def test_no_and_complete_pooling_stand_beside_the_posterior(tmp_path: Path) -> None:
    rows, _ = updated(tmp_path, SPREAD)
    pooled = 180 / 750
    for row in rows:
        assert row["complete_pooling"] == pytest.approx(pooled, rel=1e-9)
        sd = (pooled * (1 - pooled) / 750) ** 0.5
        assert row["complete_pooling_sd"] == pytest.approx(sd, rel=1e-9)
    for row in rows[:4]:
        sd = (row["raw"] * (1 - row["raw"]) / row["n"]) ** 0.5
        assert row["raw_sd"] == pytest.approx(sd, rel=1e-12)
    assert rows[4]["raw_sd"] is None, "no raw estimate, no sd"


def test_a_pool_without_data_has_no_pooled_estimate(tmp_path: Path) -> None:
    rows, tally = updated(tmp_path, folded([0, 0], [0, 0], ["a", "a"]), uncertainty="auto")
    assert tally.unidentified == 2
    for name in ("raw", "raw_sd", "complete_pooling", "complete_pooling_sd", "mean"):
        assert [row[name] for row in rows] == [None, None]


def test_a_silent_unit_is_its_prior(tmp_path: Path) -> None:
    rows, _ = updated(tmp_path, SPREAD)
    silent = rows[4]
    assert silent["silent"] is True
    assert silent["raw"] is None
    assert silent["weight"] == 0
    assert silent["mean"] == pytest.approx(silent["prior_mean"], rel=1e-12)


def test_the_probability_below_a_target(tmp_path: Path) -> None:
    rows, _ = updated(tmp_path, SPREAD, target=0.2)
    chances = [row["p_below_target"] for row in rows]
    assert chances[0] > 0.95, "10 of 100"
    assert chances[2] < 0.01, "30 of 50"
    assert all(0 <= chance <= 1 for chance in chances)
    without, _ = updated(tmp_path / "other", SPREAD)
    assert {row["p_below_target"] for row in without} == {None}


def test_hyperparameters_that_are_uncertain_widen_the_posterior(tmp_path: Path) -> None:
    known, _ = updated(tmp_path / "known", SPREAD)
    unsure, _ = updated(tmp_path / "unsure", SPREAD, uncertainty="integrated")
    assert unsure[4]["sd"] > known[4]["sd"]
    for row in unsure:
        assert row["method"] == "integrated"
        assert row["sd_plug_in"] > 0


def test_each_pool_has_its_own_prior(tmp_path: Path) -> None:
    two = folded([90, 100, 110, 90, 100, 110], [9, 20, 5, 60, 85, 66], ["a"] * 3 + ["b"] * 3)
    rows, _ = updated(tmp_path, two)
    priors = {row["pool"]: row["prior_mean"] for row in rows}
    assert priors["a"] < 0.2 < 0.5 < priors["b"]
