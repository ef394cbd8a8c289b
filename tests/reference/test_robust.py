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

CONFIG = "robust.yaml"


def test_stores_decide_how_many_laws_there_are(lake: Path) -> None:
    fits = {row["metric"]: row for row in hbpipe.read(str(lake), "fits").to_pylist()}
    assert fits["lines_per_week"]["prior"] == "mixture"
    assert fits["private_label"]["prior"] == "single"
    assert all(row["converged"] for row in fits.values())


def test_posteriors_are_those_of_the_library(lake: Path, events: Path) -> None:
    posteriors = hbpipe.read(str(lake), "posteriors")
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
