"""Tails of wide laws as integrals against sums of every count."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hbpipe.model.distributions.smooth_tails import _smooth, mid_cdf


@pytest.mark.parametrize("trials", [40, 1000, 10_000, 60_000])
@pytest.mark.parametrize("size", [20.0, 200.0, 20_000.0])
@pytest.mark.parametrize("mean", [0.01, 0.05, 0.5])
def test_both_tails(trials: int, size: float, mean: float) -> None:
    alpha, beta = np.array([mean, 1.2 * mean]) * size, np.array([1 - mean, 1 - 1.2 * mean]) * size
    weight, counts = np.array([0.7, 0.3]), np.arange(trials + 1)
    mass = sum(
        w * stats.betabinom(trials, a, b).pmf(counts)
        for w, a, b in zip(weight, alpha, beta, strict=True)
    )
    centre = float(np.sum(mass * counts))
    sd = np.sqrt(np.sum(mass * (counts - centre) ** 2))
    at = np.unique(np.clip(np.round(centre + sd * np.array([-5, -3, -1, 0, 1, 3, 5])), 0, trials))
    lower = np.cumsum(mass)[at.astype(int)] - 0.5 * mass[at.astype(int)]
    upper = np.cumsum(mass[::-1])[::-1][at.astype(int)] - 0.5 * mass[at.astype(int)]
    rows = [np.tile(values, (len(at), 1)) for values in (alpha, beta, weight)]
    found = mid_cdf(at, np.full(len(at), float(trials)), *rows)
    seen = np.minimum(lower, upper) > 1e-8
    np.testing.assert_allclose(found[seen], lower[seen], rtol=1e-3, atol=1e-11)
    np.testing.assert_allclose(1 - found[seen], upper[seen], rtol=1e-3, atol=1e-11)


def test_narrow_laws_and_those_with_a_pole_are_summed() -> None:
    one = np.ones((1, 1))
    for alpha, beta, trials in ((0.5, 9.5, 1e4), (9.5, 0.5, 1e4), (50.0, 50.0, 30.0)):
        assert np.isnan(_smooth(np.array([9.0]), np.array([trials]), alpha * one, beta * one, one))
