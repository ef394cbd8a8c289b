"""Sketches whose rows lie in shards: the fit of the whole, with the same bits for any engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hbpipe.config import Cluster
from hbpipe.model.families import get_family
from hbpipe.model.family import Family
from hbpipe.model.fit import PoolFits, fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.update.pools import update_pools
from hbpipe.run.engine import Engine, SerialEngine, open_engine
from hbpipe.run.inference.shards import ShardedRows, join_sketches

FAMILY = get_family("normal_regression", 2)
SHARDS, POOLS = 3, 4


def stores(seed: int = 1, n: int = 60) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Statistics of stores of four pools, the last of them without data, and their pools."""
    rng = np.random.default_rng(seed)
    truth = {"mu": [1.0, -2.0], "Sigma": [[0.5, 0.1], [0.1, 0.3]], "sigma": 0.7}
    events, codes, _ = FAMILY.simulate(rng, truth, n, rng.integers(1, 9, n))
    statistics = FAMILY.summarise(events, codes, n)
    return statistics, rng.integers(0, POOLS - 1, n)


def compress(family: Family, statistics: Any, pools: Any, shard: int | None) -> Any:
    mine = np.arange(len(pools)) % SHARDS == shard if shard is not None else slice(None)
    some = {name: values[mine] for name, values in statistics.items()}
    return family.compress(some, pools[mine], POOLS)


def sharded(engine: Engine, family: Family = FAMILY) -> Any:
    statistics, pools = stores()
    tasks = [
        engine.submit(compress, family, statistics, pools, shard, label="sketch")
        for shard in range(SHARDS)
    ]
    return join_sketches(engine, family, tasks)


def fit_in_shards(engine: Engine, estimator: str) -> PoolFits:
    return fit_pools(FAMILY, sharded(engine), estimator=estimator)


def test_the_rows_stay_where_they_are() -> None:
    sketch = sharded(SerialEngine())
    assert isinstance(sketch.rows, ShardedRows)
    whole = compress(FAMILY, *stores(), None)
    assert (sketch.n_pools, sketch.size) == (POOLS, 2)
    assert sketch.n_rows == whole.n_rows
    np.testing.assert_array_equal(sketch.n_groups, whole.n_groups)
    np.testing.assert_array_equal(sketch.freedom, whole.freedom)
    some = sketch.select(np.array([2, 0, 2])).select(np.array([2, 1]))
    assert some.n_rows == whole.select(np.array([2, 0])).n_rows
    np.testing.assert_array_equal(some.n_groups, whole.n_groups[[2, 0]])


def test_value_gradient_and_hessian_are_those_of_all_stores() -> None:
    sketch, whole = sharded(SerialEngine()), compress(FAMILY, *stores(), None)
    rng = np.random.default_rng(2)
    coordinates = rng.normal(0.0, 0.5, (POOLS, len(FAMILY.coordinates)))
    assert FAMILY.log_restriction is not None
    for function in (FAMILY.log_marginal, FAMILY.log_restriction):
        for found, expected in zip(
            function(sketch, coordinates), function(whole, coordinates), strict=True
        ):
            np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("estimator", ["ml", "reml", "moments"])
def test_the_fit_is_that_of_all_stores(estimator: str) -> None:
    found = fit_in_shards(SerialEngine(), estimator)
    expected = fit_pools(FAMILY, compress(FAMILY, *stores(), None), estimator=estimator)
    assert found.status == expected.status
    np.testing.assert_allclose(
        found.log_marginal_likelihood, expected.log_marginal_likelihood, rtol=1e-9
    )
    for name, values in expected.hyperparameters.items():
        np.testing.assert_allclose(found.hyperparameters[name], values, rtol=1e-5, atol=1e-7)


def test_hyperparameters_are_integrated_over_where_the_rows_are() -> None:
    statistics, pools = stores()
    kept = pools == 0
    some = {name: values[kept] for name, values in statistics.items()}
    found = []
    for sketch in (sharded(SerialEngine()), compress(FAMILY, statistics, pools, None)):
        fits = fit_pools(FAMILY, sketch.select(np.array([0])))
        nodes = integrate_pools(fits, uncertainty="integrated")
        columns = update_pools(
            FAMILY, nodes, fits.hyperparameters, some, pools[kept], quantiles=(0.05, 0.95)
        )
        found.append(columns)
    assert set(found[0].method) == {"integrated"}
    unit = found[1].sd
    assert np.max(np.abs(found[0].mean - found[1].mean) / unit) < 0.01
    assert np.max(np.abs(found[0].quantiles - found[1].quantiles) / unit[:, :, None]) < 0.01


def test_the_bits_do_not_depend_on_the_workers() -> None:
    expected = fit_in_shards(SerialEngine(), "ml")
    with open_engine(Cluster(kind="local", workers=2, processes=False)) as engine:
        found = fit_in_shards(engine, "ml")
    np.testing.assert_array_equal(found.coordinates, expected.coordinates)
    np.testing.assert_array_equal(found.covariance, expected.covariance)


def test_a_table_that_is_small_is_merged_here() -> None:
    family = get_family("normal")
    rng = np.random.default_rng(3)
    truth = {"mu": 0.0, "tau": 1.0, "sigma": 1.0}
    events, codes, _ = family.simulate(rng, truth, 30, 4)
    statistics, pools = family.summarise(events, codes, 30), np.zeros(30, np.int64)
    engine = SerialEngine()
    tasks = [
        engine.submit(compress, family, statistics, pools, shard, label="sketch")
        for shard in range(SHARDS)
    ]
    sketch = join_sketches(engine, family, tasks)
    assert not isinstance(sketch.rows, ShardedRows)
    np.testing.assert_array_equal(sketch.n_groups, [30] + [0] * (POOLS - 1))


def test_one_shard_is_taken_as_it_is() -> None:
    engine = SerialEngine()
    task = engine.submit(compress, FAMILY, *stores(), None, label="sketch")
    assert join_sketches(engine, FAMILY, [task]) is task.result()
