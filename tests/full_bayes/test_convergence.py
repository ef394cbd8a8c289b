"""R-hat, effective sizes and Monte Carlo errors on chains whose worth is known."""

from __future__ import annotations

import numpy as np
import pytest

from hbpipe.full_bayes import convergence

SIZE = (4, 1000, 3)


def chains(correlation: float = 0.0, seed: int = 0) -> np.ndarray:
    """Four stationary autoregressive chains of three quantities, standard normal."""
    rng = np.random.default_rng(seed)
    draws = rng.standard_normal(SIZE)
    for step in range(1, SIZE[1]):
        fresh = np.sqrt(1.0 - correlation**2) * draws[:, step]
        draws[:, step] = correlation * draws[:, step - 1] + fresh
    return draws


def test_independent_draws_are_worth_their_number() -> None:
    draws = chains()
    assert np.all(convergence.r_hat(draws) < 1.01)
    assert np.all(np.abs(convergence.bulk(draws) / 4000.0 - 1.0) < 0.2)
    assert np.all(convergence.tail(draws) > 2500.0)


@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_correlated_draws_are_worth_less(correlation: float) -> None:
    worth = 4000.0 * (1.0 - correlation) / (1.0 + correlation)
    assert np.all(np.abs(convergence.bulk(chains(correlation)) / worth - 1.0) < 0.4)


def test_chains_that_disagree_are_seen_in_place_and_in_scale() -> None:
    away = chains()
    away[0, :, 0] += 1.0
    away[0, :, 1] *= 3.0
    found = convergence.r_hat(away)
    assert np.all(found[:2] > 1.05)
    assert found[2] < 1.01
    away[:, :, 2] = 0.5
    assert convergence.r_hat(away)[2] == np.inf


def test_errors_are_those_of_many_repetitions() -> None:
    levels = (0.05, 0.95)
    told = [convergence.errors(chains(0.5, seed), levels) for seed in range(40)]
    flat = [chains(0.5, seed).reshape(-1, 3) for seed in range(40)]
    found = {
        "mean": np.std([draws.mean(axis=0) for draws in flat]),
        "sd": np.std([draws.std(axis=0) for draws in flat]),
        "low": np.std([np.quantile(draws, levels[0], axis=0) for draws in flat]),
        "high": np.std([np.quantile(draws, levels[1], axis=0) for draws in flat]),
    }
    for name, spread in found.items():
        assert np.mean([one[name] for one in told]) == pytest.approx(spread, rel=0.25)
