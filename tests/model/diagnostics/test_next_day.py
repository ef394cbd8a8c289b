"""Scores of a day against the laws that scipy has, and who predicts it best."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hbpipe.model.diagnostics.next_day import DayScores, critical_z, score_day
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.pooling import complete_pooling

Parts = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


def two_days(rng: np.random.Generator, name: str, stores: int, spread: float) -> Parts:
    """Draw what stores have shown before a day, and on it."""
    z = rng.normal(0.0, spread, stores)
    n, m = rng.integers(5, 200, stores), rng.integers(1, 20, stores)
    if name == "beta_binomial":
        theta = 1 / (1 + np.exp(2.0 - z))
        return tuple({"successes": rng.binomial(k, theta), "trials": k} for k in (n, m))
    if name == "gamma_poisson":
        return tuple(
            {"count": rng.poisson(k * np.exp(z)), "exposure": k.astype(float)} for k in (n, m)
        )
    return tuple(
        {
            "n": k,
            "mean": z + rng.normal(0.0, 1.0, stores) / np.sqrt(k),
            "m2": rng.chisquare(np.maximum(k - 1, 1)) * (k > 1),
        }
        for k in (n, m)
    )


def score(name: str, before: dict, day: dict, pools: np.ndarray, count: int):
    family = get_family(name)
    fits = fit_pools(family, family.compress(family.combine(before, day), pools, count))
    at, nodes = fits.hyperparameters, integrate_pools(fits, uncertainty="plug_in")
    return at, score_day(family, nodes, at, complete_pooling(fits), before, day, pools)


@pytest.mark.parametrize("name", ["beta_binomial", "gamma_poisson", "normal"])
def test_scores_are_those_of_the_predictive_laws(name: str) -> None:
    before, day = two_days(np.random.default_rng(1), name, 40, 0.4)
    at, found = score(name, before, day, np.zeros(40, int), 1)
    at = {key: float(values[0]) for key, values in at.items()}
    if name == "beta_binomial":
        y, n, new, m = (*before.values(), *day.values())
        partial = stats.betabinom(m, at["alpha"] + y, at["beta"] + n - y).logpmf(new)
        none = stats.betabinom(m, 0.5 + y, 0.5 + n - y).logpmf(new)
    elif name == "gamma_poisson":
        y, e, new, m = (*before.values(), *day.values())
        rate = at["rate"] + e
        partial = stats.nbinom(at["shape"] + y, rate / (rate + m)).logpmf(new)
        none = stats.nbinom(0.5 + y, e / (e + m)).logpmf(new)
    else:
        n, mean, m, new = before["n"], before["mean"], day["n"], day["mean"]
        precision = 1 / at["tau"] ** 2 + n / at["sigma"] ** 2
        centre = (at["mu"] / at["tau"] ** 2 + n * mean / at["sigma"] ** 2) / precision
        partial = stats.norm(centre, np.sqrt(1 / precision + at["sigma"] ** 2 / m)).logpdf(new)
        none = stats.norm(mean, at["sigma"] * np.sqrt(1 / n + 1 / m)).logpdf(new)
    np.testing.assert_allclose(found.partial, partial, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found.none, none, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", ["beta_binomial", "gamma_poisson", "normal"])
@pytest.mark.parametrize("spread", [0.0, 0.4])
def test_neither_extreme_predicts_better(name: str, spread: float) -> None:
    rng = np.random.default_rng(2)
    before, day = two_days(rng, name, 4000, spread)
    pools = np.repeat(np.arange(40), 100)
    _, found = score(name, before, day, pools, 40)
    sums = DayScores.of(found, pools, 40)
    assert sums.z.max() < critical_z(0.01, 40)
    whole = sums.together(np.ones(40, bool))
    assert whole.means[0, 0] > whole.means[0, 1]
    if spread:
        assert whole.z[0, 1] < -3.0
    halves = [DayScores.of(_part(found, k), pools[k::2], 40) for k in (0, 1)]
    np.testing.assert_allclose(DayScores.added(halves).means, sums.means, rtol=1e-9)


def _part(scores, k: int):
    return type(scores)(*(values[k::2] for values in vars(scores).values()))


def test_stores_that_have_nothing_in_common_any_more_are_told() -> None:
    """Values before the day were of one kind, on the day they are of the pool: shrink more."""
    rng = np.random.default_rng(3)
    before, _ = two_days(rng, "normal", 500, 2.0)
    _, day = two_days(rng, "normal", 500, 0.0)
    _, found = score("normal", before, day, np.zeros(500, int), 1)
    assert DayScores.of(found, np.zeros(500, int), 1).z[0].max() > critical_z(0.01, 1)
