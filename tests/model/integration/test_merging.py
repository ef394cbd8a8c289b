"""Spreads put together, and what is derived of nodes."""

from __future__ import annotations

import pickle

import numpy as np

import hbpipe
from hbpipe.model.integration.merging import merged
from hbpipe.model.integration.nodes import Nodes
from hbpipe.model.update.shrink import moment_table, predictive_table


def nodes_of_a_pool() -> Nodes:
    trials, successes = np.array([40, 60, 25, 90, 10]), np.array([4, 15, 2, 30, 0])
    statistics = {"successes": successes, "trials": trials}
    fit = hbpipe.fit("beta_binomial", statistics)
    nodes = hbpipe.posterior(fit, statistics, uncertainty="integrated").nodes
    assert isinstance(nodes, Nodes)
    return nodes


def test_averages_and_the_variance_of_the_location_stay() -> None:
    nodes = nodes_of_a_pool()
    outer = nodes.collapse()
    few = merged(outer, 12)
    assert few.weight.shape == (1, 12, 1)
    assert outer.weight.shape[1] > 12

    def moments(some: Nodes) -> list[float]:
        weight, location = some.weight[0, :, 0], some.location[0, :, 0]
        mean = weight @ location
        variance = weight @ (some.location_variance[0, :, 0] + (location - mean) ** 2)
        return [weight.sum(), weight @ some.spread[0, :, 0], mean, variance]

    np.testing.assert_allclose(moments(few), moments(outer), rtol=1e-12)


def test_what_is_derived_is_made_once_and_does_not_travel() -> None:
    nodes = nodes_of_a_pool()
    before = len(pickle.dumps(nodes))
    assert predictive_table(nodes) is predictive_table(nodes)
    assert moment_table(nodes) is moment_table(nodes)
    assert len(pickle.dumps(nodes)) == before
    assert predictive_table(nodes.select(np.zeros(1, int))) is not predictive_table(nodes)
