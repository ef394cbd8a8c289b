"""Hazards by interval of duration: a year after prison, against lifelines and brute force."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hbpipe
from hbpipe.run.releases import read
from hbpipe.run.verification.verify import verify
from tests.nights import day, lake_of, night, settings_for, write

GOLDEN = Path(__file__).parents[1] / "golden" / "rossi"
TRUTH = json.loads((GOLDEN / "truth.json").read_text(encoding="utf-8"))
CUTS = [13, 26, 39]
INTERVALS = {"0_13": "0_13", "13_26": "13_26", "26_39": "26_39", "39_inf": "after_39"}


def hazard(cuts: list[float]) -> dict[str, Any]:
    survival = {"duration": "week", "event": "arrest", "cuts": cuts}
    return {"family": "gamma_poisson", "survival": survival}


OPTIONS: dict[str, Any] = {
    "events": {"path": "", "time": "ts", "levels": ["group"], "event_id": "subject"},
    "metrics": {"arrest": hazard(CUTS), "between": hazard([12.5, 25.5, 38.5])},
    "inference": {"pool_by": [], "window": "all", "uncertainty": "integrated"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the release of spells that began on three days."""
    folder = tmp_path_factory.mktemp("survival")
    OPTIONS["events"]["path"] = str(folder / "events")
    with (GOLDEN / "data.csv").open(newline="") as file:
        spells = list(csv.DictReader(file))
    for number in range(3):
        rows = [
            {
                "ts": str(day(number)),
                "subject": spell["subject"],
                "group": spell["group"],
                "week": int(spell["week"]),
                "arrest": spell["arrest"] == "1",
            }
            for spell in spells[number::3]
        ]
        write(folder / "events" / f"{number}.parquet", rows, row_group_size=50)
    night(settings_for(folder, **OPTIONS))
    return folder


def released(folder: Path, name: str, metric: str) -> list[dict[str, Any]]:
    table = read(lake_of(settings_for(folder, **OPTIONS)), name)
    return [row for row in table.to_pylist() if row["metric"] == metric]


def totals(folder: Path, metric: str) -> tuple[list[int], list[float]]:
    """Events and time at risk of each group, over the days."""
    table = lake_of(settings_for(folder, **OPTIONS)).read("statistics").to_pylist()
    counts, times = dict.fromkeys(TRUTH["groups"], 0), dict.fromkeys(TRUTH["groups"], 0.0)
    for row in table:
        if row["metric"] == metric:
            counts[row["group"]] += row["count"]
            times[row["group"]] += row["exposure"]
    return list(counts.values()), list(times.values())


def test_without_pooling_hazards_are_those_of_lifelines(folder: Path) -> None:
    names = ["between_0_12p5", "between_12p5_25p5", "between_25p5_38p5", "between_after_38p5"]
    likelihood = 0.0
    for name, expected in zip(names, TRUTH["lifelines"]["hazards"], strict=True):
        counts, times = totals(folder, name)
        found = sum(counts) / sum(times)
        assert found == pytest.approx(expected, rel=1e-5)
        likelihood += sum(counts) * np.log(found) - found * sum(times)
        rows = released(folder, "posteriors", name)
        assert [row["group"] for row in rows] == TRUTH["groups"]
        for row, count, time in zip(rows, counts, times, strict=True):
            assert row["raw"] == (pytest.approx(count / time, rel=1e-12) if time else None)
    assert likelihood == pytest.approx(TRUTH["lifelines"]["log_likelihood"], abs=1e-6)


@pytest.mark.parametrize("interval", INTERVALS)
def test_pooled_hazards_are_those_of_brute_force(folder: Path, interval: str) -> None:
    truth, name = TRUTH["gamma_poisson"]["intervals"][interval], f"arrest_{INTERVALS[interval]}"
    counts, times = totals(folder, name)
    assert counts == truth["events"]
    assert times == truth["time"]
    [fit] = released(folder, "fits", name)
    assert fit["log_marginal_likelihood"] == pytest.approx(
        truth["log_marginal_likelihood"], abs=1e-8
    )
    found = {row["parameter"]: row["value"] for row in released(folder, "hyperparameters", name)}
    assert found["mean"] == pytest.approx(truth["mean"], rel=1e-5)
    if fit["status"] == "no_spread":
        assert truth["log_marginal_likelihood"] == pytest.approx(truth["poisson_limit"], abs=1e-8)
    else:
        assert interval == "13_26"
        assert found["shape"] == pytest.approx(truth["shape"], rel=1e-4)


def test_posteriors_are_those_of_the_library(folder: Path) -> None:
    counts, times = totals(folder, "arrest_13_26")
    statistics = {"count": counts, "exposure": times}
    fit = hbpipe.fit("gamma_poisson", statistics)
    expected = hbpipe.posterior(fit, statistics, uncertainty="integrated", quantiles=(0.05, 0.95))
    for j, row in enumerate(released(folder, "posteriors", "arrest_13_26")):
        for name in ("mean", "sd", "q0.05", "q0.95"):
            assert row[name] == pytest.approx(expected[name][j], rel=1e-6)


def test_the_lake_is_verified_against_the_raw_files(folder: Path) -> None:
    settings = settings_for(folder, **OPTIONS)
    findings = verify(settings, lake_of(settings), full=True)
    assert [one for one in findings if not one.fine] == []
