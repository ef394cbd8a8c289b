"""Priors of two laws on till lines as they come, against the library over the same file."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pyarrow.compute as pc
import pytest

import hbpipe
from hbpipe.cli import main

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def events(reference: Path) -> Path:
    return reference / "retail_transactions" / "events.parquet"


@pytest.fixture(scope="module")
def command(root: Path, events: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The options of a lake with the release of the reference events."""
    lake = tmp_path_factory.mktemp("robust") / "lake"
    config = str(root / "configs" / "robust.yaml")
    changes = ["--set", f"events.path={events}", "--set", f"lake.path={lake}"]
    options = ["--config", config, *changes]
    assert main(["run", "--quiet", *options]) == 0
    return options


@pytest.fixture(scope="module")
def lake(command: list[str]) -> str:
    return command[-1].removeprefix("lake.path=")


def test_stores_decide_how_many_laws_there_are(lake: str) -> None:
    fits = {row["metric"]: row for row in hbpipe.read(lake, "fits").to_pylist()}
    assert fits["lines_per_week"]["prior"] == "mixture"
    assert fits["private_label"]["prior"] == "single"
    assert all(row["converged"] for row in fits.values())


def test_posteriors_are_those_of_the_library(lake: str, events: Path) -> None:
    posteriors = hbpipe.read(lake, "posteriors")
    table = posteriors.filter(pc.equal(posteriors["metric"], "coupon_use")).sort_by("store_id")
    rows = duckdb.sql(
        f"SELECT store_id, count(*) FILTER (coupon_disc > 0), count(*) FROM '{events}' "
        "GROUP BY store_id ORDER BY store_id"
    ).fetchall()
    assert table["store_id"].to_pylist() == [row[0] for row in rows]
    successes, trials = np.array([row[1:] for row in rows], np.int64).T
    statistics = {"successes": successes, "trials": trials}
    fit = hbpipe.fit("beta_binomial", statistics, prior="mixture")
    expected = hbpipe.posterior(fit, statistics, quantiles=(0.05, 0.5, 0.95))
    for name in ("mean", "sd", "q0.05", "q0.95", "weight", "prior_mean"):
        np.testing.assert_allclose(table[name].to_numpy(), expected[name], rtol=1e-6)


@pytest.mark.parametrize("verb", [["report"], ["explain", "367"], ["verify", "--full"]])
def test_verbs_know_the_release(verb: list[str], command: list[str], tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "report.html")] if verb == ["report"] else []
    assert main([*verb, "--quiet", *command, *out]) == 0
