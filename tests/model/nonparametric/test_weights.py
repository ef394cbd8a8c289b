"""Convex weights: optimality by the duality gap, and answers in closed form."""

import numpy as np
import pytest

from hbpipe.model.nonparametric.weights import GAP, maximise_weights, one_step


def bells(seed: int, rows: int = 200, columns: int = 40) -> np.ndarray:
    """Likelihoods of values under normal laws along a line."""
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(rows) < 0.3, 3.0, -1.0) + rng.normal(size=rows)
    centres = np.linspace(-4.0, 6.0, columns)
    return np.exp(-0.5 * (values[:, None] - centres) ** 2)


def log_likelihood(likelihood: np.ndarray, counts: np.ndarray, weight: np.ndarray) -> float:
    return float(np.sum(counts * np.log(likelihood @ weight)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_direction_is_uphill(seed: int) -> None:
    likelihood = bells(seed)
    counts = np.random.default_rng(seed).standard_gamma(1.0, (5, 200))
    found = maximise_weights(likelihood, counts)
    np.testing.assert_allclose(found.weight.sum(axis=1), 1.0)
    assert np.all(found.weight >= 0)
    for row, weight, gap in zip(counts, found.weight, found.gap, strict=True):
        slope = row / (likelihood @ weight) @ likelihood / row.sum()
        assert slope.max() - 1.0 == pytest.approx(gap, abs=1e-12)
        assert gap <= GAP
        # Whatever other weights: the gap bounds what is missing.
        for _ in range(20):
            other = np.random.default_rng(seed).dirichlet(np.full(40, 0.1))
            more = log_likelihood(likelihood, row, other) - log_likelihood(likelihood, row, weight)
            assert more <= row.sum() * np.log1p(gap) + 1e-9


def test_stores_that_are_told_apart_give_their_shares() -> None:
    found = maximise_weights(np.eye(4), np.array([[1.0, 2.0, 3.0, 4.0]]))
    np.testing.assert_allclose(found.weight[0], [0.1, 0.2, 0.3, 0.4], atol=1e-6)


def test_counts_are_repeated_rows() -> None:
    likelihood = bells(4, rows=30)
    counts = np.arange(30) % 3 + 1
    each = maximise_weights(np.repeat(likelihood, counts, axis=0), np.ones((1, counts.sum())))
    together = maximise_weights(likelihood, counts[None].astype(float))
    np.testing.assert_allclose(likelihood @ together.weight[0], likelihood @ each.weight[0], 1e-4)


def test_a_row_that_only_one_column_knows_of_has_it() -> None:
    likelihood = np.zeros((1001, 3))
    likelihood[:1000, :2] = [1.0, 0.5]
    likelihood[1000, 2] = 1.0
    found = maximise_weights(likelihood, np.ones((1, 1001)))
    np.testing.assert_allclose(found.weight[0], [1000 / 1001, 0.0, 1 / 1001], atol=1e-6)


def test_columns_alike_share_and_one_column_has_all() -> None:
    found = maximise_weights(np.ones((5, 1)), np.ones((1, 5)))
    np.testing.assert_array_equal(found.weight, [[1.0]])
    found = maximise_weights(np.ones((5, 2)), np.ones((1, 5)))
    assert found.gap[0] <= GAP


def test_one_step_is_exact_where_stores_are_told_apart() -> None:
    counts = np.array([10.0, 20.0, 30.0])
    near = np.random.default_rng(5).standard_gamma(counts, (7, 3))
    found = one_step(np.eye(3), counts / 60.0, counts, near)
    np.testing.assert_allclose(found, near / near.sum(axis=1, keepdims=True), atol=1e-6)


def test_one_step_is_near_the_maximum_of_many_stores() -> None:
    likelihood, counts = bells(6, rows=4000, columns=12), np.ones(4000)
    near = np.random.default_rng(6).standard_gamma(1.0, (10, 4000))
    best = maximise_weights(likelihood, counts[None]).weight[0]
    exact = maximise_weights(likelihood, near).weight
    stepped = one_step(likelihood, best, counts, near)
    fitted, wanted = stepped @ likelihood.T, exact @ likelihood.T
    moved = np.abs(np.log(wanted / (best @ likelihood.T))).mean()
    assert np.abs(np.log(fitted / wanted)).mean() < 0.2 * moved
