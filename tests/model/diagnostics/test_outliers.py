"""Outliers by their false discovery rate, and how many of them chance makes."""

from __future__ import annotations

import numpy as np
from scipy import stats

from hbpipe.model.diagnostics.outliers import RATE, outlier_lines, usual_outliers
from tests.model.diagnostics.drawn import diagnose, draw


def test_lines_are_those_of_benjamini_and_hochberg() -> None:
    rng = np.random.default_rng(1)
    p = rng.random(600) ** 3
    pools = rng.integers(0, 4, 600)
    stores = np.bincount(pools, minlength=5).astype(float)
    low = p <= RATE
    line, count = outlier_lines(p[low], pools[low], stores)
    for g in range(4):
        adjusted = stats.false_discovery_control(p[pools == g])
        assert count[g] == np.sum(adjusted <= RATE)
        assert np.sum(p[pools == g] <= line[g]) == count[g]
    assert (line[4], count[4]) == (0.0, 0)


def test_chance_makes_no_more_of_them_than_is_usual() -> None:
    rng = np.random.default_rng(2)
    p, pools = rng.random(4000 * 100), np.repeat(np.arange(4000), 100)
    low = p <= RATE
    _, count = outlier_lines(p[low], pools[low], np.full(4000, 100.0))
    for probability in (0.05, 0.01, 0.001):
        share = np.mean(count > usual_outliers(probability))
        assert share <= probability + 3 * np.sqrt(probability / 4000)
    assert [usual_outliers(q) for q in (0.06, 0.01, 0.001)] == [0, 1, 2]


def test_a_store_that_differs_is_an_outlier() -> None:
    statistics = draw(np.random.default_rng(3), "normal_known_variance", 300)
    statistics["estimate"][[7, 70]] += 8.0
    found = diagnose("normal_known_variance", statistics, np.zeros(300, int), 1)
    line, count = found.outliers
    assert count.tolist() == [2]
    assert np.sum(found.sums.p <= line[0]) == 2
