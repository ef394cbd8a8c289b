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
#: Full Bayes by NUTS (nutpie 0.16.8, 20,000 draws; flat on mu, sigma half-normal(1), each tau
#: half-normal(3), LKJ(2)): mean, sd, 2.5 % and 97.5 % limits.
LKJ = {
    "sigma": "half_normal(1)",
    "tau": ["half_normal(3)", "half_normal(3)", "half_normal(3)"],
    "correlation": "lkj(2)",
}
NUTS = {
    ("BOSTON - SHAWS", "intercept"): (10.09171, 0.72679, 8.67656, 11.53440),
    ("BOSTON - SHAWS", "disp"): (1.40403, 1.24407, -1.01711, 3.88766),
    ("BOSTON - SHAWS", "log_price"): (-2.51071, 0.81404, -4.12668, -0.92575),
    ("SOUTH CAROLINA - WINN DIXIE", "intercept"): (9.95065, 0.72105, 8.53569, 11.37216),
    ("SOUTH CAROLINA - WINN DIXIE", "disp"): (0.85076, 0.15181, 0.55322, 1.14831),
    ("SOUTH CAROLINA - WINN DIXIE", "log_price"): (-2.20903, 0.82775, -3.84097, -0.58468),
    ("LOS ANGELES - LUCKY", "intercept"): (11.33454, 0.32818, 10.69050, 11.97720),
    ("LOS ANGELES - LUCKY", "disp"): (1.92735, 0.61376, 0.72723, 3.13422),
    ("LOS ANGELES - LUCKY", "log_price"): (-1.91370, 0.26901, -2.44070, -1.38607),
}


def released(events: Path, lake: Path, name: str, metric: Any = (), **inference: Any) -> Lake:
    """Run a shipped configuration, with some keys of its metrics and of inference changed."""
    raw = yaml.safe_load((ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8"))
    raw["events"]["path"], raw["lake"]["path"] = str(events), str(lake)
    raw["cluster"] = {"kind": "serial"}
    raw["inference"] |= inference
    raw["metrics"] = {key: one | dict(metric) for key, one in raw["metrics"].items()}
    run_night(Settings.model_validate(raw), now=NOW)
    return Lake(str(lake))


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the events as `make retail` does."""
    folder = tmp_path_factory.mktemp("cheese")
    spec = importlib.util.spec_from_file_location("cheese", ROOT / "configs/retail_events.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    table = module.retail_events(ROOT / "tests/golden/cheese/data.csv")
    pq.write_table(table, folder / "cheese.parquet")
    return folder / "cheese.parquet"


def test_price_elasticities_are_those_of_lme4(events: Path, tmp_path: Path) -> None:
    lake = released(events, tmp_path / "lake", "regression", uncertainty="plug_in")
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


def test_integrated_posteriors_are_those_of_nuts(events: Path, tmp_path: Path) -> None:
    """Every number to 3 % of its posterior sd, of which Monte Carlo error is a part."""
    quantiles = [0.025, 0.975]
    prior = {"hyperprior": LKJ}
    lake = released(events, tmp_path / "lake", "regression", prior, quantiles=quantiles)
    rows = {(row["retailer"], row["term"]): row for row in read(lake, "posteriors").to_pylist()}
    for key, expected in NUTS.items():
        found = [rows[key][name] for name in ("mean", "sd", "q0.025", "q0.975")]
        assert found == pytest.approx(expected, abs=0.03 * expected[1]), key
    (fit,) = read(lake, "fits").to_pylist()
    assert fit["method"] == "integrated"
    assert fit["sampler"] == "sobol"
    assert fit["ess"] > 500
    assert fit["pareto_k"] < 0.7
    assert fit["r_hat"] is None


def test_a_variance_for_each_retailer(events: Path, tmp_path: Path) -> None:
    lake = released(events, tmp_path / "lake", "variances")
    fits = {row["metric"]: row for row in read(lake, "fits").to_pylist()}
    assert fits.keys() == {"log_volume", "log_price"}
    for fit in fits.values():
        assert (fit["n_groups"], fit["method"]) == (88, "integrated")
        assert fit["pareto_k"] < 0.7
    for row in read(lake, "posteriors").to_pylist():
        assert row["q0.05"] < row["q0.5"] < row["q0.95"]
        assert abs(row["mean"] - row["raw"]) < row["sd"], "61 weeks outweigh the prior"
