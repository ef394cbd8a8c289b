"""Data sets that come without answers, against plain scipy optimisers over all groups."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize, special, stats

import hbpipe

pytestmark = pytest.mark.reference


def columns(path: Path, *names: str) -> list[np.ndarray]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [np.array([float(row[name]) for row in rows]) for name in names]


def test_career_batting_averages(reference: Path) -> None:
    y, n = columns(reference / "unlabelled" / "lahman_batting.csv", "y", "n")
    seen = n > 0
    stores = {"successes": y[seen].astype(int), "trials": n[seen].astype(int)}
    fit = hbpipe.fit("beta_binomial", stores)

    def loss(x: np.ndarray) -> float:
        return -float(stats.betabinom.logpmf(y[seen], n[seen], *np.exp(x)).sum())

    found = optimize.minimize(loss, [3.0, 4.0], method="Nelder-Mead", options={"xatol": 1e-8})
    assert fit.converged
    assert fit.log_marginal_likelihood == pytest.approx(-found.fun, abs=1e-5)
    np.testing.assert_allclose(
        [fit.hyperparameters["alpha"], fit.hyperparameters["beta"]], np.exp(found.x), rtol=1e-4
    )
    posterior = hbpipe.posterior(fit, stores)
    assert np.all(posterior["q0.025"] < posterior["q0.975"])
    small, large = n[seen] <= 10, n[seen] >= 5000
    assert posterior["weight"][small].max() < 0.2 < 0.9 < posterior["weight"][large].min()


def test_area_estimates_of_milk_expenditure(reference: Path) -> None:
    estimate, sd = columns(reference / "unlabelled" / "milk.csv", "yi", "sd")
    areas = {"estimate": estimate, "variance": sd**2}

    def restricted(tau2: float) -> float:
        weight = 1 / (tau2 + sd**2)
        mu = np.sum(weight * estimate) / weight.sum()
        value = stats.norm.logpdf(estimate, mu, weight**-0.5).sum()
        return -float(value + 0.5 * np.log(2 * np.pi) - 0.5 * np.log(weight.sum()))

    found = optimize.minimize_scalar(restricted, bounds=(0, 1), options={"xatol": 1e-10})
    fit = hbpipe.fit("normal_known_variance", areas, estimator="reml")
    assert fit.log_marginal_likelihood == pytest.approx(-found.fun, abs=1e-8)
    assert fit.hyperparameters["tau"] == pytest.approx(found.x**0.5, rel=1e-4)


def test_the_integrated_interval_of_an_area_equals_brute_force(reference: Path) -> None:
    estimate, sd = columns(reference / "unlabelled" / "milk.csv", "yi", "sd")
    areas = {"estimate": estimate, "variance": sd**2}
    spec = {"tau": "half_cauchy(0.3)"}
    fit = hbpipe.fit("normal_known_variance", areas, hyperprior=spec)
    posterior = hbpipe.posterior(fit, areas, uncertainty="integrated")
    tau = np.linspace(0, 3, 60_001)[1:]
    weight = 1 / (tau[:, None] ** 2 + sd**2)
    mu = (weight @ estimate) / weight.sum(axis=1)
    log_density = (
        0.5 * np.log(weight).sum(axis=1)
        - 0.5 * (weight * (estimate - mu[:, None]) ** 2).sum(axis=1)
        - 0.5 * np.log(weight.sum(axis=1))
        - np.log1p((tau / 0.3) ** 2)
    )
    mass = special.softmax(log_density)
    shrink = weight * sd**2  # 1 - the weight of the area's own data
    mean = shrink * mu[:, None] + (1 - shrink) * estimate
    expected = mass @ mean
    np.testing.assert_allclose(posterior["mean"], expected, atol=2e-3 * posterior["sd"].min())
