"""Likelihoods, posteriors and fits of two laws against integrals over θ and another optimiser."""

import json

import numpy as np
import pytest
from golden_cases import GOLDEN

import hbpipe
from hbpipe.model.families import get_family
from hbpipe.model.mixtures.conjugate import responsibilities

TRUTH = json.loads((GOLDEN / "mixtures" / "truth.json").read_text())["families"]
every = pytest.mark.parametrize("name", TRUTH)


def case(name):
    truth = TRUTH[name]
    statistics = {key: np.array(values) for key, values in truth["statistics"].items()}
    return get_family(name, prior="mixture"), statistics, truth


@every
def test_log_marginals_are_integrals_over_theta(name):
    family, statistics, truth = case(name)
    at, expected = truth["at"], np.array(truth["integrals"]["log_marginal"])
    after, before = family.update(statistics, at), family.prior(at)
    stores = family.log_normaliser(after) - family.log_normaliser(before)
    stores = stores + family.log_base_measure(statistics, at)
    np.testing.assert_allclose(stores, expected, rtol=1e-9)
    sketch = family.compress(statistics, np.zeros(len(expected), int), 1)
    point = family.to_coordinates(at)
    np.testing.assert_allclose(family.log_marginal(sketch, point[None])[0], [expected.sum()])


@every
def test_posteriors_are_integrals_over_theta(name):
    family, statistics, truth = case(name)
    posterior = family.update(statistics, truth["at"])
    described, expected = family.describe(posterior, [0.5]), truth["integrals"]
    np.testing.assert_allclose(described.mean, expected["mean"], rtol=1e-8)
    np.testing.assert_allclose(described.sd, expected["sd"], rtol=1e-7)
    second = responsibilities(posterior)[:, 1]
    np.testing.assert_allclose(second, expected["responsibility"], rtol=1e-7, atol=1e-12)


@every
def test_the_fit_is_no_lower_than_that_of_another_optimiser(name):
    _, statistics, truth = case(name)
    fit = hbpipe.fit(name, statistics, prior="mixture")
    assert fit.pools.chosen == ["mixture"]
    expected = truth["maximum"]["log_likelihood"]
    assert fit.log_marginal_likelihood == pytest.approx(expected, abs=2e-6)
