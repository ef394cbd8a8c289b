"""Statistics and published posteriors in, comparisons out: agreement, and planted faults."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import hbpipe
from hbpipe.errors import ConfigError
from hbpipe.full_bayes.answer import Answer
from hbpipe.full_bayes.audit import Audited, audit_pool
from hbpipe.full_bayes.comparison import Published, compare
from tests.golden_cases import pumps, rats, regression

LEVELS = (0.05, 0.95)


def published(family: str, statistics: Any, chosen: Any, **options: Any) -> Published:
    """What the library says of some stores."""
    uncertainty = options.pop("uncertainty", "integrated")
    fit = hbpipe.fit(family, statistics, **options)
    found = hbpipe.posterior(fit, statistics, uncertainty=uncertainty, quantiles=LEVELS)
    columns = ("mean", "sd", "q0.05", "q0.95")
    return Published(*(found[name][chosen].reshape(len(chosen), -1) for name in columns))


def audited(family: str, statistics: Any, chosen: Any, said: Published, **options: Any) -> Audited:
    return audit_pool(family, statistics, chosen, said, levels=LEVELS, **options)


@pytest.mark.parametrize(
    ("family", "data", "spec"),
    [
        ("beta_binomial", rats, None),
        ("beta_binomial", rats, "bda3"),
        ("gamma_poisson", pumps, None),
        ("gamma_poisson", pumps, {"shape": "exponential(1)", "rate": "gamma(0.1, 1)"}),
    ],
)
def test_what_is_right_agrees(family: str, data: Any, spec: Any) -> None:
    statistics, chosen = data(), np.arange(0, 10, 3)
    said = published(family, statistics, chosen, hyperprior=spec)
    found = audited(family, statistics, chosen, said, hyperprior=spec)
    names = [one.name for one in found.comparisons]
    assert names == ["mean_moved", "sd_ratio", "interval_overlap"]
    assert all(one.agrees for one in found.comparisons)
    moved, ratio, overlap = (one.value for one in found.comparisons)
    assert moved < 0.01
    assert ratio < 1.01
    assert overlap > 0.99


def test_a_wrong_prior_is_caught() -> None:
    """Rats with the lesson's prior in place of theirs, and one that says they are all alike."""
    statistics, chosen = rats(), np.arange(0, 71, 10)
    for wrong in ({"alpha": 5.0, "beta": 95.0}, {"mean": 0.14, "concentration": 400.0}):
        said = published("beta_binomial", statistics, chosen, fixed=wrong)
        found = audited("beta_binomial", statistics, chosen, said)
        assert not any(one.agrees for one in found.comparisons)


def test_another_hyperprior_is_caught() -> None:
    statistics, chosen = pumps(), np.arange(10)
    said = published("gamma_poisson", statistics, chosen, hyperprior={"rate": "exponential(0.05)"})
    found = audited("gamma_poisson", statistics, chosen, said)
    assert not all(one.agrees for one in found.comparisons)


def test_intervals_that_take_the_estimates_as_known_are_caught() -> None:
    """Pumps 5, 7 and 8 ran for a year or two: what the prior is matters to them."""
    statistics, chosen = pumps(), np.array([4, 6, 7])
    said = published("gamma_poisson", statistics, chosen, uncertainty="plug_in")
    found = {
        one.name: one for one in audited("gamma_poisson", statistics, chosen, said).comparisons
    }
    assert not found["sd_ratio"].agrees


def test_chains_that_did_not_converge_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    one = np.ones((2, 1))
    errors = dict.fromkeys(("mean", "sd", "low", "high"), one)
    lost = Answer(one, one, one, one, errors, "nuts", {"R-hat": 1.3}, "chains disagree")
    monkeypatch.setattr("hbpipe.full_bayes.audit.sample", lambda *_, **__: lost)
    said = Published(one, one, one, one)
    found = audited("gamma_poisson", pumps(), np.arange(2), said, by="nuts")
    assert (found.comparisons, found.trouble) == ((), "chains disagree")
    assert found.story == "nuts: R-hat 1.3"


def test_without_the_sampler_a_grid_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpyro", None)
    monkeypatch.setitem(sys.modules, "numpyro.infer", None)
    statistics, chosen = pumps(), np.arange(2)
    said = published("gamma_poisson", statistics, chosen)
    assert audited("gamma_poisson", statistics, chosen, said).comparisons
    with pytest.raises(ConfigError, match=r"pip install 'hbpipe\[nuts\]'"):
        audited("gamma_poisson", statistics, chosen, said, by="nuts")


def test_what_is_out_of_reach_is_not_compared() -> None:
    rng = np.random.default_rng(0)
    many = {"n": np.full(25_000, 9), "mean": rng.normal(size=25_000), "m2": rng.random(25_000)}
    said = Published(*np.zeros((4, 2, 1)))
    for by, words in (("quadrature", "out of reach"), ("nuts", "25000 distinct stores")):
        found = audited("normal", many, np.arange(2), said, by=by)
        assert found.comparisons == ()
        assert words in str(found.trouble)
    few = regression("cheese")
    found = audited("normal_regression", few, np.arange(2), said, by="quadrature")
    assert "more hyperparameters than a grid can hold" in str(found.trouble)


def test_limits_are_net_of_the_errors_of_the_sampler() -> None:
    one = np.ones((2, 1))
    said = Published(0.15 * one, one, -1.5 * one, 1.8 * one)
    errors = {name: np.array([[0.0], [0.05]]) for name in ("mean", "sd", "low", "high")}
    answer = Answer(0.0 * one, one, -1.65 * one, 1.65 * one, errors, "nuts")
    moved = compare(said, answer)[0]
    assert (moved.store, moved.agrees) == (0, False), "the other one may have moved by chance"
    assert moved.value == pytest.approx(0.15)
    assert moved.threshold == pytest.approx(0.1)


def test_a_posterior_without_width_is_off_by_a_finite_factor() -> None:
    one = np.ones((1, 1))
    errors = dict.fromkeys(("mean", "sd", "low", "high"), 0.0 * one)
    answer = Answer(0.0 * one, one, -1.6 * one, 1.6 * one, errors, "quadrature")
    _, ratio, overlap = compare(Published(0.0 * one, 0.0 * one, 0.0 * one, 0.0 * one), answer)
    assert (ratio.value, overlap.value) == (1e6, 0.0)
