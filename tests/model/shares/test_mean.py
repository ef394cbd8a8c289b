"""Mean shares at a known spread, against a general optimiser and dense matrices."""

import numpy as np
import pytest
from scipy.optimize import minimize

from hbpipe.errors import FitError
from hbpipe.model.marginal.dirichlet_multinomial import ShareSketch, shares
from hbpipe.model.shares.mean import known_shares, mean_shares, variance_of_shares

SPREADS = np.array([1e-9, 1e-3, 0.05, 1.0, 300.0])


def sketch_of(size=5, stores=20, seed=3, rare=True):
    rng = np.random.default_rng(seed)
    weights = 2.0 ** -np.arange(size)
    counts = rng.multinomial(rng.integers(1, 60, stores), rng.dirichlet(8.0 * weights, stores))
    if rare:
        counts[:, -1] = 0  # a class that was never seen
    return ShareSketch.of({"counts": counts}, np.zeros(stores, int), 1), counts


def log_density(counts, spread, weight, line):
    """Σ_k h_k of the shares of a line (K,), term by term."""
    mean = shares(line[None, :-1] - line[-1])[0]
    total = weight * np.sum(np.log(mean))
    for row in counts:
        for y, m in zip(row, mean, strict=True):
            total += np.sum(np.log(m + spread * np.arange(y)))
    return total


def curvature(f, x, step=1e-3):
    """−H by central differences."""
    size = len(x)
    unit = step * np.eye(size)
    return -np.array(
        [
            [
                (
                    f(x + unit[i] + unit[j])
                    - f(x + unit[i] - unit[j])
                    - f(x - unit[i] + unit[j])
                    + f(x - unit[i] - unit[j])
                )
                / (4 * step**2)
                for j in range(size)
            ]
            for i in range(size)
        ]
    )


@pytest.mark.parametrize("number", range(len(SPREADS)))
def test_mode_and_integral_are_those_of_a_general_method(number):
    sketch, counts = sketch_of()
    spread = SPREADS[number]
    found = mean_shares(sketch.classes, SPREADS, 0.5, np.ones(5))

    def f(free):
        return log_density(counts, spread, 0.5, np.append(free, 0.0))

    start = np.log(found.mean[number, :-1] / found.mean[number, -1])
    other = minimize(lambda x: -f(x), np.zeros(4), method="BFGS", options={"gtol": 1e-7})
    np.testing.assert_allclose(shares(other.x[None])[0], found.mean[number], rtol=2e-4)
    assert f(start) >= -other.fun - 1e-9
    assert found.log_value[number] == pytest.approx(f(start), rel=1e-12)
    information = curvature(f, start)
    expected = f(start) - 0.5 * np.linalg.slogdet(information)[1]
    assert found.log_integral[number] == pytest.approx(expected, abs=1e-3)
    # The variance of a share by the delta method, before it is that of a Beta law.
    mean = found.mean[number]
    slope = (np.diag(mean) - np.outer(mean, mean))[:, :-1]
    linear = np.diag(slope @ np.linalg.inv(information) @ slope.T)
    noise = mean * (1 - mean)
    variance = variance_of_shares(found.mean, found.information)[number]
    np.testing.assert_allclose(variance, 1.0 / (1.0 / linear + 1.0 / noise), rtol=1e-3)


def test_with_one_event_per_store_it_is_the_dirichlet_posterior():
    """There the spread plays no part, and the law of the mean is Dirichlet(c + counts)."""
    counts = np.eye(4, dtype=int)[[0, 0, 0, 1, 1, 2]]
    sketch = ShareSketch.of({"counts": counts}, np.zeros(6, int), 1)
    found = mean_shares(sketch.classes, np.array([0.3]), 0.5, np.ones(4))
    alpha = 0.5 + counts.sum(axis=0)
    mean = alpha / alpha.sum()
    np.testing.assert_allclose(found.mean[0], mean, rtol=1e-9)
    exact = mean * (1 - mean) / (alpha.sum() + 1)
    np.testing.assert_allclose(variance_of_shares(found.mean, found.information)[0], exact)


def test_a_point_does_not_depend_on_the_others():
    sketch, _ = sketch_of(size=3)
    together = mean_shares(sketch.classes, SPREADS, 0.5, np.ones(3))
    for number in range(len(SPREADS)):
        alone = mean_shares(sketch.classes, SPREADS[[number]], 0.5, np.ones(3))
        np.testing.assert_array_equal(alone.mean[0], together.mean[number])
        np.testing.assert_array_equal(alone.information[0], together.information[number])
        assert alone.log_integral[0] == together.log_integral[number]


def test_hundreds_of_classes_settle_from_afar():
    sketch, _ = sketch_of(size=300, stores=50, rare=False)
    found = mean_shares(sketch.classes, SPREADS, 0.5, np.ones(300))
    np.testing.assert_allclose(found.mean.sum(axis=1), 1.0, rtol=1e-12)
    again = mean_shares(sketch.classes, SPREADS, 0.5, found.mean[2])
    np.testing.assert_allclose(again.mean, found.mean, rtol=1e-8)


def test_a_known_mean_has_no_variance():
    sketch, counts = sketch_of(rare=False)
    mean = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    found = known_shares(sketch.classes, SPREADS[1:2], mean)
    assert np.all(variance_of_shares(found.mean, found.information) == 0.0)
    line = np.log(mean)
    expected = log_density(counts, SPREADS[1], 0.0, line)
    assert found.log_integral[0] == pytest.approx(expected, rel=1e-12)


def test_a_search_without_end_is_an_error(monkeypatch):
    sketch, _ = sketch_of()
    monkeypatch.setattr("hbpipe.model.shares.mean._ROUNDS", 2)
    with pytest.raises(FitError, match="have not settled"):
        mean_shares(sketch.classes, SPREADS, 0.5, np.ones(5))
