"""Decay in simulations from known stores: what intervals cover, and when forgetting pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special

import hbpipe
from hbpipe.errors import StatisticsError
from hbpipe.model.decay import decay, weight
from hbpipe.model.diagnostics.tails import log_beta_binomial
from hbpipe.model.families import get_family
from hbpipe.model.kish import WeightedSums, effective
from hbpipe.model.overdispersion import thin

LIMITS = (0.025, 0.975)
Draw = tuple[NDArray[np.float64], dict[str, NDArray[Any]]]


def rates(rng: np.random.Generator, n: NDArray[np.int64]) -> Draw:
    theta = rng.beta(10.0, 90.0, len(n))
    return theta, {"successes": rng.binomial(n, theta[:, None]), "trials": n}


def counts(rng: np.random.Generator, n: NDArray[np.int64]) -> Draw:
    theta = rng.gamma(5.0, 0.02, len(n))
    return theta, {"count": rng.poisson(theta[:, None] * n), "exposure": n.astype(float)}


def means(rng: np.random.Generator, n: NDArray[np.int64]) -> Draw:
    theta = rng.normal(0.0, 0.1, len(n))
    return theta, values(rng, n, theta, np.ones(len(n)))


def own_variances(rng: np.random.Generator, n: NDArray[np.int64]) -> Draw:
    variance = 10.0 / rng.chisquare(10.0, len(n))
    theta = rng.normal(size=len(n)) * np.sqrt(variance / 100.0)
    return theta, values(rng, n, theta, variance)


def values(rng: np.random.Generator, n: Any, theta: Any, variance: Any) -> dict[str, Any]:
    sd = np.sqrt(variance[:, None] / np.maximum(n, 1))
    mean = np.where(n > 0, theta[:, None] + rng.normal(size=n.shape) * sd, 0.0)
    m2 = np.where(n > 1, variance[:, None] * rng.chisquare(np.maximum(n - 1, 1)), 0.0)
    return {"n": n, "mean": mean, "m2": m2}


def estimates(rng: np.random.Generator, n: NDArray[np.int64]) -> Draw:
    theta, found = means(rng, n)
    variance = np.where(n > 0, 1.0 / np.maximum(n, 1), np.inf)
    return theta, {"estimate": found["mean"], "variance": variance}


def shares(rng: np.random.Generator, n: NDArray[np.int64]) -> Draw:
    theta = rng.dirichlet([50.0, 30.0, 15.0, 5.0], len(n))
    return theta, {"counts": np.stack([rng.multinomial(day, theta) for day in n.T], axis=1)}


DRAWS = {
    "beta_binomial": rates,
    "gamma_poisson": counts,
    "normal": means,
    "normal_inverse_gamma": own_variances,
    "normal_known_variance": estimates,
    "dirichlet_multinomial": shares,
}


def by_day(statistics: dict[str, NDArray[Any]]) -> tuple[Any, Any, Any]:
    """(J, D, ...) statistics as rows, with stores and ages; day 0 is the last."""
    stores, days = next(iter(statistics.values())).shape[:2]
    rows = {
        name: values.reshape(stores * days, *values.shape[2:])
        for name, values in statistics.items()
    }
    return rows, np.repeat(np.arange(stores), days), np.tile(np.arange(days), stores)


def sizes(rng: np.random.Generator, stores: int, days: int) -> NDArray[np.int64]:
    """Events of stores by day: open on few days or on all; of each fifth one the last days lack."""
    base = np.exp(rng.uniform(0.0, 4.0, stores))[:, None]
    open_ = rng.random((stores, days)) < rng.uniform(0.05, 1.0, stores)[:, None]
    open_[::5] &= np.arange(days) >= rng.integers(0, 50, (len(open_[::5]), 1))
    return np.asarray(rng.poisson(base * open_))


def cover(fit: Any, statistics: Any, theta: NDArray[np.float64]) -> float:
    found = hbpipe.posterior(fit, statistics, quantiles=LIMITS)
    return float(np.mean((found["q0.025"] <= theta) & (theta <= found["q0.975"])))


@pytest.mark.parametrize("family", DRAWS)
def test_intervals_of_stable_stores_cover(family: str) -> None:
    """Nominally 0.95; 1,200 stores: a standard error of 0.007."""
    covered = []
    for seed in range(6):
        rng = np.random.default_rng([seed, 11])
        theta, statistics = DRAWS[family](rng, sizes(rng, 200, 56))
        aged = decay(family, *by_day(statistics), half_life=14.0)
        covered.append(cover(hbpipe.fit(family, aged.for_fit), aged.for_update, theta))
    assert 0.92 <= np.mean(covered) <= 0.98


def test_raw_decayed_counts_hide_the_spread() -> None:
    """With about 30 events that count, a concentration of 100 is taken for none."""
    family = get_family("beta_binomial")
    rng = np.random.default_rng(5)
    theta, statistics = rates(rng, rng.poisson(3.0, (500, 28)))
    rows, stores, ages = by_day(statistics)
    sums = WeightedSums(family, 500)
    for age in range(27, -1, -1):
        part = {name: values[ages == age] for name, values in rows.items()}
        sums.add(stores[ages == age], part, weight(age, 7.0))
    raw = effective(family, sums.sums, sums.squares, most=1.0)
    fit = hbpipe.fit(family, raw)
    assert fit.hyperparameters["concentration"] > 1e6
    assert cover(fit, raw, theta) < 0.7
    aged = decay(family, rows, stores, ages, half_life=7.0)
    fit = hbpipe.fit(family, aged.for_fit)
    assert 50.0 < fit.hyperparameters["concentration"] < 200.0
    assert cover(fit, aged.for_update, theta) > 0.92


def next_day_score(rng: np.random.Generator, drift: float, half_lives: list[float]) -> list[float]:
    """Mean log score of the day after 56 days, by half-life; logits of rates walk at random."""
    stores, days = 300, 56
    n = rng.poisson(8.0, (stores, days + 1))
    steps = rng.normal(0.0, drift, (stores, days + 1)).cumsum(axis=1)
    theta = special.expit(special.logit(rng.beta(10.0, 90.0, stores))[:, None] + steps)
    y = rng.binomial(n, theta)
    newest_first = {"successes": y[:, -2::-1], "trials": n[:, -2::-1]}
    found = []
    for half_life in half_lives:
        aged = decay("beta_binomial", *by_day(newest_first), half_life=half_life)
        at = hbpipe.fit("beta_binomial", aged.for_fit).hyperparameters
        posterior = get_family("beta_binomial").update(aged.for_update, at)
        score = log_beta_binomial(
            y[:, -1].astype(float), n[:, -1].astype(float), posterior["alpha"], posterior["beta"]
        )
        found.append(float(np.mean(score)))
    return found


@pytest.mark.parametrize(("drift", "pays"), [(0.0, False), (0.1, True)])
def test_forgetting_pays_where_stores_drift(drift: float, pays: bool) -> None:
    scores = [next_day_score(np.random.default_rng([3, k]), drift, [np.inf, 7.0]) for k in range(4)]
    never, fast = np.mean(scores, axis=0)
    assert (fast - never > 0.015) == pays
    assert (fast < never) == (not pays)


def test_an_overdispersion_divides_what_age_has_left() -> None:
    rows = {"successes": [2, 30, 0], "trials": [10, 100, 1]}
    aged = decay("beta_binomial", rows, [0, 1, 2], [1, 0, 1], half_life=1.0, window=2)
    most = (1.0 + 0.5) / (1.0 + 0.25)
    np.testing.assert_allclose(aged.for_update["trials"], [10 * most / 2, 100, most / 2])
    thinned = thin("beta_binomial", aged.for_update, 2.0)
    np.testing.assert_allclose(thinned["trials"], [3.0, 50.0, 0.6], rtol=1e-8)
    np.testing.assert_allclose(thinned["successes"], [0.6, 15.0, 0.0], rtol=1e-8)


@pytest.mark.parametrize(
    ("stores", "ages", "told"),
    [
        ([0, 0], [1, 1], "a store has several rows of one day"),
        ([0, -1], [1, 1], "stores are of type int64"),
        ([0, 1], [0.5, 1.0], "ages are of type float64"),
        ([0], [1], "stores are of type int64"),
    ],
)
def test_rows_that_do_not_fit_are_refused(stores: Any, ages: Any, told: str) -> None:
    rows = {"successes": [1, 2], "trials": [3, 4]}
    with pytest.raises(StatisticsError, match=told):
        decay("beta_binomial", rows, stores, ages, half_life=3.0)
