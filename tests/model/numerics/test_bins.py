"""Bins of weighted points: moments are kept, sharp keys and empty bins do no harm."""

import numpy as np

from hbpipe.model.numerics.bins import SIZES, Bins


def test_the_weighted_mean_of_bins_is_that_of_the_points():
    rng = np.random.default_rng(1)
    keys = [rng.normal(size=500), rng.normal(size=500)]
    weight = rng.gamma(0.5, size=500)
    weight /= weight.sum()
    bins = Bins.of(keys, weight)
    assert bins.shape == SIZES[2]
    np.testing.assert_allclose(bins.weight.sum(), 1.0)
    values = np.exp(keys[0]) + keys[1]
    np.testing.assert_allclose(np.sum(bins.weight * bins.average(values)), weight @ values)
    sums = bins.empty(3)
    columns = np.stack([values, values**2, np.ones(500)], axis=1)
    for part in (slice(0, 123), slice(123, 500)):
        bins.add(sums, part, columns[part])
    np.testing.assert_allclose(bins.weight.ravel() @ sums, weight @ columns)
    # Along the first key bins follow each other.
    middle = np.sum(bins.weight * bins.average(keys[0]), axis=1) / np.sum(bins.weight, axis=1)
    assert np.all(np.diff(middle) > 0)


def test_keys_that_hardly_vary_get_no_bins():
    weight = np.full(400, 1.0 / 400)
    key = np.linspace(0.0, 1.0, 400)
    assert Bins.of([key * 1e-3, key], weight).shape == SIZES[1] + (1,)
    assert Bins.of([key * 1e-3], weight).shape == SIZES[0] + (1,)
    assert Bins.of([key[:1]], np.ones(1)).shape == (1, 1)


def test_an_empty_bin_has_finite_values_and_no_weight():
    bins = Bins.of([np.array([0.0, 1.0, 2.0])], np.array([0.2, 0.3, 0.5]))
    values = bins.average(np.array([5.0, 6.0, 7.0]))
    assert set(np.unique(values)) <= {5.0, 6.0, 7.0}
    np.testing.assert_allclose(np.sum(bins.weight * values), 0.2 * 5 + 0.3 * 6 + 0.5 * 7)
