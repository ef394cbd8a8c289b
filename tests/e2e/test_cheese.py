"""The shipped configurations on real data: weekly sales of cheese against lme4."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from hbpipe.config import Settings
from hbpipe.data.lake import Lake
from hbpipe.run.nightly import run_night
from hbpipe.run.releases import read
from tests.nights import NOW

ROOT = Path(__file__).parents[2]
TERMS = ("intercept", "disp", "log_price")
#: lmer(log(volume) ~ disp + log(price) + (disp + log(price) | retailer), REML = FALSE) of lme4
#: 1.1-31, R 4.2.2: fixed effects, standard deviations, residual sd, log-likelihood.
MU = (10.329446, 1.169670, -2.194728)
TAU = (1.112052, 1.188380, 0.829860)
SIGMA, LOG_LIKELIHOOD = 0.245171, -542.138921


def released(folder: Path, name: str, **inference: Any) -> Lake:
    """Run the configuration ``name`` in ``folder``, as `hbpipe run` does."""
    raw = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    raw["events"]["path"] = str(folder / "events")
    raw["lake"]["path"] = str(folder / name)
    raw["cluster"] = {"kind": "serial"}
    raw["inference"] |= inference
    run_night(Settings.model_validate(raw), now=NOW)
    return Lake(str(folder / name))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the events as `make retail` does."""
    folder = tmp_path_factory.mktemp("cheese")
    spec = importlib.util.spec_from_file_location("cheese", ROOT / "configs/retail_events.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table = module.retail_events(ROOT / "tests/golden/cheese/data.csv")
    (folder / "events").mkdir()
    pq.write_table(table, folder / "events" / "cheese.parquet")
    return folder


def test_price_elasticities_are_those_of_lme4(folder: Path) -> None:
    lake = released(folder, "regression", uncertainty="plug_in")
    found = {row["parameter"]: row for row in read(lake, "hyperparameters").to_pylist()}
    for term, mu, tau in zip(TERMS, MU, TAU, strict=True):
        assert found[f"mu[{term}]"]["value"] == pytest.approx(mu, abs=2e-5)
        assert found[f"tau[{term}]"]["value"] == pytest.approx(tau, rel=2e-5)
    assert found["sigma"]["value"] == pytest.approx(SIGMA, rel=2e-5)
    (fit,) = read(lake, "fits").to_pylist()
    assert fit["log_marginal_likelihood"] == pytest.approx(LOG_LIKELIHOOD, abs=1e-5)
    assert (fit["n_groups"], fit["status"], fit["converged"]) == (88, "ok", True)
    posteriors = read(lake, "posteriors").to_pylist()
    assert len(posteriors) == 88 * 3
    shown = {row["term"] for row in posteriors if row["p_below_target"] is not None}
    assert shown == {"log_price"}
