"""Fits with nested levels: several pools at once, and pools whose data say nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import hbpipe
from hbpipe.config import Inference
from hbpipe.data.parsing import parse_metric
from hbpipe.run.engine import SerialEngine
from hbpipe.run.inference.fits import MetricFit
from hbpipe.run.inference.nested import fit_groups
from hbpipe.run.inference.tree import Tree

RATE = {"family": "beta_binomial", "successes": "sold", "trials": "rows"}
VALUE = {"family": "normal", "value": "amount"}
#: Two platforms of four chains, and one whose chains have no data.
PATHS = [(platform, f"c{k % 4}") for platform in ("a", "b") for k in range(20)]
PATHS += [("none", "x"), ("none", "x"), ("none", "y")]


def statistics(family: str) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    n = rng.integers(5, 50, len(PATHS)) * np.array([path[0] != "none" for path in PATHS])
    if family == "beta_binomial":
        return {"successes": rng.binomial(n, rng.beta(4, 12, len(n))), "trials": n}
    mean = (rng.normal(0, 1, len(n)) + np.array([int(p[1] == "c1") for p in PATHS])) * (n > 0)
    return {"n": n, "mean": mean, "m2": rng.chisquare(np.maximum(n - 1, 1)) * (n > 1)}


def fitted(raw: dict[str, Any], uncertainty: str) -> MetricFit:
    metric = parse_metric("m", raw)
    tree = Tree.of(PATHS, ("platform", "chain"), ("platform",), ("chain",))
    family, stores = metric.model, statistics(metric.family)
    groups = np.array([tree.finest.index(path) for path in PATHS])
    pools = np.array([tree.pools.index(path[:1]) for path in PATHS])
    return fit_groups(
        SerialEngine(),
        metric,
        family.compress(stores, groups, len(tree.finest)),
        family.compress(stores, pools, len(tree.pools)),
        tree,
        Inference(uncertainty=uncertainty),
        {},
    )


@pytest.mark.parametrize("raw", [RATE, VALUE], ids=lambda raw: raw["family"])
def test_each_pool_is_fitted_as_if_it_were_alone(raw: dict[str, Any]) -> None:
    found = fitted(raw, "plug_in")
    assert found.fits.identified.tolist() == [True, True, False]
    assert found.fits.status[2] == "no_data"
    assert found.fits.n_groups.tolist() == [20, 20, 0]
    stores = statistics(raw["family"])
    for number, platform in enumerate("ab"):
        inside = np.array([path[0] == platform for path in PATHS])
        some = {name: values[inside] for name, values in stores.items()}
        labels = [path[1] for path in PATHS if path[0] == platform]
        alone = hbpipe.fit(raw["family"], some, nesting={"chain": labels})
        for name, value in alone.hyperparameters.items():
            assert found.fits.hyperparameters[name][number] == pytest.approx(value, rel=1e-6)
        p = hbpipe.posterior(alone, some, nesting={"chain": labels}, uncertainty="plug_in")
        means = [found.groups.nodes[1].location[number * 4 + k, 0, 0] for k in range(4)]
        np.testing.assert_allclose(means, p.levels["chain"]["mean"], rtol=1e-6)


@pytest.mark.parametrize("raw", [RATE, VALUE], ids=lambda raw: raw["family"])
@pytest.mark.parametrize("uncertainty", ["plug_in", "auto"])
def test_a_pool_without_data_is_not_identified(raw: dict[str, Any], uncertainty: str) -> None:
    found = fitted(raw, uncertainty)
    groups = found.groups
    assert groups is not None
    for nodes, unknown in zip(groups.nodes, ([2], [8, 9]), strict=True):
        assert np.flatnonzero(nodes.method == "unidentified").tolist() == unknown
        for name in ("weight", "spread", "location", "location_variance", "noise"):
            assert np.all(np.isfinite(getattr(nodes, name))), name
    assert found.priors.pools == found.tree.finest
    assert np.isnan(found.complete.estimate[2])
    assert found.priors.complete.estimate.shape == (10,)
    assert len(groups.weight[0]) == 10
