"""Clean pools are left alone as often as promised, and each misfit is found by its check."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from hbpipe.model.diagnostics.diagnosis import (
    CHANCE,
    DiagnosticSums,
    PoolTests,
    diagnose_stores,
)
from hbpipe.model.diagnostics.predictive import leave_one_out
from hbpipe.model.diagnostics.sizes import group_counts
from hbpipe.model.families import get_family
from tests.model.diagnostics.drawn import Statistics, diagnose, draw, priors_of

FAMILIES = ("beta_binomial", "gamma_poisson", "normal", "normal_known_variance")


def pools_of(
    rng: np.random.Generator, name: str, pools: int, stores: int, kind: str = "clean"
) -> tuple[Statistics, np.ndarray]:
    return draw(rng, name, pools * stores, kind), np.repeat(np.arange(pools), stores)


def alarms(tested: PoolTests) -> int:
    """How many pools are beyond chance."""
    return int((tested.pools.statistic > tested.critical).sum())


@pytest.mark.parametrize("name", FAMILIES)
def test_a_clean_chain_of_two_hundred_pools_does_not_warn(name: str) -> None:
    statistics, pools = pools_of(np.random.default_rng(11), name, 200, 40)
    found = diagnose(name, statistics, pools, 200)
    for tested in (found.pit, found.shape, found.calibration):
        assert alarms(tested) == 0
        assert tested.whole_effect(float(found.stores.sum())) < 0.1
    assert (found.outliers[1] > 0).mean() < 0.1
    np.testing.assert_allclose(found.heights_of(found.enough), 1.0, atol=0.12)


@pytest.mark.parametrize("name", ["gamma_poisson", "normal"])
def test_chance_exceeds_a_limit_as_often_as_it_says(name: str) -> None:
    """Four hundred pools of 150 stores: a tenth beyond the limit of a tenth, no more."""
    statistics, pools = pools_of(np.random.default_rng(12), name, 400, 150)
    found = diagnose(name, statistics, pools, 400)
    for tested in (found.pit, found.shape):
        share = (tested.pools.statistic > tested.pools.critical(0.1)).mean()
        assert 0.06 < share < 0.15
    share = (found.calibration.pools.statistic > found.calibration.pools.critical(0.1)).mean()
    assert share < 0.13  # of counts the variance is bounded, not estimated


@pytest.mark.parametrize(
    ("kind", "check"), [("heavy", "pit"), ("two", "shape"), ("over", "calibration")]
)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_planted_misfit_is_found(name: str, kind: str, check: str) -> None:
    statistics, pools = pools_of(np.random.default_rng(13), name, 4, 800, kind)
    found = diagnose(name, statistics, pools, 4)
    tested: PoolTests = getattr(found, check)
    stores = float(found.stores.sum())
    assert tested.whole.statistic[0] > tested.whole_critical
    assert tested.whole_effect(stores) > 0.1
    if kind == "two":  # tails are lighter than the prior's
        spread, _, tails = tested.whole.mean[0]
        assert tails - spread < 0


def test_pit_is_uniform_under_the_model_and_not_without_leaving_out() -> None:
    """In pools of four a store is a quarter of the mean that it is held against."""
    rng = np.random.default_rng(14)
    pools = np.repeat(np.arange(3000), 4)
    statistics = {
        "estimate": rng.normal(0.0, np.sqrt(0.25 + 0.05), 12_000),
        "variance": np.full(12_000, 0.05),
    }
    priors = priors_of("normal_known_variance", statistics, pools, 3000, fixed={"tau": 0.5})
    left_out = leave_one_out(
        priors.family, priors.nodes, priors.hyperparameters, statistics, pools
    ).below
    mean = np.asarray(priors.hyperparameters["mu"])[pools]
    in_sample = stats.norm.cdf(statistics["estimate"], mean, np.sqrt(0.3))
    # Stores of a pool share its mean, so one of each is looked at.
    assert stats.kstest(left_out[::4], "uniform").pvalue > 0.01
    assert stats.kstest(in_sample[::4], "uniform").pvalue < 1e-4


def test_shards_add_up_to_the_whole() -> None:
    name = "beta_binomial"
    statistics, pools = pools_of(np.random.default_rng(15), name, 6, 50)
    priors = priors_of(name, statistics, pools, 6)
    sizes = statistics["trials"].astype(float)
    whole, p = diagnose_stores(priors, statistics, sizes, pools)
    halves = [
        diagnose_stores(
            priors, {key: v[k::2] for key, v in statistics.items()}, sizes[k::2], pools[k::2]
        )
        for k in (0, 1)
    ]
    added = DiagnosticSums.added([sums for sums, _ in halves])
    np.testing.assert_allclose(added.heights, whole.heights, rtol=1e-12)
    np.testing.assert_allclose(added.tests.ts, whole.tests.ts, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(added.sizes.size_class, whole.sizes.size_class)
    np.testing.assert_allclose(added.sizes.missed, whole.sizes.missed, atol=1e-9)
    np.testing.assert_array_equal(halves[1][1], p[1::2])


def test_stores_that_are_alike_count_as_often_as_they_are() -> None:
    name, pools = "beta_binomial", np.repeat(np.arange(2), 100)
    rng = np.random.default_rng(16)
    trials = rng.integers(3, 6, 200)
    statistics = {"successes": rng.binomial(trials, 0.4), "trials": trials}
    priors = priors_of(name, statistics, pools, 2)
    sizes = trials.astype(float)
    together, p = diagnose_stores(priors, statistics, sizes, pools)
    one_by_one = DiagnosticSums.added(
        [
            diagnose_stores(
                priors, {k: v[[j]] for k, v in statistics.items()}, sizes[[j]], pools[[j]]
            )[0]
            for j in range(200)
        ]
    )
    np.testing.assert_allclose(together.heights, one_by_one.heights, atol=1e-9)
    np.testing.assert_allclose(together.tests.tt, one_by_one.tests.tt, atol=1e-7)
    assert together.tests.stores.tolist() == [100.0, 100.0]
    assert len(p) == 200


def test_small_pools_are_cut_into_fewer_groups_of_size() -> None:
    assert group_counts(np.array([5.0, 39.0, 40.0, 199.0, 1e6])).tolist() == [1, 1, 2, 9, 10]


def test_a_pool_without_spread_has_no_shape_to_test() -> None:
    rng = np.random.default_rng(17)
    trials = rng.integers(100, 200, 400)
    statistics = {"successes": rng.binomial(trials, 0.2), "trials": trials}
    family = get_family("beta_binomial")
    found = diagnose(family.name, statistics, np.zeros(400, int), 1)
    for tested in (found.pit, found.shape, found.calibration):
        assert alarms(tested) == 0
        assert np.isfinite(tested.pools.statistic).all()
    assert CHANCE == 0.01
