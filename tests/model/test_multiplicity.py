"""s-values and adjusted p-values against their definitions, store by store."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hbpipe.model.multiplicity import adjusted_p_values, s_values

VALUES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.01, 0.02, 0.2, 0.2, 0.5, 1.0, np.nan]), st.integers(0, 2)),
    max_size=12,
)


@given(VALUES)
def test_an_s_value_is_the_mean_of_the_rates_up_to_its_own(rows: list[tuple[float, int]]) -> None:
    rates, pools = (np.array(column) for column in zip(*rows, strict=True)) if rows else ([], [])
    rates, pools = np.asarray(rates, float), np.asarray(pools, int)
    found = s_values(rates, pools)
    for rate, pool, value in zip(rates, pools, found, strict=True):
        if np.isnan(rate):
            assert np.isnan(value)
        else:
            below = rates[(pools == pool) & (rates <= rate)]
            assert value == pytest.approx(below.mean(), rel=1e-14)


@given(VALUES)
def test_adjusted_p_values_are_those_of_scipy(rows: list[tuple[float, int]]) -> None:
    p, pools = np.array([row[0] for row in rows]), np.array([row[1] for row in rows], int)
    found = adjusted_p_values(p, pools)
    for pool in range(3):
        own = (pools == pool) & ~np.isnan(p)
        if own.any():
            expected = stats.false_discovery_control(p[own])
            np.testing.assert_allclose(found[own], expected, rtol=1e-14)
    assert np.array_equal(np.isnan(found), np.isnan(p))


def test_the_order_of_the_stores_changes_no_bit() -> None:
    rng = np.random.default_rng(5)
    values, pools = rng.random(1000), rng.integers(0, 4, 1000)
    shuffled = rng.permutation(1000)
    for rule in (s_values, adjusted_p_values):
        assert np.array_equal(
            rule(values, pools)[shuffled], rule(values[shuffled], pools[shuffled])
        )
