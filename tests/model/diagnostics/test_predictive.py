"""Leave-one-out predictive distributions against fits that are made without the store."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from hbpipe.model.diagnostics.predictive import leave_one_out, why_no_predictive
from hbpipe.model.families import get_family
from hbpipe.model.fit import fit_pools
from hbpipe.model.integrate import integrate_pools
from hbpipe.model.update.prediction import predict_pool
from tests.model.diagnostics.drawn import draw

FAMILIES = ("beta_binomial", "gamma_poisson", "normal", "normal_known_variance")


def without(name: str, statistics: dict[str, np.ndarray], j: int) -> tuple[float, float]:
    """P(below) and P(above) of store j by a fit of all others."""
    family = get_family(name)
    rest = {key: np.delete(values, j) for key, values in statistics.items()}
    codes = np.zeros(len(next(iter(rest.values()))), int)
    fits = fit_pools(family, family.compress(rest, codes, 1))
    nodes = integrate_pools(fits, uncertainty="integrated")
    empty = {one.name: np.full(1, one.absent, one.dtype) for one in family.statistics}
    at = {key: np.asarray(values)[[0]] for key, values in fits.hyperparameters.items()}
    assert family.geometry is not None
    size, raw = (values[j] for values in family.geometry.sizes(statistics))
    amount = 1 / size if name == "normal_known_variance" else size
    law = predict_pool(family, nodes, at, empty, np.array([amount]), np.array([0.5]))
    if name.startswith("normal"):
        below = float(law.cdf(np.array([raw]))[0])
        return below, 1 - below
    total = round(raw * size)
    return float(law.cdf(np.array([total - 1.0]))[0]), 1 - float(law.cdf(np.array([total]))[0])


@pytest.mark.parametrize(("stores", "tolerance"), [(8, 0.02), (20, 0.01)])
@pytest.mark.parametrize("name", FAMILIES)
def test_as_if_the_pool_had_been_fitted_without_the_store(
    name: str, stores: int, tolerance: float
) -> None:
    statistics = draw(np.random.default_rng(3), name, stores)
    family, codes = get_family(name), np.zeros(stores, int)
    fits = fit_pools(family, family.compress(statistics, codes, 1))
    nodes = integrate_pools(fits, uncertainty="integrated")
    found = leave_one_out(family, nodes, fits.hyperparameters, statistics, codes)
    for j in range(0, stores, 3):
        below, above = without(name, statistics, j)
        assert found.below[j] == pytest.approx(below, abs=tolerance)
        assert found.above[j] == pytest.approx(above, abs=tolerance)


def test_known_spread_gives_the_deleted_residual() -> None:
    """With τ known the store's residual is the one of least squares without it, exactly."""
    rng = np.random.default_rng(5)
    estimate, variance = rng.normal(0, 2, 12), rng.uniform(0.5, 3.0, 12)
    family, codes = get_family("normal_known_variance"), np.zeros(12, int)
    statistics: dict[str, Any] = {"estimate": estimate, "variance": variance}
    fits = fit_pools(family, family.compress(statistics, codes, 1), fixed={"tau": 1.3})
    nodes = integrate_pools(fits)
    found = leave_one_out(family, nodes, fits.hyperparameters, statistics, codes)
    total = variance + 1.3**2
    for j in range(12):
        weight = np.delete(1 / total, j)
        mean = np.sum(weight * np.delete(estimate, j)) / weight.sum()
        z = (estimate[j] - mean) / np.sqrt(total[j] + 1 / weight.sum())
        assert found.below[j] == pytest.approx(stats.norm.cdf(z), abs=1e-9)


def test_a_variance_per_store_gives_students_t() -> None:
    rng = np.random.default_rng(6)
    n, sigma = rng.integers(2, 9, 4000), np.sqrt(6.0 / rng.chisquare(6.0, 4000))
    theta = rng.normal(1.0, sigma / np.sqrt(3.0))
    statistics: dict[str, Any] = {
        "n": n,
        "mean": rng.normal(theta, sigma / np.sqrt(n)),
        "m2": sigma**2 * rng.chisquare(n - 1),
    }
    at = {"mu": 1.0, "kappa": 3.0, "d0": 6.0, "s0_squared": 1.0}
    hyperparameters = {name: np.array([value]) for name, value in at.items()}
    family = get_family("normal_inverse_gamma")
    nodes: Any = None
    found = leave_one_out(family, nodes, hyperparameters, statistics, np.zeros(4000, int))
    assert stats.kstest(found.below, "uniform").pvalue > 0.01


def test_several_coefficients_have_no_one_number() -> None:
    assert "several coefficients" in why_no_predictive(get_family("normal_regression", 3))
    assert not any(why_no_predictive(get_family(name)) for name in FAMILIES)
