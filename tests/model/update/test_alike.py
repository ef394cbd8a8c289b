"""Stores with equal statistics share one evaluation, and nobody sees it."""

import numpy as np
import pytest

from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.update import pools as update
from hbpipe.model.update.alike import alike


@pytest.mark.parametrize("top", [4, 10**7])
def test_kinds_put_every_store_back(top):
    rng = np.random.default_rng(top)
    values = rng.integers(0, top, 12)
    drawn, pools = rng.integers(0, 12, 500), rng.integers(0, 3, 500)
    statistics = {"successes": values[drawn] // 2, "trials": values[drawn]}
    stores, kind = alike(statistics, pools)
    assert len(stores) == len(np.unique(np.stack([pools, values[drawn]]), axis=1).T)
    np.testing.assert_array_equal(pools[stores][kind], pools)
    for column in statistics.values():
        np.testing.assert_array_equal(column[stores][kind], column)


@pytest.mark.parametrize(
    "values", [np.full(9, 0.5), np.full(9, -1), np.full((9, 2), 1), np.array([np.inf] * 9)]
)
def test_only_counts_are_looked_at(values):
    assert alike({"n": np.ones(9, np.int64), "value": values}, np.zeros(9, np.int64)) is None


def test_stores_that_are_all_different_are_left_alone():
    assert alike({"n": np.arange(100)}, np.zeros(100, np.int64)) is None


@pytest.mark.parametrize("uncertainty", ["plug_in", "first_order", "integrated"])
def test_columns_have_the_bits_of_stores_taken_one_by_one(uncertainty, monkeypatch):
    rng = np.random.default_rng(1)
    trials, codes = rng.integers(0, 6, 80), rng.integers(0, 2, 80)
    stores = {"successes": rng.binomial(trials, 0.4), "trials": trials}
    family = get_family("beta_binomial")
    fits = fit_pools(family, family.compress(stores, codes, 2))
    nodes = integrate_pools(fits, uncertainty=uncertainty)
    known = (family, nodes, fits.hyperparameters, stores, codes)
    shared = update.update_pools(*known, quantiles=(0.1, 0.9), exposure=1.0)
    monkeypatch.setattr(update, "alike", lambda statistics, pools: None)
    every = update.update_pools(*known, quantiles=(0.1, 0.9), exposure=1.0)
    for name, column in vars(every).items():
        np.testing.assert_array_equal(getattr(shared, name), column)
