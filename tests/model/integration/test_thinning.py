"""Fewer inner nodes: the same moments, the same limits, and all of them where shapes are small."""

import numpy as np
import pytest

from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.geometry import geometry_of
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.integration.thinning import _gauss
from hbpipe.model.update import shrink
from hbpipe.model.update.pools import cdf_pools, update_pools

LEVELS = (0.025, 0.5, 0.975)
RNG = np.random.default_rng(12)
SIZES = np.ceil(np.exp(RNG.uniform(2.0, 5.0, 60))).astype(np.int64)
STORES = {
    "beta_binomial": {"successes": RNG.binomial(SIZES, RNG.beta(4, 20, 60)), "trials": SIZES},
    "gamma_poisson": {
        "count": RNG.poisson(SIZES * RNG.gamma(4.0, 0.1, 60)),
        "exposure": SIZES.astype(np.float64),
    },
    "normal": {
        "n": SIZES,
        "mean": RNG.normal(RNG.normal(5.0, 0.3, 60), 1.0 / np.sqrt(SIZES)),
        "m2": RNG.chisquare(SIZES - 1),
    },
}


def both(name, stores, monkeypatch):
    """How many nodes limits are made of, and columns, with thin nodes and with all."""
    family = get_family(name)
    codes = np.zeros(len(next(iter(stores.values()))), np.int64)
    fits = fit_pools(family, family.compress(stores, codes, 1))
    known = (fits.hyperparameters, stores, codes)
    nodes = integrate_pools(fits, uncertainty="integrated")
    out = []
    for _ in range(2):
        columns = update_pools(family, nodes, *known, quantiles=LEVELS)
        cdf = cdf_pools(family, nodes, *known, columns.quantiles[:, 0])
        used = np.count_nonzero(shrink.thinned(nodes, geometry_of(family)).weight)
        out.append((used, columns, cdf))
        monkeypatch.setattr(shrink, "thinned", lambda nodes, geometry: nodes)
    return out


@pytest.mark.parametrize("name", STORES)
def test_thin_nodes_move_no_moment_and_hardly_a_limit(name, monkeypatch):
    (few, thin, _), (many, full, _) = both(name, STORES[name], monkeypatch)
    assert few < many / 3
    for column in ("mean", "sd", "weight", "prior_mean"):
        np.testing.assert_allclose(getattr(thin, column), getattr(full, column), rtol=1e-11)
    moved = np.abs(thin.quantiles - full.quantiles) / full.sd[:, None]
    assert moved.max() < 2e-4


@pytest.mark.parametrize("name", ["beta_binomial", "gamma_poisson"])
def test_stores_without_an_event_keep_their_far_tails(name, monkeypatch):
    sizes, counts = np.full(10, 50), np.append(np.zeros(9, np.int64), 1)
    stores = {"successes": counts, "trials": sizes}
    if name == "gamma_poisson":
        stores = {"count": counts, "exposure": sizes.astype(np.float64)}
    (_, thin, cdf), (_, full, _) = both(name, stores, monkeypatch)
    # The limit is hundreds of powers of ten below the median: nodes close to no spread matter.
    assert thin.quantiles[0, 0] < 1e-100
    np.testing.assert_allclose(cdf, 0.025, atol=1e-6)
    np.testing.assert_allclose(thin.quantiles[:, 1:], full.quantiles[:, 1:], rtol=1e-4)


def test_a_rule_on_fewer_points_than_it_has_nodes_gives_the_rest_no_weight():
    points = np.array([[0.0, 1.0, 1.0, 1.0], [2.0, 2.0, 2.0, 2.0]])
    weight, share = _gauss(points, np.array([[0.5, 0.5, 0, 0], [1.0, 0, 0, 0]]), 3)
    at = np.einsum("cln,cl->cn", share, points)
    np.testing.assert_allclose(np.sum(weight * at**5, axis=1), [0.5, 32.0], rtol=1e-12)
    np.testing.assert_array_equal(np.count_nonzero(weight > 1e-12, axis=1), [2, 1])
