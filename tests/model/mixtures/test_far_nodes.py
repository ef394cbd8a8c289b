"""Nodes as far out as any that a chain of draws may visit: laws are laws everywhere."""

import numpy as np
import pytest

from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.mixtures.stores import conditional
from hbpipe.model.mixtures.target import mixture_target

STORES = {
    "beta_binomial": {
        "successes": np.array([0, 20, 3, 0, 1, 2] * 5),
        "trials": np.array([20, 20, 20, 0, 7, 30] * 5),
    },
    "gamma_poisson": {
        "count": np.array([0, 400, 3, 0, 1, 2] * 5),
        "exposure": np.array([20.0, 20.0, 20.0, 0.0, 7.0, 30.0] * 5),
    },
    "normal_known_variance": {
        "estimate": np.array([0.0, 9.0, 0.1, 0.0, -0.3, 0.2] * 5),
        "variance": np.array([0.1, 0.1, 0.2, np.inf, 0.5, 0.1] * 5),
    },
}


@pytest.mark.parametrize("name", sorted(STORES))
def test_posteriors_at_any_node_are_laws(name):
    base, family = get_family(name), get_family(name, prior="mixture")
    stores, pool = STORES[name], np.zeros(30, np.int64)
    sketch = family.compress(stores, pool, 1)
    fits = fit_pools(family, sketch)
    target = mixture_target(base, sketch, None, np.full(5, np.nan), fits.coordinates[0])
    locations, spreads = [-1e6, -30.0, 0.0, 30.0, 1e6], [-100.0, -30.0, 0.0, 30.0, 100.0]
    axes = np.meshgrid(locations, spreads, locations, spreads, [-30.0, 0.0, 30.0])
    points = np.stack(axes, axis=-1).reshape(-1, 5)
    few = {key: values[:6] for key, values in stores.items()}
    at = conditional(base, few, target.nodes(points))
    for values in (at.mean, at.variance, at.weight, at.prior_mean, at.share, *at.parameters):
        assert np.isfinite(values).all()
    if name != "normal_known_variance":
        assert all((values > 0).all() for values in at.parameters)
