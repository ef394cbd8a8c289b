"""Posterior means lie between data and prior: of every family with one term, by every method."""

from typing import Any

import numpy as np
import pytest

import hbpipe
from hbpipe.model.update.prior_range import prior_range
from tests.covariate_cases import DATA


def stores(family: str) -> dict[str, Any]:
    """Few stores of very unequal size, the last of them without data where that is possible."""
    if family != "normal_inverse_gamma":
        data, _ = DATA[family](seed=5, stores=12)
    else:
        data, _ = DATA["normal"](seed=5, stores=12)
    if family != "normal_known_variance":
        for values in data.values():
            values[-1] = 0
    return data


def ends(p: Any, statistics: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    codes = np.zeros(len(p["mean"]), np.int64)
    low, high = prior_range(p.nodes, statistics, codes)
    return np.fmin(p["no_pooling"], low), np.fmax(p["no_pooling"], high)


def assert_between(p: Any, statistics: dict[str, Any]) -> None:
    low, high = ends(p, statistics)
    rounding = 1e-9 * np.maximum(np.abs(low), np.abs(high))
    assert np.all(p["mean"] >= low - rounding)
    assert np.all(p["mean"] <= high + rounding)


METHODS = ("plug_in", "first_order", "integrated")


@pytest.mark.parametrize("uncertainty", METHODS)
@pytest.mark.parametrize("family", [*DATA, "normal_inverse_gamma"])
def test_means_lie_between_the_data_and_the_prior_means(family: str, uncertainty: str) -> None:
    data = stores(family)
    p = hbpipe.posterior(hbpipe.fit(family, data), data, uncertainty=uncertainty)
    assert_between(p, data)
    low, high = prior_range(p.nodes, data, np.zeros(12, np.int64))
    assert np.all(low <= p["prior_mean"] * (1 + 1e-12))
    assert np.all(high >= p["prior_mean"] * (1 - 1e-12))
    if uncertainty != "integrated":
        np.testing.assert_allclose(low, high, rtol=1e-12)


@pytest.mark.parametrize("uncertainty", METHODS)
@pytest.mark.parametrize("family", DATA)
def test_with_covariates_each_store_has_a_range_of_its_own(family: str, uncertainty: str) -> None:
    data, x = DATA[family](seed=5, stores=24)
    fit = hbpipe.fit(family, data, covariates=x)
    p = hbpipe.posterior(fit, data, uncertainty=uncertainty, covariates=x)
    assert_between(p, {**data, "covariates": x})


def test_the_average_of_the_prior_means_is_no_end() -> None:
    """A mean may leave the interval between the data and the average prior mean."""
    rng = np.random.default_rng(2)
    for _ in range(200):
        trials = np.floor(np.exp(rng.uniform(0, 5, 6))).astype(int)
        data = {"successes": rng.binomial(trials, rng.beta(1, 3, 6)), "trials": trials}
        p = hbpipe.posterior(hbpipe.fit("beta_binomial", data), data, uncertainty="integrated")
        assert_between(p, data)
        low = np.minimum(p["no_pooling"], p["prior_mean"])
        high = np.maximum(p["no_pooling"], p["prior_mean"])
        if np.any((p["mean"] < low - 1e-6) | (p["mean"] > high + 1e-6)):
            return
    pytest.fail("no such mean was found: the average would do")
