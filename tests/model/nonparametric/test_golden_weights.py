"""Weights, likelihoods and posterior means against a general convex solver (cvxpy, Clarabel)."""

import json
from pathlib import Path

import numpy as np
import pytest
from golden_cases import columns

from hbpipe.model.families import get_family
from hbpipe.model.mixtures.conjugate import ConjugateMixture
from hbpipe.model.nonparametric.pool import GridPool

TRUTH = json.loads((Path(__file__).parents[2] / "golden" / "grid_prior" / "truth.json").read_text())


def rats() -> dict:
    data = columns("rat_tumours")
    return {"successes": data["y"].astype(int), "trials": data["n"].astype(int)}


def pumps() -> dict:
    data = columns("pumps")
    return {"count": data["x"].astype(int), "exposure": data["t"].astype(float)}


def milk() -> dict:
    data = columns("milk")
    return {"estimate": data["yi"].astype(float), "variance": data["sd"].astype(float) ** 2}


@pytest.mark.parametrize(
    ("case", "name"),
    [(rats, "beta_binomial"), (pumps, "gamma_poisson"), (milk, "normal_known_variance")],
)
def test_weights_are_those_of_a_general_solver(case, name) -> None:
    family, statistics, truth = get_family(name), case(), TRUTH[case.__name__]
    stores = len(next(iter(statistics.values())))
    pool = GridPool.of(family, statistics, np.ones(stores))
    for own, theirs in zip(pool.law.values(), truth["components"], strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-12)
    best = pool.maximise()
    base = family.log_base_measure(statistics, {})
    reached = float(np.sum(pool.log_likelihoods(best.weight[0]) + base))
    assert truth["gap"] < 1e-9
    short = truth["log_likelihood"] - reached
    assert short <= stores * np.log1p(best.gap[0]) + 1e-9
    assert short >= -stores * np.log1p(truth["gap"]) - 1e-9
    known = {**pool.law, "proportion": best.weight[0]}
    mixture = ConjugateMixture(family)
    described = mixture.describe(mixture.update(statistics, known), [0.5])
    np.testing.assert_allclose(described.mean, truth["posterior_means"], rtol=1e-5, atol=1e-6)
