"""NUTS against the grid, and against answers computed by other software; and when it fails."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import hbpipe
from hbpipe.full_bayes.audit import audit_pool
from hbpipe.full_bayes.comparison import Published, compare
from hbpipe.full_bayes.problem import pose
from hbpipe.full_bayes.quadrature import integrate
from hbpipe.full_bayes.sampler import Effort, sample, trouble_of
from hbpipe.full_bayes.target import OneTheta
from tests.full_bayes.cases import STORES
from tests.golden_cases import COEFFICIENTS, HYPERPRIORS, pumps, regression, truth

LEVELS = (0.025, 0.975)
BRIEF = Effort(block=200, warmup=1)


@pytest.mark.reference
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


@pytest.mark.reference  # half a minute of compiling
def test_cheese_has_the_known_answers_and_agrees_with_what_the_library_says() -> None:
    """A few retailers; the others enter by their marginal likelihood."""
    statistics, chosen = regression("cheese"), np.array([0, 20, 87])
    spec = HYPERPRIORS["cheese"]
    fit = hbpipe.fit("normal_regression", statistics, hyperprior=spec)
    said = hbpipe.posterior(fit, statistics, uncertainty="integrated", quantiles=LEVELS)
    columns = ("mean", "sd", "q0.025", "q0.975")
    found = audit_pool(
        "normal_regression",
        statistics,
        chosen,
        Published(*(said[name][chosen] for name in columns)),
        levels=LEVELS,
        hyperprior=spec,
        effort=Effort(block=100, warmup=2, worth=200),
    )
    assert found.trouble is None
    assert all(one.agrees for one in found.comparisons), found.comparisons
    drawn, groups = found.answer, truth("cheese")["full_bayes"][0]["groups"]
    assert drawn is not None
    for k, name in enumerate(COEFFICIENTS["cheese"]):
        for column, known in (("mean", "mean"), ("sd", "sd"), ("low", "q025"), ("high", "q975")):
            answer = np.array(groups[name][known])[chosen]
            away = np.abs(getattr(drawn, column)[:, k] - answer) / drawn.error[column][:, k]
            assert away.max() < 4.5, (name, column)
    wide = Published(*(said[name][chosen] for name in columns))
    wide = replace(wide, sd=1.5 * wide.sd)
    assert [one.agrees for one in compare(wide, drawn)] == [True, False, True]


@pytest.mark.reference
def test_a_variance_for_each_store_is_sampled() -> None:
    statistics = STORES["normal_inverse_gamma"]
    problem = pose("normal_inverse_gamma", statistics, np.arange(4))
    found = sample(OneTheta(problem), LEVELS, seed=1, effort=BRIEF)
    fit = hbpipe.fit("normal_inverse_gamma", statistics)
    published = hbpipe.posterior(fit, statistics, uncertainty="integrated")
    away = np.abs(found.mean[:, 0] - published["mean"]) / found.error["mean"][:, 0]
    assert away.max() < 5.0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"R-hat": 1.05}, "chains disagree, R-hat 1.05 above 1.01"),
        ({"R-hat": np.inf}, "chains disagree"),
        ({"divergences": 30}, "30 of 2000 draws diverged"),
        ({"tail ESS": 90.0}, "draws are worth 90, less than 400"),
    ],
)
def test_chains_that_did_not_converge_are_not_believed(fault: dict[str, Any], words: str) -> None:
    told = {"draws": 2000, "R-hat": 1.002, "bulk ESS": 900.0, "tail ESS": 700.0, "divergences": 1}
    assert trouble_of(told, Effort()) is None
    assert words in str(trouble_of(told | fault, Effort()))
