"""Without drift everything is what the family ``normal`` says."""

import numpy as np
import pytest
from drifting_stores import drifting, together

import hbpipe
from hbpipe.model.families import get_family

STATIC = [0, 1, 3]


@pytest.fixture(scope="module")
def stores():
    statistics, _ = drifting(1, 60, 10, ratio=0.0)
    return statistics, together(statistics)


@pytest.mark.parametrize("restricted", [False, True])
def test_likelihood_and_derivatives_are_those_of_normal(stores, restricted):
    drift, normal = get_family("local_level", 10), get_family("normal")
    pools = np.arange(60) % 3
    point = np.array([[1.5, 0.2, 0.0, 0.1], [2.0, 0.0, 0.0, -0.3], [2.5, 0.5, 0.0, 0.4]])
    sketches = drift.compress(stores[0], pools, 3), normal.compress(stores[1], pools, 3)
    found = drift.log_marginal(sketches[0], point)
    expected = normal.log_marginal(sketches[1], point[:, STATIC])
    if restricted:
        found = drift.log_restriction(sketches[0], point)
        expected = normal.log_restriction(sketches[1], point[:, STATIC])
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-13, atol=1e-12)
    np.testing.assert_allclose(found[1][:, STATIC], expected[1], rtol=1e-11, atol=1e-11)
    block = found[2][:, STATIC][:, :, STATIC]
    np.testing.assert_allclose(block, expected[2], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(
    ("uncertainty", "tolerance"), [("plug_in", 1e-7), ("first_order", 2e-3), ("integrated", 0.02)]
)
def test_a_static_store_has_the_posterior_of_normal(stores, uncertainty, tolerance):
    levels = (0.025, 0.5, 0.975)
    found = hbpipe.posterior(
        hbpipe.fit("local_level", stores[0], fixed={"signal_ratio": 0.0}),
        stores[0],
        uncertainty=uncertainty,
        quantiles=levels,
    )
    expected = hbpipe.posterior(
        hbpipe.fit("normal", stores[1]), stores[1], uncertainty=uncertainty, quantiles=levels
    )
    assert found.method == expected.method
    for name in ("mean", "sd", "q0.025", "q0.5", "q0.975"):
        error = np.max(np.abs(found[name] - expected[name]) / expected["sd"])
        assert error < tolerance, (name, error)
    np.testing.assert_allclose(found["weight"], expected["weight"], atol=max(tolerance, 1e-7))
    np.testing.assert_array_equal(found["no_pooling"], expected["no_pooling"])
    np.testing.assert_allclose(found["complete_pooling"], expected["complete_pooling"], rtol=1e-6)


def test_moments_without_drift_begin_where_those_of_normal_do(stores):
    drift, normal = get_family("local_level", 10), get_family("normal")
    none = np.zeros(60, np.int64)
    held = np.array([[np.nan, np.nan, 0.0, 0.2]])
    found = drift.moments["hedges"](drift.compress(stores[0], none, 1), held)
    expected = normal.moments["hedges"](normal.compress(stores[1], none, 1), held[:, STATIC])
    np.testing.assert_allclose(found[:, STATIC], expected, rtol=1e-10)
