"""Chebyshev nodes in place of rows: sums agree to rounding, and belong to their pool alone."""

import numpy as np
import pytest
from scipy import special

from hbpipe.model.numerics.grouped import Rows
from hbpipe.model.numerics.panels import NODES, condense

SIZES = np.unique(np.random.default_rng(5).lognormal(5.0, 3.0, 4000))


def rows_of(pool, size, **weights):
    return Rows(int(pool.max()) + 1, pool, {"size": size, **weights})


@pytest.mark.parametrize("a", [1e-9, 1e-3, 0.7, 40.0, 1e6])
@pytest.mark.parametrize(
    "function",
    [
        lambda a, x: special.gammaln(a + x) - special.gammaln(a),
        lambda a, x: special.digamma(a + x),
        lambda a, x: special.polygamma(1, a + x),
        lambda a, x: np.log1p(a * x),
        lambda a, x: x / (1.0 + a * x) ** 2,
    ],
    ids=["log gamma", "digamma", "trigamma", "log1p", "its curvature"],
)
def test_sums_of_smooth_functions_agree(function, a):
    stores = np.random.default_rng(6).integers(1, 9, len(SIZES)).astype(float)
    rows = rows_of(np.zeros(len(SIZES), int), SIZES, stores=stores)
    few = condense(rows, "size")
    assert len(few) < len(rows) / 10
    terms = rows["stores"] * function(a, rows["size"])
    found = few.sum(few["stores"] * function(a, few["size"]))
    assert found[0] == pytest.approx(terms.sum(), rel=0, abs=1e-14 * np.abs(terms).sum())


def test_every_weight_keeps_its_total():
    weights = {"stores": np.ones(len(SIZES)), "events": np.sqrt(SIZES)}
    few = condense(rows_of(np.zeros(len(SIZES), int), SIZES, **weights), "size")
    for name, weight in weights.items():
        assert few[name].sum() == pytest.approx(weight.sum(), rel=1e-14)


def test_rows_of_sparse_panels_stay():
    size = 2.0 ** np.arange(3 * NODES)
    rows = rows_of(np.zeros(len(size), int), size, stores=np.ones(len(size)))
    assert condense(rows, "size") is rows


def test_a_pool_does_not_depend_on_the_others():
    rng = np.random.default_rng(7)
    pool = np.sort(rng.integers(0, 5, len(SIZES)))
    size = rng.permutation(SIZES)
    whole = condense(rows_of(pool, size, stores=np.ones(len(size))), "size")
    for g in range(5):
        own = rows_of(pool[pool == g] - g, size[pool == g], stores=np.ones((pool == g).sum()))
        alone = condense(own, "size")
        cut = whole.select(np.array([g]))
        for name in ("size", "stores"):
            np.testing.assert_array_equal(cut[name], alone[name])
