"""Intervals of hazards by interval of duration, of spells drawn from their own model."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import hbpipe
from hbpipe.data.batch import Batch
from hbpipe.data.measure import measure
from hbpipe.data.parsing import parse_metric
from hbpipe.data.survival import write_out

CUTS = [7, 30]
MEANS = np.array([0.02, 0.01, 0.004])
SHAPE, STORES, SPELLS, REPLICATES = 6.0, 30, (3, 40), 25
RAW = {
    "family": "gamma_poisson",
    "survival": {"duration": "days", "event": "again", "cuts": CUTS},
}


def draw(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, pa.Table]:
    """Hazards (J, 3), the store of each spell, and spells censored at 10 to 120 days."""
    hazards = rng.gamma(SHAPE, MEANS / SHAPE, (STORES, 3))
    codes = np.repeat(np.arange(STORES), rng.integers(*SPELLS, STORES))
    # The cumulative hazard at the event is standard exponential.
    left, duration = rng.exponential(size=len(codes)), np.zeros(len(codes))
    for k, width in enumerate([7.0, 23.0, np.inf]):
        mine = hazards[codes, k]
        spent = np.minimum(left / mine, width)
        duration += np.where(left > 0, spent, 0.0)
        left = np.where(left / mine > width, left - mine * width, 0.0)
    end = rng.uniform(10.0, 120.0, len(codes))
    table = pa.table({"days": np.minimum(duration, end), "again": duration <= end})
    return hazards, codes, table


@pytest.mark.long
@pytest.mark.parametrize("interval", range(3))
def test_intervals_cover(interval: int) -> None:
    rng = np.random.default_rng([5, interval])
    name, raw = list(write_out("wait", RAW).items())[interval]
    metric, inside = parse_metric(name, raw), []
    for _ in range(REPLICATES):
        hazards, codes, table = draw(rng)
        found = measure(Batch(table), metric, metric.measured, np.ones(len(codes), np.bool_))
        statistics = metric.measured.summarise(found.values, codes, STORES)
        fit = hbpipe.fit("gamma_poisson", statistics)
        limits = hbpipe.posterior(fit, statistics, uncertainty="auto", quantiles=(0.025, 0.975))
        truth = hazards[:, interval]
        inside.append((limits["q0.025"] <= truth) & (truth <= limits["q0.975"]))
    assert 0.92 <= np.mean(inside) <= 0.99
