"""Reconciled estimates against their definition: least loss under the total, and its error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hbpipe.model.families import FAMILIES, get_family
from hbpipe.model.reconciliation import limits, reconcile

TOTALS = np.array([3.0, -1000.0, 40.0])


def stores(seed: int, n: int = 60) -> tuple[np.ndarray, ...]:
    """Means, sds, weights (some zero) and groups (some without a total) of some stores."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 100, n).astype(float)
    return rng.normal(size=n), rng.uniform(0.01, 1, n), weights, rng.integers(-1, 3, n)


@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([1e-200, 1.0, 1e200]))
def test_totals_are_met(seed: int, of_means: bool, scale: float) -> None:
    means, sds, weights, groups = stores(seed)
    weights[:3], groups[:3] = 1.0, [0, 1, 2]
    totals = TOTALS if of_means else TOTALS * scale
    found = reconcile(means, sds, weights * scale, groups, totals, of_means=of_means)
    assert found.done.all()
    for group, total in enumerate(TOTALS):
        w, t = weights[groups == group], found.estimate[groups == group]
        size = np.sum(w * np.abs(t)) + abs(total)
        assert np.sum(w * t) == pytest.approx(
            total * (w.sum() if of_means else 1), abs=1e-12 * size
        )
        before = np.sum(w * means[groups == group]) / (w.sum() if of_means else 1)
        assert found.total[group] / (1 if of_means else scale) == pytest.approx(before, abs=1e-10)
    assert np.isnan(found.estimate[groups < 0]).all()
    still = (weights == 0) & (groups >= 0)
    assert np.array_equal(found.estimate[still], means[still])


def test_no_other_estimates_that_meet_the_total_have_less_loss() -> None:
    """The Lagrange conditions of min Σ (t − m)²/V under w't = T, solved as linear equations."""
    means, sds, weights, _ = stores(1)
    n, total = len(means), 7.0
    conditions = np.zeros((n + 1, n + 1))
    conditions[:n, :n] = np.diag(2 / sds**2)
    conditions[:n, n] = conditions[n, :n] = weights
    right = np.append(2 * means / sds**2, total)
    expected = np.linalg.solve(conditions, right)[:n]
    group = np.zeros(n, np.int64)
    found = reconcile(means, sds, weights, group, np.array([total]), of_means=False)
    np.testing.assert_allclose(found.estimate, expected, rtol=1e-9, atol=1e-12)


def test_of_independent_normal_posteriors_it_is_the_mean_given_the_total() -> None:
    means, sds, weights, _ = stores(2, 12)
    joint = np.vstack([np.eye(12), weights])
    covariance = joint @ np.diag(sds**2) @ joint.T
    gain = covariance[:12, 12] / covariance[12, 12]
    expected = means + gain * (5.0 - weights @ means)
    found = reconcile(means, sds, weights, np.zeros(12, np.int64), np.array([5.0]), of_means=False)
    np.testing.assert_allclose(found.estimate, expected, rtol=1e-10)


def test_the_error_is_what_simulated_truths_show() -> None:
    """θ drawn from skewed posteriors that hang together: only V is asked of them."""
    rng = np.random.default_rng(3)
    draws = 400_000
    shared = rng.normal(size=draws)
    shapes = np.array([2.0, 8.0, 30.0])
    theta = np.stack(
        [
            stats.beta.ppf(stats.norm.cdf(0.6 * shared + 0.8 * rng.normal(size=draws)), shape, 20)
            for shape in shapes
        ]
    )
    law = stats.beta(shapes, 20)
    found = reconcile(
        law.mean(),
        law.std(),
        np.array([10.0, 20.0, 5.0]),
        np.zeros(3, np.int64),
        np.array([0.45]),
        of_means=True,
    )
    observed = np.sqrt(np.mean((theta - found.estimate[:, None]) ** 2, axis=1))
    np.testing.assert_allclose(found.rmse, observed, rtol=5e-3)
    assert (found.rmse > law.std()).all()
    np.testing.assert_allclose(found.shift, np.abs(found.estimate - law.mean()) / law.std())


def test_bits_depend_on_no_order() -> None:
    means, sds, weights, groups = stores(4, 5000)
    whole = reconcile(means, sds, weights, groups, TOTALS, of_means=False)
    order = np.random.default_rng(0).permutation(5000)
    again = reconcile(
        means[order], sds[order], weights[order], groups[order], TOTALS, of_means=False
    )
    for name in ("estimate", "rmse", "shift"):
        assert np.array_equal(getattr(again, name), getattr(whole, name)[order], equal_nan=True)


def test_a_total_that_is_met_already_moves_nothing() -> None:
    means, sds, weights = np.array([0.25, 0.5]), np.array([0.1, 0.2]), np.array([1.0, 1.0])
    found = reconcile(means, sds, weights, np.zeros(2, np.int64), np.array([0.75]), of_means=False)
    assert np.array_equal(found.estimate, means)
    assert np.array_equal(found.rmse, sds)


@pytest.mark.parametrize(
    ("sds", "weights", "why"),
    [
        ([0.1, np.nan], [1.0, 1.0], "a store with a weight has no posterior"),
        ([0.1, 0.1], [0.0, 0.0], "no store has a weight"),
        ([0.0, 0.0], [1.0, 1.0], "no store is uncertain"),
        ([0.1, 0.1], [1.0, np.nan], "a weight is not known"),
    ],
)
def test_a_group_that_cannot_be_reconciled(sds: list, weights: list, why: str) -> None:
    spread, means = np.array(sds), np.array([0.2, 0.4])
    means[np.isnan(spread)] = np.nan
    found = reconcile(
        means, spread, np.array(weights), np.zeros(2, np.int64), np.array([1.0]), of_means=False
    )
    assert not found.done.any(), why
    assert np.isnan([found.estimate, found.rmse, found.shift]).all()


def test_a_store_without_weight_may_lack_a_posterior() -> None:
    found = reconcile(
        np.array([0.2, np.nan]),
        np.array([0.1, np.nan]),
        np.array([5.0, 0.0]),
        np.zeros(2, np.int64),
        np.array([0.3]),
        of_means=True,
    )
    assert found.done.all()
    assert found.estimate[0] == pytest.approx(0.3)
    assert np.isnan(found.estimate[1])


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_limits_hold_what_the_family_estimates(name: str) -> None:
    known = {"beta_binomial": (0.0, 1.0), "gamma_poisson": (0.0, np.inf)}
    assert limits(get_family(name)) == known.get(name, (-np.inf, np.inf))
