"""Households whose visits agree: warned of, and divided out where that is asked for."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import hbpipe
from hbpipe.config import Settings
from hbpipe.data import clusters, units
from hbpipe.report.night import NightReport
from hbpipe.run.verification.verify import verify
from tests.nights import day, lake_of, night, settings_for, write

DAYS, STORES, VISITS = 14, 60, 4
INFERENCE = {"window": "14d", "uncertainty": "auto", "quantiles": [0.025, 0.5, 0.975]}


def households(seed: int) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Visits of two weeks, four of each household on different days, and the rate of each store.

    A household buys on all of its visits or on none, and spends much the same on each.
    """
    rng, rows = np.random.default_rng(seed), []
    theta = rng.beta(12.0, 28.0, STORES)
    start = datetime.combine(day(0), datetime.min.time())
    for store in range(STORES):
        for number in range(int(rng.integers(20, 60))):
            buys, level = bool(rng.random() < theta[store]), float(rng.normal(3.0, 0.5))
            rows += [
                {
                    "event_id": f"{store}/{number}/{visit}",
                    "ts": start + timedelta(days=int(when), hours=int(rng.integers(24))),
                    "chain_id": f"c{store % 2}",
                    "store_id": f"s{store}",
                    "household": f"h{number}",
                    "converted": buys,
                    "amount": float(np.exp(level + 0.1 * rng.normal())),
                }
                for visit, when in enumerate(rng.choice(DAYS, VISITS, replace=False))
            ]
    return rows, {f"s{store}": float(rate) for store, rate in enumerate(theta)}


def metrics(**overdispersion: Any) -> dict[str, Any]:
    cells = {"overdispersion": overdispersion} if overdispersion else {}
    return {
        "conversion": {
            "family": "beta_binomial",
            "successes": "converted",
            "trials": "rows",
            **cells,
        },
        "basket": {"family": "normal", "value": "amount", "transform": "log", **cells},
        "orders": {"family": "gamma_poisson", "count": "converted", "exposure": "days", **cells},
    }


def released(
    folder: Path, rows: list[dict[str, Any]], files: int = 1, **overdispersion: Any
) -> tuple[Settings, NightReport]:
    for number in range(files):
        write(folder / "events" / f"{number}.parquet", rows[number::files])
    settings = settings_for(
        folder, metrics=metrics(**overdispersion), inference=INFERENCE, environment="prod"
    )
    return settings, night(settings)


def table(settings: Settings, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = hbpipe.read(settings.lake.path, name).to_pylist()
    return found


def check_of(settings: Settings, metric: str) -> dict[str, Any]:
    [found] = [
        row
        for row in table(settings, "audits")
        if (row["name"], row["subject"]) == ("overdispersion", metric)
    ]
    return found


@pytest.fixture(scope="module")
def truth() -> tuple[list[dict[str, Any]], dict[str, float]]:
    return households(seed=1)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, truth: Any) -> tuple[Settings, NightReport]:
    """A release that is told of households and divides nothing."""
    return released(tmp_path_factory.mktemp("plain"), truth[0], by="household")


@pytest.fixture(scope="module")
def divided(tmp_path_factory: pytest.TempPathFactory, truth: Any) -> tuple[Settings, NightReport]:
    """The same events, sizes divided by the overdispersion."""
    return released(tmp_path_factory.mktemp("divided"), truth[0], by=["household"], correct=True)


def test_the_release_tells_of_it_and_warns(plain: Any) -> None:
    settings, report = plain
    for row in table(settings, "fits"):
        assert row["overdispersion_by"] == "household"
        assert row["overdispersion_df"] > 100
        if row["metric"] != "orders":
            assert row["overdispersion"] == pytest.approx(VISITS, rel=0.1), row["metric"]
    for metric in metrics():
        check = check_of(settings, metric)
        assert (check["status"], check["threshold"]) == ("warn", 1.2)
        assert check["value"] > 3
        assert "set overdispersion.correct to divide sizes by it" in check["message"]
        assert any(f"overdispersion of {metric}" in note for note in report.notes)
    assert "Note: overdispersion of conversion: totals by household vary" in report.text()


def test_divided_sizes_are_published_and_no_longer_warned_of(divided: Any) -> None:
    settings, report = divided
    phi = {(row["metric"], row["pool"]): row["overdispersion"] for row in table(settings, "fits")}
    for row in table(settings, "posteriors"):
        assert row["n_effective"] * phi[row["metric"], row["pool"]] == pytest.approx(
            row["n"], rel=1e-6
        )
    assert check_of(settings, "conversion")["status"] == "pass"
    assert "sizes of units were divided by it" in check_of(settings, "conversion")["message"]
    assert not any("overdispersion" in note for note in report.notes)


def test_divided_intervals_are_wider_and_cover(plain: Any, divided: Any, truth: Any) -> None:
    rows, theta = truth
    size = {}
    for row in rows:
        size[row["store_id"]] = size.get(row["store_id"], 0) + 1
    inside, width = {}, {}
    for name, (settings, _) in {"plain": plain, "divided": divided}.items():
        posteriors = [r for r in table(settings, "posteriors") if r["metric"] == "conversion"]
        assert {r["store_id"]: r["n"] for r in posteriors} == size
        limits = [(r["q0.025"], r["q0.975"], theta[r["store_id"]]) for r in posteriors]
        inside[name] = np.mean([low < rate < high for low, high, rate in limits])
        width[name] = np.mean([high - low for low, high, _ in limits])
    assert inside["plain"] < 0.82
    assert inside["divided"] > 0.92
    assert width["divided"] > 1.3 * width["plain"]


def test_by_day_nothing_of_it_is_seen_and_nothing_is_warned_of(tmp_path: Path, truth: Any) -> None:
    """The visits of a household lie on different days: these are more alike than by chance."""
    settings, report = released(tmp_path, truth[0])
    for row in table(settings, "fits"):
        assert row["overdispersion_by"] == "day"
        assert 0.5 < row["overdispersion"] < 1.1, row["metric"]
    assert check_of(settings, "conversion")["status"] == "pass"
    assert all(row["n_effective"] == row["n"] for row in table(settings, "posteriors"))
    assert not any("overdispersion" in note for note in report.notes)


def test_neither_files_nor_shards_change_a_number(
    tmp_path: Path, truth: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row for row in truth[0] if int(row["store_id"][1:]) < 16]
    whole, _ = released(tmp_path / "whole", rows, by="household", correct=True)
    monkeypatch.setattr(units, "SHARD_ROWS", 60)
    cut, _ = released(tmp_path / "cut", rows, files=3, by="household", correct=True)
    assert max(row["shards"] for row in table(cut, "days")) > 1
    for name, key, columns in (
        ("fits", "pool", ("overdispersion", "overdispersion_df", "log_marginal_likelihood")),
        ("posteriors", "store_id", ("n_effective", "mean", "sd", "q0.025", "weight")),
    ):
        one, two = (
            {(row["metric"], row[key]): row for row in table(settings, name)}
            for settings in (whole, cut)
        )
        assert one.keys() == two.keys()
        for place, row in one.items():
            for column in columns:
                assert two[place][column] == pytest.approx(row[column], rel=1e-6), (place, column)


def test_a_sample_of_the_clusters_tells_the_same(
    tmp_path: Path, truth: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "SAMPLED_ROWS", 200)
    settings, _ = released(tmp_path, truth[0], by="household")
    assert max(row["rows"] for row in table(settings, "days")) > 400
    for row in table(settings, "fits"):
        if row["metric"] == "conversion":
            assert row["overdispersion"] == pytest.approx(VISITS, rel=0.25)


def test_other_cells_are_other_statistics(tmp_path: Path, truth: Any) -> None:
    """A change of the cluster does the days again; a change of ``correct`` does not."""
    rows = truth[0][:800]
    settings, _ = released(tmp_path, rows)
    assert night(settings).days == []
    for cells, again in (
        ({"by": "household"}, True),
        ({"by": "household", "correct": True}, False),
        ({"by": "day", "correct": True}, True),
    ):
        changed = settings_for(tmp_path, metrics=metrics(**cells), inference=INFERENCE)
        report = night(changed)
        assert report.published
        assert bool(report.days) == again, cells


def findings(settings: Settings) -> set[str]:
    found = verify(settings, lake_of(settings), full=True)
    return {one.name for one in found if not one.fine}


def test_clusters_are_recounted_from_the_raw_files(
    tmp_path: Path, truth: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _ = released(tmp_path, truth[0][:600], by="household")
    assert findings(settings) == set()
    change_a_total(settings)
    assert findings(settings) == {"recount[conversion]"}
    monkeypatch.setattr(clusters, "SAMPLED_ROWS", 10)
    assert findings(settings) == set(), "of a sample nothing can be said"


def change_a_total(settings: Settings) -> None:
    """Publish a day on which one household of one store has converted once more."""
    lake, when = lake_of(settings), day(3)
    rows = lake.read("statistics", filters=[("day", "==", when)]).to_pylist()
    row = next(row for row in rows if row["metric"] == "conversion")
    row["cluster_total"][0] += 1.0
    schema = lake.snapshot("statistics").schema
    values = pa.Table.from_pylist(rows, schema=schema)
    values = values.select([name for name in schema.names if name != "day"])
    partition = {"day": when.isoformat()}
    lake.replace("statistics", values, run_id="tamper", partition=partition, statistics=["shard"])
