"""Pools that are sampled one by one, as tasks: the same nodes as all of them together."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from hbpipe.config import Cluster
from hbpipe.errors import FitError
from hbpipe.model.families import get_family
from hbpipe.model.fit import PoolFits, fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.integration.sampled_nodes import SampledNodes
from hbpipe.run.engine import SerialEngine, open_engine
from hbpipe.run.inference.integration import integrate_on

LABELS = ["north", "south", "empty"]


def fits(**options: Any) -> PoolFits:
    """Two chains with varying variances, and one without data."""
    rng, family = np.random.default_rng(1), get_family("normal_inverse_gamma")
    n = rng.integers(3, 9, 24)
    statistics = {"n": n, "mean": rng.normal(size=24), "m2": rng.chisquare(n - 1)}
    return fit_pools(family, family.compress(statistics, np.arange(24) % 2, 3), **options)


@pytest.mark.parametrize("kind", ["serial", "local"])
@pytest.mark.parametrize("uncertainty", ["auto", "plug_in"])
def test_tasks_have_the_bits_of_one_pass(kind: str, uncertainty: str) -> None:
    found, cluster = fits(), Cluster(kind=kind, workers=2, processes=False)
    together = integrate_pools(found, uncertainty=uncertainty)
    with open_engine(cluster) as engine:
        apart = integrate_on(engine, found, LABELS, uncertainty)
    assert isinstance(together, SampledNodes)
    assert isinstance(apart, SampledNodes)
    assert apart.family == together.family
    assert apart.method[2] == ("plug_in" if uncertainty == "plug_in" else "unidentified")
    for one, other in zip(apart.pools, together.pools, strict=True):
        for name in (field.name for field in fields(one)):
            np.testing.assert_equal(getattr(one, name), getattr(other, name))


def test_an_improper_posterior_names_the_pool() -> None:
    with pytest.raises(FitError, match="pool north"):
        integrate_on(SerialEngine(), fits(hyperprior={"kappa": "reciprocal"}), LABELS, "integrated")


def test_families_of_two_hyperparameters_are_integrated_here() -> None:
    family = get_family("beta_binomial")
    statistics = {"successes": np.array([1, 5, 2]), "trials": np.array([9, 9, 9])}
    one = fit_pools(family, family.compress(statistics, np.zeros(3, int), 1))
    found = integrate_on(SerialEngine(), one, ["all"], "auto")
    np.testing.assert_array_equal(found.weight, integrate_pools(one).weight)
