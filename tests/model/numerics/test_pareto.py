"""Pareto k̂ where the tail of the weights is known."""

import numpy as np
import pytest
from scipy import stats

from hbpipe.model.numerics.pareto import pareto_k


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.7, 1.0, 1.5])
def test_weights_from_a_generalised_pareto_law(shape):
    rng = np.random.default_rng(8)
    found = [pareto_k(stats.genpareto.rvs(shape, size=8000, random_state=rng)) for _ in range(30)]
    # The prior draws k̂ a little to one half: 10 of 278 observations.
    expected = (268.0 * shape + 10.0 * 0.5) / 278.0
    assert np.mean(found) == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize(("variance", "shape"), [(2.0, 0.5), (4.0, 0.75), (20.0, 0.95)])
def test_a_normal_law_that_is_too_narrow(variance, shape):
    # With x from N(0, 1) the ratio to N(0, s²) has the tail index 1 − 1/s².
    rng = np.random.default_rng(9)
    x = rng.normal(size=(20, 20000))
    found = [pareto_k(np.exp(0.5 * (1.0 - 1.0 / variance) * row**2)) for row in x]
    # The logarithm in the tail of a normal law makes it a little lighter at any finite size.
    assert np.mean(found) == pytest.approx(shape, abs=0.12)


def test_bounded_weights():
    rng = np.random.default_rng(10)
    assert pareto_k(np.ones(1000)) == 0.0
    assert pareto_k(rng.uniform(size=4000)) < 0.0
    assert pareto_k(np.exp(-0.5 * rng.normal(size=4000) ** 2)) < 0.2


def test_one_weight_above_all_others_is_not_to_be_trusted():
    weight = np.exp(np.random.default_rng(11).normal(size=2000))
    weight[7] = 1e6
    assert pareto_k(weight) > 0.7
