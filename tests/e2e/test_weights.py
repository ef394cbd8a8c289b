"""Weights of each meaning from Parquet to a release: against rows written out, and the library."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import hbpipe
from hbpipe.data.lake import Lake
from hbpipe.model.families import get_family
from hbpipe.report.html.metrics import describe_metrics
from hbpipe.run.history import read_releases
from hbpipe.run.releases import read
from hbpipe.run.verification.verify import verify
from tests.nights import day, lake_of, night, settings_for, write

DAYS, STORES, QUANTILES = 3, 12, (0.05, 0.5, 0.95)
NUMBERS = ("mean", "sd", "sd_plug_in", "q0.05", "q0.5", "q0.95", "weight")


def weighted(raw: dict[str, Any], meaning: str) -> dict[str, Any]:
    column = "n" if meaning == "frequency" else "w"
    return {**raw, "weights": {"column": column, "meaning": meaning}}


RATE: dict[str, Any] = {"family": "beta_binomial", "successes": "hit", "trials": "rows"}
COUNT: dict[str, Any] = {"family": "gamma_poisson", "count": "items", "exposure": "hours", "per": 2}
DAILY: dict[str, Any] = {"family": "gamma_poisson", "count": "rows", "exposure": "days"}
VALUE: dict[str, Any] = {"family": "normal", "value": "amount", "transform": "log"}
MIX: dict[str, Any] = {
    "family": "dirichlet_multinomial",
    "class": "kind",
    "classes": ["cash", "card"],
    "other": "other",
}
KNOWN: dict[str, Any] = {"family": "normal_known_variance", "estimate": "amount", "variance": "v"}
FREQUENT = {"rate": RATE, "count": COUNT, "daily": DAILY, "value": VALUE}
METRICS: dict[str, Any] = {
    **{name: weighted(raw, "frequency") for name, raw in FREQUENT.items()},
    "sampled_rate": weighted(RATE, "sampling"),
    "sampled_count": weighted(COUNT, "sampling"),
    "sampled_value": weighted(VALUE, "sampling"),
    "sampled_mix": weighted(MIX, "sampling"),
    "precise_value": weighted(VALUE, "precision"),
    "precise_estimate": weighted(KNOWN, "precision"),
}
METRICS["rate"]["overdispersion"] = {"by": "kind"}
OPTIONS: dict[str, Any] = {
    "inference": {"pool_by": [], "uncertainty": "integrated", "quantiles": QUANTILES},
    "audits": {"max_rejected_share": 0.5},
}


def rows(number: int) -> list[dict[str, Any]]:
    """Rows of one day; the weight of some is zero."""
    rng = np.random.default_rng([9, number])
    found = []
    for store in range(STORES):
        for k in range(int(rng.integers(4, 11))):
            found.append(
                {
                    "event_id": f"{number}/{store}/{k}",
                    "ts": datetime.combine(day(number), datetime.min.time()) + timedelta(hours=k),
                    "chain_id": "one",
                    "store_id": f"s{store:02}",
                    "hit": bool(rng.random() < 0.2 + 0.04 * store),
                    "items": int(rng.poisson(2 + 0.3 * store)),
                    "hours": float(rng.uniform(0.5, 2.0)),
                    "amount": float(rng.lognormal(2.0 + 0.1 * store, 0.5)),
                    "v": float(rng.uniform(0.5, 2.0)),
                    "kind": str(rng.choice(["cash", "card", "points"])),
                    "n": int(rng.integers(0, 4)),
                    "w": float(rng.choice([0.0, 0.5, 1.0, 3.7])),
                }
            )
    return found


def spoilt(number: int) -> list[dict[str, Any]]:
    """The same, with weights that are null or impossible on rows of their own."""
    extra = [{**row, "event_id": f"bad/{number}/{k}"} for k, row in enumerate(rows(number)[:4])]
    for row, weight in zip(extra, [None, -1.0, float("nan"), float("inf")], strict=True):
        row["w"], row["n"] = weight, None if weight is None else -1
    return [*rows(number), *extra]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for number in range(DAYS):
        write(folder / "events" / f"{day(number)}.parquet", spoilt(number), row_group_size=31)
    night(settings_for(folder, metrics=METRICS, **OPTIONS))
    return folder


@pytest.fixture(scope="module")
def expanded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release of the events of which each is written as often as its frequency says."""
    folder = tmp_path_factory.mktemp("expanded")
    for number in range(DAYS):
        copies = [
            {**row, "event_id": f"{row['event_id']}/{copy}"}
            for row in rows(number)
            for copy in range(row["n"])
        ]
        write(folder / "events" / f"{day(number)}.parquet", copies)
    night(settings_for(folder, metrics=FREQUENT, **OPTIONS))
    return folder


def table_of(folder: Path, name: str, metric: str) -> list[dict[str, Any]]:
    table = read(Lake(str(folder / "lake")), name)
    found: pa.Table = table.filter(pc.equal(table["metric"], metric))
    return list(found.to_pylist())


@pytest.mark.parametrize("metric", FREQUENT)
def test_frequencies_are_rows_written_out(metric: str, folder: Path, expanded: Path) -> None:
    pairs = zip(
        table_of(folder, "posteriors", metric),
        table_of(expanded, "posteriors", metric),
        strict=True,
    )
    exact = metric != "value"
    for found, wanted in pairs:
        assert (found["store_id"], found["term"]) == (wanted["store_id"], wanted["term"])
        for name in (*NUMBERS, "raw"):
            # Sums of floats are rounded in another order; counts are equal, and so is all of them.
            expected = wanted[name] if exact and metric != "count" else pytest.approx(wanted[name])
            assert found[name] == expected, (found["store_id"], name)
        if metric == "value":
            assert found["n"] == wanted["n"]
    fits = [table_of(one, "fits", metric)[0] for one in (folder, expanded)]
    assert fits[0]["log_marginal_likelihood"] == pytest.approx(fits[1]["log_marginal_likelihood"])


def columns() -> dict[str, np.ndarray]:
    every = [row for number in range(DAYS) for row in rows(number)]
    found = {name: np.array([row[name] for row in every]) for name in every[0]}
    return {**found, "code": np.array([int(store[1:]) for store in found["store_id"]])}


def kish(weight: np.ndarray, size: np.ndarray, code: np.ndarray) -> np.ndarray:
    total, squares = (np.bincount(code, one) for one in (weight * size, weight**2 * size))
    return np.asarray(total / squares)


def sampled_statistics(metric: str) -> tuple[str, dict[str, np.ndarray]]:
    """Weighted sums of each store times Kish's factor, as the definition has them."""
    c = columns()
    w, code, log_amount = c["w"], c["code"], np.log(c["amount"])
    if metric == "sampled_count":
        factor = kish(w, c["hours"], code)
        count, exposure = (factor * np.bincount(code, w * c[name]) for name in ("items", "hours"))
        return "gamma_poisson", {"count": count, "exposure": exposure / 2}
    factor = kish(w, np.ones(len(w)), code)
    if metric == "sampled_rate":
        counts = [factor * np.bincount(code, w * part) for part in (c["hit"], 1)]
        return "beta_binomial", {"successes": counts[0], "trials": counts[1]}
    mean = np.bincount(code, w * log_amount) / np.bincount(code, w)
    m2 = factor * np.bincount(code, w * (log_amount - mean[code]) ** 2)
    return "normal", {"n": factor * np.bincount(code, w), "mean": mean, "m2": m2}


@pytest.mark.parametrize("metric", ["sampled_rate", "sampled_count", "sampled_value"])
def test_sampling_weights_have_kishs_size(metric: str, folder: Path) -> None:
    from hbpipe.model.statistics import Effective

    family, found = sampled_statistics(metric)
    statistics = Effective(found)
    fit = hbpipe.fit(family, statistics)
    expected = hbpipe.posterior(fit, statistics, uncertainty="integrated", quantiles=QUANTILES)
    own = get_family(family).raw_estimates(statistics)
    size = {"beta_binomial": "trials", "normal": "n"}.get(family)
    events = np.bincount(columns()["code"])
    for j, row in enumerate(table_of(folder, "posteriors", metric)):
        assert row["raw"] == pytest.approx(own[j], rel=1e-7)
        for name in ("mean", "sd", "q0.05", "q0.95"):
            assert row[name] == pytest.approx(expected[name][j], rel=1e-5), (j, name)
        if size is not None:
            if family == "normal":
                assert row["n"] == events[j]
            assert row["n_effective"] <= row["n"]


def test_a_sampled_mix_has_weighted_shares(folder: Path) -> None:
    c = columns()
    total = np.bincount(c["code"], c["w"])
    for row in table_of(folder, "posteriors", "sampled_mix"):
        j = int(row["store_id"][1:])
        kind = {"other": "points"}.get(row["term"], row["term"])
        share = np.sum(c["w"][(c["code"] == j) & (c["kind"] == kind)]) / total[j]
        assert row["raw"] == pytest.approx(share, rel=1e-7)
        assert row["n"] == np.sum(c["code"] == j)
        assert row["q0.05"] < row["q0.95"]


def test_precisions_are_those_of_the_library(folder: Path) -> None:
    c = columns()
    values = {"value": np.log(c["amount"]), "precision": c["w"]}
    statistics = get_family("normal_weighted").summarise(values, c["code"], STORES)
    known = c["w"] > 0
    variance = {"estimate": c["amount"][known], "variance": c["v"][known] / c["w"][known]}
    estimates = get_family("normal_known_variance").summarise(variance, c["code"][known], STORES)
    for metric, family, own in (
        ("precise_value", "normal_weighted", statistics),
        ("precise_estimate", "normal_known_variance", estimates),
    ):
        fit = hbpipe.fit(family, own)
        expected = hbpipe.posterior(fit, own, uncertainty="integrated", quantiles=QUANTILES)
        for j, row in enumerate(table_of(folder, "posteriors", metric)):
            for name in ("mean", "sd", "q0.05", "q0.95"):
                assert row[name] == pytest.approx(expected[name][j], rel=1e-6), (metric, j, name)
        [found] = table_of(folder, "fits", metric)
        assert found["family"] == family
        assert found["log_marginal_likelihood"] == pytest.approx(fit.log_marginal_likelihood)


def test_impossible_weights_are_counted_for_their_metric(folder: Path) -> None:
    for file in lake_of(settings_for(folder)).read("files").to_pylist():
        found = {(r["metric"], r["column"], r["reason"], r["rows"]) for r in file["rejections"]}
        assert ("rate", "n", "negative", 3) in found
        for reason in ("negative", "not a number", "infinite"):
            assert ("sampled_rate", "w", reason, 1) in found
            assert ("precise_value", "w", reason, 1) in found


def test_the_lake_is_verified_against_the_raw_files(folder: Path) -> None:
    settings = settings_for(folder, metrics=METRICS, **OPTIONS)
    findings = verify(settings, lake_of(settings), full=True)
    assert [one for one in findings if not one.fine] == []


def test_the_report_says_what_weights_mean(folder: Path) -> None:
    settings = settings_for(folder, metrics=METRICS, **OPTIONS)
    [release] = read_releases(lake_of(settings))
    names = ["rate", "sampled_rate"]
    fits = [{"metric": name, "family": "beta_binomial"} for name in names]
    told = [one["made_of"] for one in describe_metrics(settings, release, names, fits)]
    assert "weight: n; weights of meaning frequency" in told[0]
    assert "weights of meaning sampling, a pseudo-likelihood" in told[1]
