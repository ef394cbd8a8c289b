"""The dense grid against answers computed by other software, and its own refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.integrate import dblquad
from scipy.stats import norm

from hbpipe.errors import FitError
from hbpipe.full_bayes import quadrature
from hbpipe.full_bayes.problem import Problem, pose
from hbpipe.full_bayes.quadrature import integrate, is_affordable
from tests.golden_cases import FULL_BAYES, dyestuff, truth

LEVELS = (0.025, 0.975)
ONE_THETA = [case for case in FULL_BAYES if case[0] != "dyestuff"]


@pytest.mark.parametrize(("case", "family", "data", "number", "spec"), ONE_THETA)
def test_the_grid_gives_the_known_answers(
    case: str, family: str, data: Callable[[], Any], number: int, spec: Any
) -> None:
    statistics = data()
    stores = np.arange(len(next(iter(statistics.values()))))
    found = integrate(pose(family, statistics, stores, hyperprior=spec), LEVELS)
    known = truth(case)["full_bayes"]
    groups = (known if isinstance(known, list) else [known])[number]["groups"]
    sd = np.array(groups["sd"])
    np.testing.assert_allclose(found.sd[:, 0], sd, rtol=1e-6)
    for name, column in (("mean", "mean"), ("low", "q025"), ("high", "q975")):
        moved = np.abs(getattr(found, name)[:, 0] - np.array(groups[column])) / sd
        assert moved.max() < 1e-3, name
    assert found.trouble is None


@pytest.mark.parametrize("number", [0, 1])
def test_three_hyperparameters_fit_a_grid(number: int) -> None:
    *_, spec = [case for case in FULL_BAYES if case[0] == "dyestuff"][number]
    found = integrate(pose("normal", dyestuff(), np.arange(6), hyperprior=spec), LEVELS)
    groups = truth("dyestuff")["full_bayes"][number]["groups"]["theta"]
    np.testing.assert_allclose(found.mean[:, 0], groups["mean"], rtol=1e-6)
    np.testing.assert_allclose(found.sd[:, 0], groups["sd"], rtol=1e-4)


def test_stores_that_are_not_chosen_count_by_their_likelihood() -> None:
    statistics = {"successes": np.array([3, 0, 9, 0, 2]), "trials": np.array([20, 9, 30, 9, 14])}
    every = integrate(pose("beta_binomial", statistics, np.arange(5)), LEVELS)
    problem = pose("beta_binomial", statistics, np.array([2]))
    assert sorted(problem.counts.tolist()) == [1.0, 1.0, 2.0], "equal stores are counted"
    one = integrate(problem, LEVELS)
    np.testing.assert_allclose(one.mean[0], every.mean[2], rtol=1e-7)
    np.testing.assert_allclose(one.high[0], every.high[2], rtol=1e-5)


def test_held_hyperparameters_are_no_axes() -> None:
    statistics = {"estimate": np.array([1.0, 3.0, 2.5]), "variance": np.array([1.0, 0.5, 0.2])}
    known = {"mu": 2.0, "tau": 0.7}
    found = integrate(pose("normal_known_variance", statistics, np.arange(3), fixed=known), LEVELS)
    precision = 1.0 / 0.7**2 + 1.0 / statistics["variance"]
    mean = (2.0 / 0.7**2 + statistics["estimate"] / statistics["variance"]) / precision
    np.testing.assert_allclose(found.mean[:, 0], mean, rtol=1e-12)
    np.testing.assert_allclose(found.sd[:, 0], precision**-0.5, rtol=1e-12)
    np.testing.assert_allclose(found.low[:, 0], norm.ppf(0.025, mean, precision**-0.5), rtol=1e-4)


@pytest.mark.reference  # a quarter of a minute
def test_one_axis_of_two_is_integrated_alone() -> None:
    """Held τ, flat μ: the other stores' mean is normal."""
    statistics = {"estimate": np.array([1.0, 3.0]), "variance": np.array([1.0, 0.5])}
    problem = pose("normal_known_variance", statistics, np.array([0]), fixed={"tau": 0.7})
    found = integrate(problem, LEVELS)
    total = 0.7**2 + statistics["variance"]

    def joint(theta: float, mu: float) -> float:
        own = norm.pdf(theta, mu, 0.7) * norm.pdf(1.0, theta, 1.0)
        return float(own * norm.pdf(3.0, mu, np.sqrt(total[1])))

    mass = dblquad(joint, -30, 30, -30, 30)[0]
    mean = dblquad(lambda t, m: t * joint(t, m), -30, 30, -30, 30)[0] / mass
    assert found.mean[0, 0] == pytest.approx(mean, abs=1e-6)


def test_a_posterior_that_does_not_fall_off_is_refused() -> None:
    statistics = {"estimate": np.array([1.0, 3.0]), "variance": np.array([1.0, 0.5])}
    spec = {"tau": "uniform"}
    with pytest.raises(FitError, match="does not fall off"):
        integrate(pose("normal_known_variance", statistics, np.arange(2), hyperprior=spec), LEVELS)


def test_a_grid_that_is_too_coarse_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = _pumps()
    monkeypatch.setitem(quadrature._STEPS, 2, 1.2)
    trouble = integrate(problem, LEVELS).trouble
    assert trouble is not None
    assert trouble.startswith("half the points of the grid say")


def _pumps() -> Problem:
    statistics = {"count": np.array([5, 1, 5, 14]), "exposure": np.array([94.3, 15.7, 62.9, 126.0])}
    return pose("gamma_poisson", statistics, np.arange(4))


def test_work_beyond_reach_is_known_before_it_is_begun() -> None:
    assert is_affordable(_pumps())
    rng = np.random.default_rng(0)
    many = {"n": np.full(20_000, 9), "mean": rng.normal(size=20_000), "m2": rng.random(20_000)}
    assert not is_affordable(pose("normal", many, np.arange(5)))
    few = {name: values[:6] for name, values in many.items()}
    assert is_affordable(pose("normal", few, np.arange(5)))
    assert not is_affordable(pose("normal_inverse_gamma", few, np.arange(5))), "four axes"
