"""Levels that drift against statsmodels, and against dense Gaussian vectors."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import hbpipe
from hbpipe.model.families import get_family
from hbpipe.model.local_level.algebra import NAMES
from hbpipe.model.local_level.filtering import ahead, filtered, without_last_day
from hbpipe.model.marginal.local_level import log_marginal

FOLDER = Path(__file__).parents[2] / "golden" / "local_level"
STORES, DAYS = 25, 12


@pytest.fixture(scope="module")
def statistics():
    with (FOLDER / "data.csv").open() as file:
        rows = list(csv.DictReader(file))
    store, day = (np.array([int(row[name]) for row in rows]) for name in ("store", "day"))
    value = np.array([float(row["value"]) for row in rows])
    family = get_family("local_level", DAYS)
    return family.summarise({"value": value, "day": day}, store, STORES)


@pytest.fixture(scope="module")
def truth():
    return json.loads((FOLDER / "truth.json").read_text())


def test_the_likelihood_is_that_of_statsmodels(statistics, truth):
    family = get_family("local_level", DAYS)
    sketch = family.compress(statistics, np.zeros(STORES, np.int64), 1)
    value, _, _ = family.log_marginal(sketch, family.to_coordinates(truth["at"])[None])
    assert value[0] == pytest.approx(truth["log_likelihood"], rel=1e-12)


def test_states_and_forecasts_are_those_of_statsmodels(statistics, truth):
    family = get_family("local_level", DAYS)
    today = family.describe(family.update(statistics, truth["at"]), [0.5])
    np.testing.assert_allclose(today.mean, truth["state_mean"], rtol=1e-10)
    np.testing.assert_allclose(today.sd**2, truth["state_variance"], rtol=1e-10)
    tomorrow = family.describe(family.update(ahead(statistics), truth["at"]), [0.5])
    np.testing.assert_allclose(tomorrow.mean, truth["state_mean"], rtol=1e-10)
    np.testing.assert_allclose(tomorrow.sd**2, truth["next_day_variance"], rtol=1e-10)
    before = family.describe(family.update(without_last_day(statistics), truth["at"]), [0.5])
    np.testing.assert_allclose(before.mean, truth["forecasts_of_last_day"], rtol=1e-10)
    np.testing.assert_allclose(before.sd**2, truth["forecast_variances_of_last_day"], rtol=1e-10)


@pytest.mark.parametrize(
    ("fixed", "name"), [(None, "maximum"), ({"signal_ratio": 0.0}, "static_maximum")]
)
def test_fits_are_the_maxima_of_another_likelihood(statistics, truth, fixed, name):
    expected = truth[name]
    found = hbpipe.fit("local_level", statistics, fixed=fixed)
    assert found.log_marginal_likelihood == pytest.approx(expected["log_likelihood"], abs=1e-8)
    for parameter in NAMES:
        assert found.hyperparameters[parameter] == pytest.approx(expected[parameter], rel=1e-5)


def test_restricted_fits_integrate_the_mean_over_a_flat_prior(statistics):
    """REML against a dense matrix of the daily means of all stores."""
    found = hbpipe.fit("local_level", statistics, estimator="reml")
    at = found.hyperparameters
    family = get_family("local_level", DAYS)
    sketch = family.compress(statistics, np.zeros(STORES, np.int64), 1)
    point = family.to_coordinates(at)[None]
    step = np.linspace(-3.0, 3.0, 1001)
    points = np.repeat(point, len(step), axis=0)
    points[:, 0] += step
    sketches = sketch.select(np.zeros(len(step), np.int64))
    value = log_marginal(sketches, points)[0]
    integral = np.log(np.trapezoid(np.exp(value - value.max()), step)) + value.max()
    assert found.log_marginal_likelihood == pytest.approx(integral, abs=1e-6)


def test_the_filter_is_the_conditional_law_of_a_dense_vector():
    rng = np.random.default_rng(4)
    days, mu, spread, ratio = 9, 1.5, 0.7, 0.3
    n = rng.integers(0, 4, (20, days)).astype(float)
    mean = np.where(n > 0, rng.normal(1.0, 1.0, n.shape), 0.0)
    found = filtered(n, mean, np.array(mu), np.array(spread), np.array(ratio))
    covariance = spread + ratio * np.minimum.outer(np.arange(days), np.arange(days))
    for j in range(20):
        seen = np.flatnonzero(n[j] > 0)
        total = covariance[np.ix_(seen, seen)] + np.diag(1.0 / n[j, seen])
        gain = np.linalg.solve(total, covariance[seen, -1])
        assert found.mean[j] == pytest.approx(mu + gain @ (mean[j, seen] - mu), rel=1e-12)
        left = covariance[-1, -1] - gain @ covariance[seen, -1]
        assert found.variance[j] == pytest.approx(left, rel=1e-12)
        assert found.share[j] == pytest.approx(1.0 - gain.sum(), rel=1e-11)


def test_a_store_is_a_gaussian_vector(statistics):
    at = {"mu": 2.5, "tau": 0.6, "signal_ratio": 0.2, "sigma": 0.8}
    family, total = get_family("local_level", DAYS), 0.0
    for n, mean, m2 in zip(*(statistics[name] for name in ("n", "mean", "m2")), strict=True):
        day = np.flatnonzero(n)
        covariance = at["tau"] ** 2 + at["signal_ratio"] * at["sigma"] ** 2 * np.minimum.outer(
            day, day
        )
        covariance = covariance + np.diag(at["sigma"] ** 2 / n[day])
        total += stats.multivariate_normal.logpdf(
            mean[day], np.full(len(day), at["mu"]), covariance
        )
        total -= 0.5 * np.sum((n[day] - 1) * np.log(2 * np.pi * at["sigma"] ** 2) + np.log(n[day]))
        total -= 0.5 * m2.sum() / at["sigma"] ** 2
    sketch = family.compress(statistics, np.zeros(STORES, np.int64), 1)
    value, _, _ = family.log_marginal(sketch, family.to_coordinates(at)[None])
    assert value[0] == pytest.approx(total, rel=1e-12)
