"""NUTS against the grid, and against answers computed by other software; and when it fails."""

from __future__ import annotations

import numpy as np

import hbpipe
from hbpipe.full_bayes.problem import pose
from hbpipe.full_bayes.quadrature import integrate
from hbpipe.full_bayes.regression import pose_regression
from hbpipe.full_bayes.sampler import Effort, sample
from hbpipe.full_bayes.target import OneTheta
from tests.full_bayes.cases import STORES
from tests.golden_cases import COEFFICIENTS, HYPERPRIORS, pumps, regression, truth

LEVELS = (0.025, 0.975)
BRIEF = Effort(warmup=200, block=200, blocks=4)


def test_chains_agree_with_the_grid_whoever_is_chosen() -> None:
    problem = pose("gamma_poisson", pumps(), np.array([0, 2, 9]))
    grid = integrate(problem, LEVELS)
    drawn = sample(OneTheta(problem), LEVELS, seed=1, effort=BRIEF)
    assert drawn.trouble is None
    for name in ("mean", "sd", "low", "high"):
        away = np.abs(getattr(drawn, name) - getattr(grid, name)) / drawn.error[name]
        assert away.max() < 4.0, name
    assert drawn.told["R-hat"] <= 1.01
    assert {"bulk ESS", "tail ESS", "divergences", "draws", "seed"} <= drawn.told.keys()


def test_a_regression_has_the_known_answers() -> None:
    """A few retailers of cheese; the other stores enter by their marginal likelihood."""
    chosen = np.array([0, 20, 87])
    target = pose_regression(regression("cheese"), chosen, hyperprior=HYPERPRIORS["cheese"])
    found = sample(
        target, LEVELS, seed=1, effort=Effort(warmup=200, block=150, blocks=1, worth=100)
    )
    groups = truth("cheese")["full_bayes"][0]["groups"]
    for k, name in enumerate(COEFFICIENTS["cheese"]):
        for column, known in (("mean", "mean"), ("sd", "sd"), ("low", "q025"), ("high", "q975")):
            answer = np.array(groups[name][known])[chosen]
            away = np.abs(getattr(found, column)[:, k] - answer) / found.error[column][:, k]
            assert away.max() < 4.5, (name, column)


def test_a_variance_for_each_store_is_sampled() -> None:
    statistics = STORES["normal_inverse_gamma"]
    problem = pose("normal_inverse_gamma", statistics, np.arange(4))
    found = sample(OneTheta(problem), LEVELS, seed=1, effort=BRIEF)
    fit = hbpipe.fit("normal_inverse_gamma", statistics)
    published = hbpipe.posterior(fit, statistics, uncertainty="integrated")
    away = np.abs(found.mean[:, 0] - published["mean"]) / found.error["mean"][:, 0]
    assert away.max() < 5.0


def test_chains_that_have_drawn_too_little_are_not_believed() -> None:
    problem = pose("gamma_poisson", pumps(), np.array([0]))
    tiny = Effort(chains=2, warmup=5, block=20, blocks=1)
    trouble = sample(OneTheta(problem), LEVELS, seed=1, effort=tiny).trouble
    assert trouble is not None
    assert "draws are worth" in trouble
